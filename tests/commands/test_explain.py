"""The command that explains, as a user runs it."""

import json

import jax
import jax.numpy as jnp
import pytest
from inking import inked
from msgspec.structs import replace
from small import EXPERIMENT, finished_run

from metarule import MLP, Polynomial, explain, load
from metarule.analysis.explanation import Explanation
from metarule.commands.explain import main
from metarule.runs import explaining
from metarule.runs.directory import REPORT
from metarule.runs.files import plain, write_json
from metarule.runs.locks import HOLDER, LOCK

pytestmark = pytest.mark.drawn

FEW = ["--lifetimes", "16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    experiment = replace(EXPERIMENT, rule=Polynomial(terms=("pre*modulator", "pre*post", "weight")))
    return finished_run(tmp_path_factory.mktemp("runs") / "a run", experiment, jnp.array([0.5, 0.0, -0.01]))


def refused(words, capsys):
    assert main([str(word) for word in words]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("metarule explain: ")
    assert errors.count("\n") == 1
    return errors


def test_a_rule_is_explained_and_the_numbers_are_those_of_python(run, tmp_path, capsys):
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    assert main([str(run), *FEW, "--json", str(tmp_path / "rows.json")]) == 0
    printed = capsys.readouterr().out
    for words in (
        "Δw = 0.5·pre·modulator − 0.01·weight",
        "held-out tasks, 16 lifetimes; 95 % intervals over lifetimes",
        "All synapses: Δw is closest to that of the rule delta (cosine ",
        "All synapses: of the variance of Δw, ",
        "full rule − without",
    ):
        assert words in printed
    report = json.loads((run / "explanation" / "summary.json").read_text())
    assert report.pop("run") == str(run)
    assert report == plain(explain(load(run), 16))
    assert list(report["parts"][0]["shares"]) == ["pre*modulator", "weight"]
    assert [one["term"] for one in report["contributions"]["terms"]] == ["pre*modulator", "weight"]
    for name in ("shares", "map"):
        assert inked(run / "explanation" / "figures" / f"{name}.png")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["of"] for row in rows} == {"share", "cosine", "effect"}
    assert all(row.keys() == {"of", "part", "name", "mean", "low", "high"} for row in rows)
    after = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    assert after.keys() - before.keys() == {LOCK, HOLDER, REPORT}
    assert {name: after[name] for name in before} == before


def test_effects_that_the_run_has_measured_are_read(tmp_path, monkeypatch, capsys):
    path = finished_run(tmp_path / "run", EXPERIMENT)
    mean = {"mean": 0.25, "low": None, "high": None}
    term = {"term": "weight", "coefficient": -0.01, "without": mean, "difference": mean, "cumulative": mean}
    stored = {"metric": "solved", "of": "held-out tasks", "lifetimes": 7, "terms": [term]}
    monkeypatch.setattr(explaining, "limited_contribution_report", None)
    monkeypatch.setattr(explaining, "explain_rule", lambda *_: Explanation((), (), {}, 16))
    summary = {"held_out": {}, "contributions": stored}
    write_json(path / "summary.json", summary)
    assert explain(load(path), 16)["contributions"] == stored
    write_json(path / "summary.json", summary | {"contributions": {"terms": [{"term": 1}]}})
    assert "summary.json: damaged: " in refused([path, *FEW], capsys)
    assert not (path / "explanation").exists()


def test_a_network_has_maps_and_cosines_and_no_shares(tmp_path, capsys):
    experiment = replace(EXPERIMENT, rule=MLP(hidden=(2,), inputs=("pre", "modulator", "weight")))
    theta = experiment.lifetime.init_theta(jax.random.key(0))
    network = finished_run(tmp_path / "network", experiment, theta)
    assert main([str(network), *FEW]) == 0
    printed = capsys.readouterr().out
    assert "left out: shares: rule = MLP: it is no sum of terms\n" in printed
    assert "left out: ablation: rule = MLP: it has no terms that could be removed\n" in printed
    report = json.loads((network / "explanation" / "summary.json").read_text())
    assert (report["parts"][0]["shares"], report["contributions"]) == (None, None)
    assert [file.name for file in (network / "explanation" / "figures").iterdir()] == ["map.png"]
    first = report["maps"][0]
    learner, (x, y) = load(network).learner, (first["x"], first["y"])
    values = dict.fromkeys(("pre", "modulator", "weight"), 0.0) | first["means"]
    values |= {x: first["x_values"][4], y: first["y_values"][2]}
    hidden = jnp.tanh(sum(value * theta["inputs"][name] for name, value in values.items()))
    expected = learner.rule.output_scale * hidden @ theta["layers"][0]["weight"]
    assert first["change"][2][4] == pytest.approx(float(expected[0]), rel=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lifetimes", "1"], "lifetimes = 1: expected `int` >= 2"),
        (["--lifetime", "8"], "lifetime = 8: there is no such field; allowed: lifetimes, directory, json"),
        (["--json", "/nowhere/rows.json"], "--json '/nowhere/rows.json': no file can be written there"),
        (["0.1"], "'0.1' is not expected here"),
    ],
)
def test_bad_options_give_one_line_and_exit_status_2(words, message, run, capsys):
    assert message in refused([run, *words], capsys)


def test_bad_places_give_one_line_and_exit_status_2(run, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "it is not empty; choose another" in refused([run, "--directory", tmp_path / "full"], capsys)
    assert "this is no run directory" in refused([tmp_path / "no-run"], capsys)
    assert main([]) == 2
