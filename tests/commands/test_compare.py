"""The command that compares runs, as a user runs it."""

import json

import jax
import numpy as np
import pytest
from inking import inked
from msgspec.structs import replace
from small import EXPERIMENT, finished_run

from metarule import Points, final_metrics
from metarule.commands.compare import main
from metarule.prng import Purpose, run_key, stream
from metarule.runs.finished import load

pytestmark = pytest.mark.drawn

THETAS = {name: 0.3 * jax.random.normal(jax.random.key(number), (7,)) for number, name in enumerate("abc")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs `a` and `b` of one seed, `c` of another, and `two` and `more` of two and three seeds."""
    top = tmp_path_factory.mktemp("runs")
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        finished_run(top / name, EXPERIMENT.of_seed(seed), THETAS[name])
    for name, seeds in (("two", (3, 4)), ("more", (2, 3, 4))):
        finished_run(top / name, replace(EXPERIMENT, seed=seeds[0], seeds=len(seeds)))
        for seed in seeds:
            finished_run(top / name / f"s{seed}", EXPERIMENT.of_seed(seed), THETAS["a" if name == "two" else "b"])
    return top


def held_out(path):
    """Final score of each held-out task of a run."""
    run = load(path)
    key, pool = stream(run_key(run.config.seed), Purpose.HELD_OUT), run.config.split.test
    solved = np.asarray(final_metrics(run.learner, run.theta, pool, key, run.config.evaluation.lifetimes)["solved"])
    return solved.reshape(2, 8).mean(axis=0)  # 16 lifetimes on 8 tasks


def test_runs_are_compared_on_other_tasks(runs, capsys):
    words = [str(runs / name) for name in "ab"]
    assert main([*words, "--tasks.split_by", "npn", "--directory", str(runs / "npn")]) == 0
    found = json.loads((runs / "npn" / "summary.json").read_text())["runs"]["b"]
    run = load(runs / "b")
    other = replace(run.config, tasks=replace(run.tasks, split_by="npn"))
    key = stream(run_key(other.seed), Purpose.HELD_OUT)
    solved = final_metrics(other.lifetime, run.theta, other.split.test, key, other.evaluation.lifetimes)["solved"]
    assert found["mean"] == pytest.approx(float(np.mean(solved)))
    assert found["pairs"] == found["count"] > 1
    printed = capsys.readouterr().out
    assert "\nthe same family with another split or other settings" in printed
    assert max(map(len, printed.splitlines()[:-1])) < 140


@pytest.mark.parametrize("field", ["rule.kind", "optimizer.steps"])
def test_fields_on_which_theta_depends_are_refused(runs, capsys, field):
    assert main([str(runs / "a"), str(runs / "b"), f"--{field}", "1"]) == 2
    assert f"{field}: θ depends on it" in capsys.readouterr().err


def test_runs_are_evaluated_as_they_were_and_paired(runs, capsys):
    words = [str(runs / name) for name in "abc"]
    files = ["--directory", str(runs / "compared"), "--json", str(runs / "rows.json"), "--threshold=0.5"]
    assert main([*words, *files]) == 0
    printed = capsys.readouterr().out
    found = json.loads((runs / "compared" / "summary.json").read_text())["runs"]
    finals = {name: held_out(runs / name) for name in "abc"}
    for name, scores in finals.items():
        assert found[name]["mean"] == pytest.approx(scores.mean())
        assert (found[name]["over"], found[name]["count"]) == ("tasks", 8)
    assert found["b"]["difference"]["mean"] == pytest.approx((finals["a"] - finals["b"]).mean())
    assert (found["b"]["pairs"], "difference" in found["a"]) == (8, False)
    assert "a (8 tasks)" in printed
    assert "first − other" in printed
    assert "after multiples of a lifetime" in printed
    assert "(no difference for c: another seed, and with it other held-out tasks)" in printed
    rows = {row["name"]: row for row in json.loads((runs / "rows.json").read_text())}
    assert rows["b"]["difference_mean"] == found["b"]["difference"]["mean"]
    assert rows["c"]["unpaired"] == found["c"]["unpaired"]
    assert {type(value) for row in rows.values() for value in row.values()} <= {str, int, float, type(None)}
    performance = json.loads((runs / "compared" / "performance.json").read_text())
    assert performance["contenders"]["c"]["mean"][performance["steps"].index(20)] == pytest.approx(finals["c"].mean())
    assert inked(runs / "compared" / "figures" / "performance.png")


def test_several_seeds_are_paired_over_those_that_both_have(runs, monkeypatch):
    monkeypatch.chdir(runs)
    assert main(["two", "more"]) == 0
    (folder,) = (runs / "runs" / "comparisons").iterdir()
    found = json.loads((folder / "summary.json").read_text())["runs"]
    two = [held_out(runs / "two" / f"s{seed}").mean() for seed in (3, 4)]
    more = [held_out(runs / "more" / f"s{seed}").mean() for seed in (2, 3, 4)]
    assert found["two"]["mean"] == pytest.approx(np.mean(two))
    assert (found["more"]["mean"], found["more"]["count"]) == (pytest.approx(np.mean(more)), 3)
    assert found["more"]["pairs"] == 2
    assert found["more"]["difference"]["mean"] == pytest.approx(np.mean(two) - np.mean(more[1:]))
    assert found["more"]["directory"] == "more"


def test_runs_that_cannot_be_compared_are_refused_in_one_line(runs, tmp_path, capsys):
    finished_run(tmp_path / "points", replace(EXPERIMENT, tasks=Points(), circuit=replace(EXPERIMENT.circuit)))
    unfinished = finished_run(tmp_path / "unfinished")
    (unfinished / "summary.json").unlink()
    first = str(runs / "a")
    for words, message in (
        ([first], "two runs or more are compared"),
        ([first, str(runs / "b" / ".." / "a")], "this run is named twice"),
        ([first, str(tmp_path / "points")], "have different scores: solved in "),
        ([first, str(unfinished)], "this run is not finished; go on with: metarule train --resume"),
        ([first, str(tmp_path)], "this is no run directory"),
        (["--threshold", "1"], "two runs or more are compared"),
        ([first, str(runs / "b"), "--threshold", "high"], "threshold = 'high': expected `float`"),
        ([first, str(runs / "b"), "--directory", str(runs)], "it is not empty; choose another"),
        ([first, str(runs / "b"), "--json", "nowhere/x"], "--json 'nowhere/x': no file can be written there"),
    ):
        assert main(words) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("metarule compare: ")
        assert message in errors
        assert errors.count("\n") == 1
