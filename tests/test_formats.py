"""Run directories of the present format are read; those of other formats are refused by name."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import metarule
from metarule.commands import train
from metarule.config.toml import ConfigError
from metarule.prng import run_key
from metarule.runs.directory import read_experiment, start_run
from metarule.runs.experiment import FORMAT, read_experiment_file
from metarule.runs.metrics import read_metrics
from metarule.runs.theta_files import THETA_FORMAT, flat_parameters, write_theta

FIXTURES = Path(__file__).parent / "fixtures"
PRESENT = FIXTURES / f"run-format-{FORMAT}"
OLDER = sorted(path for path in FIXTURES.glob("run-format-*") if path != PRESENT)
# The terms of the run, with the first two swapped.
TERMS = 'terms = ["pre", "1", "potential", "modulator", "pre*modulator", "pre*potential", "pre*weight"]'


@pytest.fixture
def run(tmp_path):
    """A copy of a run of the present format."""
    return shutil.copytree(PRESENT, tmp_path / "run")


def set_format(run, number):
    lines = [line for line in (run / "resolved.toml").read_text().splitlines() if not line.startswith("format")]
    (run / "resolved.toml").write_text("\n".join([f"format = {number}"] * (number is not None) + lines))


def test_a_finished_run_is_read_as_it_was_written():
    run = metarule.load(PRESENT)
    written = json.loads((PRESENT / "theta.json").read_text())["theta"]
    read = {name: float(value) for name, value in flat_parameters(run.learner, run.theta).items()}
    assert read == pytest.approx(written, rel=1e-6)
    baselines = json.loads((PRESENT / "summary.json").read_text())["held_out"]["baselines"]
    assert run.rates == {"delta": baselines["delta"]["learning_rate"]}
    rows = read_metrics(PRESENT)
    assert [row["step"] for row in rows] == [1, 2, 3]
    np.testing.assert_allclose(rows[-1]["theta"], list(written.values()), rtol=1e-6)


def test_new_files_have_the_formats_of_the_fixture(run, tmp_path):
    experiment = read_experiment(run)
    start_run(tmp_path / "new", experiment, None)
    write_theta(tmp_path / "new", experiment.lifetime, experiment.lifetime.init_theta(run_key(0)))
    for path in (tmp_path / "new", run):
        assert (path / "resolved.toml").read_text().startswith(f"format = {FORMAT}\n")
        assert json.loads((path / "theta.json").read_text())["format"] == THETA_FORMAT


@pytest.mark.parametrize("path", OLDER, ids=lambda path: path.name)
def test_an_older_run_is_refused_by_name(path, capsys):
    reads = f"this version of metarule reads format {FORMAT}; train again, or use that version"
    message = f"{path}/resolved.toml: this run directory has format 1, as of an earlier version; {reads}"
    with pytest.raises(ConfigError, match=message):
        metarule.load(path)
    assert train.main(["--resume", str(path)]) == 2
    assert capsys.readouterr().err == f"metarule train: {message}\n"
    assert not list(path.glob("metarule.*"))


def test_an_older_theta_is_refused_by_name(run):
    meaning = json.loads((run / "theta.json").read_text())
    reads = f"this version of metarule reads format {THETA_FORMAT}; train again, or use that version"
    (run / "theta.json").write_text(json.dumps(meaning | {"format": 2}))
    with pytest.raises(ConfigError, match=f"theta.json: this θ has format 2, as of an earlier version; {reads}"):
        metarule.load(run)
    del meaning["format"]
    (run / "theta.json").write_text(json.dumps(meaning))
    with pytest.raises(ConfigError, match=f"theta.json: this θ has no format number, .*; {reads}"):
        metarule.load(run)
    (run / "theta.json").unlink()
    with pytest.raises(ConfigError, match="theta.json: No such file or directory"):
        metarule.load(run)


def test_a_later_run_is_refused_by_name(run):
    set_format(run, FORMAT + 1)
    message = f"this run directory has format {FORMAT + 1}; this version of metarule reads format {FORMAT}; upgrade"
    with pytest.raises(ConfigError, match=message):
        metarule.load(run)
    with pytest.raises(ConfigError, match=message.replace("run directory", "config")):
        read_experiment_file(run / "resolved.toml", [])


def test_a_run_without_a_format_is_refused(run):
    set_format(run, None)
    with pytest.raises(ConfigError, match="this run directory has no format number, as of an earlier version; "):
        metarule.load(run)


@pytest.mark.parametrize("number", ["0", "-1", "'1'", "1.0", "true", "[]"])
def test_an_impossible_format_is_refused(number, run):
    set_format(run, number)
    with pytest.raises(ConfigError, match=f"this run directory has format .*; allowed: {FORMAT}"):
        metarule.load(run)


def test_the_meaning_of_theta_is_checked(run):
    file = run / "resolved.toml"
    file.write_text(re.sub(r"^terms = \[.*?\]$", TERMS, file.read_text(), count=1, flags=re.MULTILINE | re.DOTALL))
    message = "theta.json: this θ is of another rule: names.0. is '1' there; the rule needs 'pre'"
    with pytest.raises(ConfigError, match=message):
        metarule.load(run)


def test_the_experiment_of_a_run_is_a_config(run):
    assert read_experiment_file(run / "resolved.toml", [])[0] == read_experiment(run)
