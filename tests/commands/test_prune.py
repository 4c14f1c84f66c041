"""The command that prunes, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace
from small import EXPERIMENT, finished_run

from metarule import MLP, Polynomial, load
from metarule.commands.prune import main
from metarule.runs.directory import REPORT
from metarule.runs.locks import HOLDER, LOCK
from metarule.runs.theta_files import load_theta, theta_meaning

ROOT = Path(__file__).parents[2]
RULE = Polynomial(terms=("pre*modulator", "pre*post", "weight"))
THETA = jnp.array([0.5, 1e-6, 0.0])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("runs") / "a run", replace(EXPERIMENT, rule=RULE), THETA)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    experiment = replace(EXPERIMENT, rule=MLP(hidden=(2,)))
    theta = experiment.lifetime.init_theta(jax.random.key(0))
    return finished_run(tmp_path_factory.mktemp("runs") / "network", experiment, theta)


@pytest.fixture
def own(tmp_path):
    """A run directory that a test may change."""
    return finished_run(tmp_path / "run", replace(EXPERIMENT, rule=RULE), THETA)


def refused(words, capsys):
    assert main([str(word) for word in words]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("metarule prune: ")
    assert errors.count("\n") == 1
    return errors


def test_the_shorter_rule_is_printed_and_saved(run, capsys):
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    assert main([str(run), "--lifetimes", "16", "--tolerance=0.05"]) == 0
    printed = capsys.readouterr().out
    for line in ("Δw = 0.5·pre·modulator + 1e-06·pre·post", "Δw = 0.5·pre·modulator", "1 of 2 terms removed:"):
        assert line in printed.splitlines()
    for words in (
        "without pre*post ",
        "held-out tasks, 8 tasks",
        "pre*modulator ",
        "decided on 8 training tasks; these are few",
        "before ",
        "after ",
        "after − before ",
    ):
        assert words in printed
    with np.load(run / "pruned.npz") as arrays:
        assert arrays.files == ["theta_0"]
        np.testing.assert_array_equal(arrays["theta_0"], THETA.at[1].set(0.0))
    pruned = json.loads((run / "pruned.json").read_text())
    assert pruned["equation"] == "Δw = 0.5·pre·modulator"
    assert pruned["removed"] == ["pre*post"]
    assert pruned["options"] == {"tolerance": 0.05, "lifetimes": 16, "terms": []}
    assert pruned["held_out"]["difference"] == {"mean": 0.0, "low": None, "high": None}
    assert (pruned["held_out"]["tasks"], pruned["held_out"]["lifetimes"], pruned["training_tasks"]) == (8, 16, 8)
    assert [row["term"] for row in pruned["contributions"]["terms"]] == ["pre*modulator", "pre*post"]
    assert [trial["outcome"] for trial in pruned["trials"]] == ["ranked"] * 2 + ["removed", "kept", "ranked", "kept"]
    after = {file.name: file.read_bytes() for file in run.iterdir()}
    assert after.keys() - before.keys() == {"pruned.npz", "pruned.json", LOCK, HOLDER, REPORT}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tolerance", "-0.1"], "tolerance = -0.1: expected `float` >= 0.0"),
        (["--tolerance", "little"], "tolerance = 'little': expected `float`, got `str`"),
        (["--tolerance", "nan"], "tolerance = nan: expected a finite number"),
        (["--tolerance"], "--tolerance: a value is missing"),
        (["--lifetimes", "1"], "lifetimes = 1: expected `int` >= 2"),
        (["--tolerence", "0.1"], "tolerence = 0.1: there is no such field; allowed: tolerance, lifetimes, terms"),
        (["0.1"], "'0.1' is not expected here"),
    ],
)
def test_bad_options_give_one_line_and_exit_status_2(words, message, run, capsys):
    assert message in refused([run, *words], capsys)


def test_a_directory_without_a_run_is_refused(tmp_path, capsys):
    assert "no-run: this is no run directory: it has no resolved.toml" in refused([tmp_path / "no-run"], capsys)
    assert "the directory of a run comes first" in refused(["--tolerance", "0.1"], capsys)


def test_a_run_that_is_not_finished_is_refused(own, capsys):
    (own / "summary.json").unlink()
    message = f"this run is not finished; go on with: metarule train --resume {own}"
    assert message in refused([own], capsys)


def test_a_directory_of_several_seeds_is_refused(tmp_path, capsys):
    path = finished_run(tmp_path / "runs", replace(EXPERIMENT, rule=RULE, seeds=2), THETA)
    message = f"{path}: it holds runs of 2 seeds; give one of them, such as {path / 's3'}"
    assert message in refused([path], capsys)


def test_a_network_is_read_back_as_an_equation(network, capsys):
    before = {file.name: file.read_bytes() for file in network.iterdir()}
    words = [str(network), "--lifetimes", "16", "--terms", "taylor(pre, modulator; 2)"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    found = json.loads((network / "readback.json").read_text())
    fit, learner = found["fits"][0], replace(load(network).learner, rule=Polynomial(terms=found["terms"]))
    for words in (
        "Δw = 0.1·mlp(pre, post, weight, modulator; 2 tanh)",
        "R² on held-out tasks",
        f"all 9 terms                          {fit['all_terms_r2']:.4f}",
        "(terms were chosen on other lifetimes, of training tasks)",
        "after − before ",
        f"R² {fit['r2']:.4f} on held-out tasks:\n\n{found['equation']}\n",
    ):
        assert words in printed
    assert len(found["candidates"]) == 9
    assert (found["held_out"]["tasks"], found["held_out"]["lifetimes"]) == (8, 16)
    theta = load_theta(network, learner.theta_scale(), theta_meaning(learner), "readback")
    assert learner.equation(theta) == found["equation"]
    assert found["theta"] == pytest.approx(dict(zip(fit["terms"], fit["coefficients"], strict=True)))
    after = {file.name: file.read_bytes() for file in network.iterdir()}
    assert after.keys() - before.keys() == {"readback.npz", "readback.json", LOCK, HOLDER, REPORT}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ("pre*past", "term 'pre*past': 'past' is not a variable; allowed: pre, post"),
        ("pre_trace", "terms: synapses of this circuit see no pre_trace; allowed: pre, post"),
        ("bcm", "terms: trace 'threshold' is no local variable; allowed: terms without traces"),
        ("3", "terms = 3: expected"),
    ],
)
def test_bad_candidate_terms_give_one_line(terms, message, network, capsys):
    assert message in refused([network, "--terms", terms], capsys)


def test_a_polynomial_is_not_read_back(run, capsys):
    message = "terms = ['pre']: this rule is a polynomial already; allowed: with a rule that is a network (mlp)"
    assert message in refused([run, "--terms", "pre"], capsys)


def test_a_theta_of_another_rule_is_refused(own, capsys):
    text = (own / "resolved.toml").read_text()
    (own / "resolved.toml").write_text(text.replace("pre*modulator", "pre^2", 1))
    message = "theta.json: this θ is of another rule: names[0] is 'pre*modulator' there; the rule needs 'pre^2'"
    assert message in refused([own], capsys)


def test_a_directory_that_cannot_be_written_gives_one_line(own, capsys):
    (own / "pruned.npz").mkdir()
    assert main([str(own), "--lifetimes", "16"]) == 1
    message = f"{own / 'pruned.npz'}: Is a directory; what was written before is kept"
    assert capsys.readouterr().err == f"metarule prune: {message}\n"
    assert sorted(file.name for file in own.iterdir() if file.name.startswith("tmp")) == []


def test_help_lists_options_and_exits_with_0(capsys):
    assert main(["--help"]) == 0
    assert "--tolerance" in capsys.readouterr().out
    assert main([]) == 2


def test_the_exit_status_reaches_the_shell():
    words = [sys.executable, "-m", "metarule.prune", "configs"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
