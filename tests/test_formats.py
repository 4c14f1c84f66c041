"""Run directories of every format that there has been are read, and those of later ones are refused by name."""

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from metarule.config.toml import ConfigError
from metarule.prng import run_key
from metarule.runs.directory import read_experiment, start_run
from metarule.runs.experiment import read_experiment_file
from metarule.runs.finished import read_finished
from metarule.runs.metrics import read_metrics
from metarule.runs.training import flat_parameters, write_theta

FIXTURES = Path(__file__).parent / "fixtures"
FORMATS = sorted(FIXTURES.glob("run-format-*"))
NOW = FORMATS[-1]
# Those of the run, of which the first two have changed places.
TERMS = 'terms = ["pre", "1", "potential", "modulator", "pre*modulator", "pre*potential", "pre*weight"]'


@pytest.fixture
def run(tmp_path):
    """A copy of the latest that a test may change."""
    return shutil.copytree(NOW, tmp_path / "run")


def set_format(run, number):
    lines = [line for line in (run / "resolved.toml").read_text().splitlines() if not line.startswith("format")]
    (run / "resolved.toml").write_text("\n".join([f"format = {number}"] * (number is not None) + lines))


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.name)
def test_a_finished_run_is_read_as_it_was_written(path):
    run = read_finished(path)
    written = json.loads((path / "theta.json").read_text())["theta"]
    read = {name: float(value) for name, value in flat_parameters(run.experiment.lifetime, run.theta).items()}
    assert read == pytest.approx(written, rel=1e-6)
    assert run.rates == {
        "delta": json.loads((path / "summary.json").read_text())["held_out"]["baselines"]["delta"]["learning_rate"]
    }
    rows = read_metrics(path)
    assert [row["step"] for row in rows] == list(range(1, run.experiment.optimizer.steps + 1))
    np.testing.assert_allclose(rows[-1]["theta"], list(written.values()), rtol=1e-6)


def test_what_is_written_now_has_the_latest_of_them(run, tmp_path):
    experiment = read_experiment(run)
    start_run(tmp_path / "new", experiment, None)
    write_theta(tmp_path / "new", experiment.lifetime, experiment.lifetime.init_theta(run_key(0)))
    for path, of_theta in ((tmp_path / "new", 2), (run, 1)):
        assert (path / "resolved.toml").read_text().startswith("format = 1\n")
        assert json.loads((path / "theta.json").read_text())["format"] == of_theta


def test_a_later_one_is_refused_by_name(run):
    set_format(run, 3)
    says = "this run directory has format 3; this version of metarule reads up to 1; upgrade metarule"
    with pytest.raises(ConfigError, match=says):
        read_finished(run)
    with pytest.raises(ConfigError, match=says.replace("run directory", "config")):
        read_experiment_file(run / "resolved.toml", [])


@pytest.mark.parametrize("number", ["0", "-1", "'1'", "1.0", "true", "[]"])
def test_what_is_no_format_is_refused(number, run):
    set_format(run, number)
    with pytest.raises(ConfigError, match="this run directory has format .*; allowed: 1 to 1"):
        read_finished(run)


def test_one_from_before_there_were_formats_is_read(run):
    before = read_finished(run)
    set_format(run, None)
    (run / "theta.json").unlink()
    after = read_finished(run)
    assert after.experiment == before.experiment
    jax.tree.map(np.testing.assert_array_equal, after.theta, before.theta)


def test_what_the_first_format_says_of_theta_is_checked(run):
    file = run / "resolved.toml"
    file.write_text(re.sub(r"^terms = \[.*?\]$", TERMS, file.read_text(), count=1, flags=re.MULTILINE | re.DOTALL))
    says = "theta.json: this θ is of another rule: names.0. is '1' there; the rule needs 'pre'"
    with pytest.raises(ConfigError, match=says):
        read_finished(run)


def test_the_experiment_of_a_run_is_a_config(run):
    assert read_experiment_file(run / "resolved.toml", [])[0] == read_experiment(run)
