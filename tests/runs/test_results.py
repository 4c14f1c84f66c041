import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from msgspec.structs import replace
from small import EXPERIMENT as ONE

from metarule import Feedforward, delta_rule, final_metrics, tune
from metarule.analysis.comparison import held_out_table
from metarule.meta.phases import lifetimes_of
from metarule.prng import Purpose, run_key, stream
from metarule.runs.directory import start_run
from metarule.runs.files import json_text, read_json
from metarule.runs.metrics import read_metrics
from metarule.runs.results import join_seeds, write_results
from metarule.runs.stopping import Stopped, StopRequest
from metarule.runs.theta_files import load_theta
from metarule.runs.training import train

# All baselines of the circuit; without hidden neurons two of them are the same.
EXPERIMENT = replace(ONE, circuit=Feedforward(hidden=(4,)), evaluation=replace(ONE.evaluation, baselines=()))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    start_run(path, EXPERIMENT, given=None)
    trained = train(EXPERIMENT, path, StopRequest(), lambda step, row: None)
    return path, trained, write_results(EXPERIMENT, path, trained, StopRequest())


def test_the_summary_holds_the_results(finished):
    path, _, summary = finished
    assert json.loads((path / "summary.json").read_text()) == json.loads(json_text(summary))
    assert (summary["seed"], summary["steps"]) == (3, 12)
    assert summary["equation"].startswith("Δw = ")
    assert list(summary["theta"]) == list(EXPERIMENT.rule.names)
    parts = {"compile", "meta_training", "evaluation", "baselines", "contributions", "statistics"}
    assert set(summary["seconds"]) == {*parts, "total"}
    assert summary["nonfinite_lifetimes"] == 0
    held_out = summary["held_out"]
    assert (held_out["metric"], held_out["tasks"], held_out["lifetimes"]) == ("solved", 8, 16)
    assert held_out["of"] == "held-out tasks"
    assert set(held_out["baselines"]) == {"delta", "feedback_alignment", "backprop", "adam"}
    for row in (held_out["learned"], held_out["initial"], *held_out["baselines"].values()):
        assert np.isnan(row["low"]) or 0 <= row["low"] <= row["mean"] <= row["high"] <= 1
        assert row["diverged"] == 0
        assert list(row["horizon"]) == ["1", "2", "5", "20"]
        assert row["horizon"]["1"]["mean"] == row["mean"]
    losses = [row["loss"] for row in read_metrics(path)]
    assert summary["meta_loss"]["first"] == pytest.approx(np.mean(losses[:10]))
    assert summary["meta_loss"]["last"] == pytest.approx(np.mean(losses[-10:]))


def test_held_out_scores_are_those_of_the_test_pool(finished):
    _, trained, summary = finished
    learner, key = EXPERIMENT.lifetime, stream(run_key(3), Purpose.HELD_OUT)
    pool = learner.tasks.split(3).test
    learned = final_metrics(learner, trained.theta, pool, key, 16)["solved"]
    assert summary["held_out"]["learned"]["mean"] == pytest.approx(float(learned.mean()))
    row = summary["held_out"]["baselines"]["delta"]
    rate = np.float32([row["learning_rate"]]) + 0 * trained.theta[:1]
    rated = final_metrics(delta_rule(learner), rate, pool, key, 16)
    assert row["mean"] == pytest.approx(float(rated["solved"].mean()))
    budget, tuning = lifetimes_of(EXPERIMENT.optimizer), stream(run_key(3), Purpose.TUNING)
    tuned = tune(delta_rule(learner), learner.tasks.split(3).train, tuning, budget)
    assert row["learning_rate"] == tuned.rate
    assert row["tuning_lifetimes"] <= lifetimes_of(EXPERIMENT.optimizer)


