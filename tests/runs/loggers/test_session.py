import math

import pytest
from msgspec.structs import replace
from small import EXPERIMENT

from metarule.config.messages import collect_warnings
from metarule.runs.loggers import session
from metarule.runs.loggers.session import opened_loggers

THETA = dict.fromkeys(EXPERIMENT.rule.names, 0.5)


class Recording:
    def __init__(self, failing=""):
        self.failing, self.calls = failing, []

    def _record(self, method, *content):
        if method == self.failing:
            raise ConnectionError("no network\nand much more")
        self.calls.append((method, *content))

    def open(self, directory, settings, earlier):
        self._record("open", directory, settings["seed"], list(earlier))

    def log(self, row):
        self._record("log", row["step"])
        self.last = row

    def close(self, results):
        self._record("close", results)


def row(step, **more):
    return {"step": step, "loss": 0.25, "theta": list(THETA.values())} | more


def test_a_logger_receives_earlier_rows_then_new_ones_then_results(tmp_path):
    logger = Recording()
    with opened_loggers(EXPERIMENT, tmp_path, [logger]) as log:
        log([row(1)])
        log([row(2), row(3, loss=math.inf, rejected=True, trouble="text", held_out={"solved": 0.5})])
        log.finish({"equation": "Δw = 0", "held_out": {"learned": {"mean": 0.75, "low": None}}})
    names = {f"theta.{name}": value for name, value in THETA.items()}
    opened, *logged, (_, results) = logger.calls
    assert opened == ("open", tmp_path, 3, [{"step": 1, "loss": 0.25} | names])
    assert logged == [("log", 2), ("log", 3)]
    assert math.isnan(logger.last.pop("loss"))
    assert logger.last == {"step": 3, "rejected": 1, "held_out.solved": 0.5} | names
    assert math.isnan(results.pop("held_out.learned.low"))
    assert results == {"held_out.learned.mean": 0.75}


def test_a_run_that_is_stopped_closes_its_loggers_without_results(tmp_path):
    logger = Recording()
    with pytest.raises(KeyboardInterrupt), opened_loggers(EXPERIMENT, tmp_path, [logger]) as log:
        log([])
        raise KeyboardInterrupt
    assert logger.calls[-1] == ("close", {})


@pytest.mark.parametrize("method", ["open", "log", "close"])
def test_a_logger_that_fails_is_dropped_with_one_line(method, tmp_path, capsys):
    broken, whole = Recording(method), Recording()
    with collect_warnings() as warnings, opened_loggers(EXPERIMENT, tmp_path, [broken, whole]) as log:
        log([])
        log([row(1), row(2)])
        log.finish({"seed": 3})
    line = f"{tmp_path}: the logger Recording is dropped, and the run goes on: no network"
    assert warnings == [line]
    assert capsys.readouterr().err == f"{line}\n"
    assert [name for name, *_ in whole.calls] == ["open", "log", "log", "close"]
    assert [name for name, *_ in broken.calls] == [name for name, *_ in whole.calls][: len(broken.calls)]
    assert len(broken.calls) == {"open": 0, "log": 1, "close": 3}[method]


def test_a_resumed_run_whose_package_is_missing_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("metarule.runs.loggers.names._is_installed", lambda package: False)
    experiment = replace(EXPERIMENT, run=replace(EXPERIMENT.run, loggers=("wandb", "csv")))
    with opened_loggers(experiment, tmp_path) as log:
        log([row(1)])
    assert "the logger wandb is dropped, and the run goes on: wandb is missing" in capsys.readouterr().err
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 2


def test_only_the_first_process_logs(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "is_first_process", lambda: False)
    logger = Recording()
    with opened_loggers(EXPERIMENT, tmp_path, [logger]) as log:
        log([row(1)])
    assert logger.calls == []
