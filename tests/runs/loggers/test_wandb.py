import json
import sys
from types import SimpleNamespace

import pytest

from metarule.runs.loggers import Wandb


class FakeRun:
    def __init__(self, step, options):
        self.step, self.options, self.logged, self.summary, self.exit_code = step, options, {}, {}, None

    def log(self, values, step):
        print("wandb: chatter", file=sys.stderr)
        self.logged[step] = values

    def finish(self, exit_code):
        print("wandb: chatter")
        self.exit_code = exit_code


@pytest.fixture
def runs(monkeypatch):
    """Runs of a stand-in for wandb, of which a resumed one has the steps before 2."""
    made = []

    def init(**options):
        folder = options["dir"] / "wandb" / "run" / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "debug-core.log").symlink_to("/elsewhere")  # as wandb does
        made.append(FakeRun(2 * len(made), options))
        return made[-1]

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=lambda **settings: settings))
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return made


def test_a_run_is_resumed_and_silent_and_has_no_outward_links(runs, tmp_path, capsys):
    path = tmp_path / "boolean" / "s3"
    path.mkdir(parents=True)
    for results in ({}, {"held_out.learned.mean": 0.9}):
        logger = Wandb()
        logger.open(path, {"seed": 3}, [])
        logger.log({"step": 1, "theta.pre": 0.5})
        logger.log({"step": 2, "loss": 0.25})
        logger.close(results)
    first, second = runs
    assert first.options["id"] == second.options["id"] == json.loads((path / "wandb" / "id.json").read_text())["id"]
    assert (first.options["project"], first.options["name"]) == ("metarule", "boolean/s3")
    assert (first.options["config"], first.options["resume"]) == ({"seed": 3}, "allow")
    assert first.logged == {1: {"theta/pre": 0.5}, 2: {"loss": 0.25}}
    assert second.logged == {2: {"loss": 0.25}}
    assert second.summary == {"held_out/learned.mean": 0.9}
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert not any(file.is_symlink() for file in path.rglob("*"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.long
def test_wandb_itself_takes_the_calls(tmp_path, monkeypatch, capfd):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for earlier in ([], [{"step": 1, "loss": 0.5}]):
        logger = Wandb()
        logger.open(tmp_path, {"rule": {"terms": ["seven"]}}, earlier)
        logger.log({"step": 1 + len(earlier), "theta.pre*modulator": 0.5})
        logger.close({"held_out.learned.mean": 0.9})
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 2
    assert all(link.resolve().is_relative_to(tmp_path) for link in tmp_path.rglob("*") if link.is_symlink())
    assert capfd.readouterr() == ("", "")