def test_the_summary_holds_the_contribution_of_each_term(finished):
    _, trained, summary = finished
    report = summary["contributions"]
    assert (report["metric"], report["of"], report["lifetimes"]) == ("solved", "held-out tasks", 16)
    assert sorted(row["term"] for row in report["terms"]) == sorted(EXPERIMENT.rule.names)
    assert report["terms"][-1]["cumulative"]["mean"] == summary["held_out"]["learned"]["mean"]
    assert {row["term"]: row["coefficient"] for row in report["terms"]} == {
        name: float(value) for name, value in EXPERIMENT.rule.describe(trained.theta).items()
    }


def test_theta_is_read_back(finished):
    path, trained, _ = finished
    np.testing.assert_array_equal(load_theta(path, trained.initial, {}), trained.theta)


def test_figures_are_drawn(finished):
    for name in ("meta-loss", "coefficients", "performance"):
        assert (finished[0] / "figures" / f"{name}.png").stat().st_size > 5000


@pytest.mark.drawn
def test_numbers_are_written_before_figures(finished, tmp_path, monkeypatch, capsys):
    path, before = tmp_path / "run", []

    def fail(figure, file, **_):
        before.append((path / "summary.json").exists() and (path / "performance.json").exists())
        raise RuntimeError(f"no LaTeX\nfor {file}")

    monkeypatch.setattr(Figure, "savefig", fail)
    start_run(path, EXPERIMENT, given=None)
    (path / "metrics.jsonl").write_bytes((finished[0] / "metrics.jsonl").read_bytes())
    summary = write_results(EXPERIMENT, path, finished[1], StopRequest())
    assert before == [True] * 3
    assert read_json(path / "summary.json")["held_out"] == json.loads(json_text(summary["held_out"]))
    names = ("performance", "meta-loss", "coefficients")
    lines = [f"{path / 'figures' / name}.png: this figure could not be drawn: no LaTeX" for name in names]
    assert capsys.readouterr().err.splitlines() == lines


def test_seconds_count_all_until_the_summary(finished):
    seconds = dict(finished[2]["seconds"])
    assert seconds.pop("total") == pytest.approx(sum(seconds.values()))
    assert seconds["statistics"] > 0


def test_the_table_shows_every_contender(finished):
    text = held_out_table(finished[2]["held_out"])
    for word in ("learned", "initial", "delta (rate", "backprop (rate", "solved", "95 % interval"):
        assert word in text


def test_seeds_are_joined_with_intervals_over_seeds(finished, tmp_path):
    scores = [0.25, 0.5, 1.0]
    summaries = []
    for seed, score in enumerate(scores):
        held_out = finished[2]["held_out"] | {"learned": finished[2]["held_out"]["learned"] | {"mean": score}}
        summaries.append(finished[2] | {"seed": seed, "held_out": held_out})
    joint = join_seeds(tmp_path, summaries)
    learned = joint["held_out"]["learned"]
    assert learned["by_seed"] == scores
    assert learned["mean"] == pytest.approx(np.mean(scores))
    assert 0 < learned["low"] < 0.05 < 0.95 < learned["high"] < 1  # three values so far apart give a wide interval
    assert "3 seeds" in held_out_table(joint["held_out"])
    assert (tmp_path / "figures" / "seeds.png").exists()


@pytest.mark.parametrize("check", [1, 26, 27, 28])
def test_a_stop_request_is_answered_between_measurements(finished, tmp_path, check, monkeypatch):
    """Before each of the 26 evaluations of tuning, before the learning curves and before the contributions."""
    _, trained, _ = finished
    stop, checks, answer = StopRequest(), iter(range(1, 100)), StopRequest.answer

    def asked(self, step):
        if next(checks) == check:
            self.ask(2)
        answer(self, step)

    monkeypatch.setattr(StopRequest, "answer", asked)
    start_run(tmp_path / "run", EXPERIMENT, given=None)
    with pytest.raises(Stopped):
        write_results(EXPERIMENT, tmp_path / "run", trained, stop)
    np.testing.assert_array_equal(load_theta(tmp_path / "run", trained.initial, {}), trained.theta)
