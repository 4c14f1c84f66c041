import json

import numpy as np
import pytest
from msgspec.structs import replace
from small import EXPERIMENT, finished_run

import metarule as mr
from metarule.commands.train import main
from metarule.config.toml import ConfigError
from metarule.runs import directory, files
from metarule.runs.directory import read_experiment, start_run
from metarule.runs.files import write_text
from metarule.runs.longer import continue_run, given_theta_files, lengthen
from metarule.runs.stopping import StopRequest
from metarule.runs.training import train

SILENT = lambda step, row: None
LONGER = replace(EXPERIMENT, optimizer=replace(EXPERIMENT.optimizer, steps=20))


def test_a_longer_run_equals_one_that_was_as_long_from_the_start(tmp_path):
    start_run(tmp_path / "short", EXPERIMENT, given=None)
    train(EXPERIMENT, tmp_path / "short", StopRequest(), SILENT)
    lengthen(tmp_path / "short", 16)
    lengthen(tmp_path / "short", 20)
    assert read_experiment(tmp_path / "short") == LONGER
    continued = train(LONGER, tmp_path / "short", StopRequest(), SILENT)
    start_run(tmp_path / "long", LONGER, given=None)
    np.testing.assert_array_equal(continued.theta, train(LONGER, tmp_path / "long", StopRequest(), SILENT).theta)


def test_an_extension_that_was_killed_between_its_files_can_be_repeated(tmp_path, monkeypatch):
    start_run(tmp_path, EXPERIMENT, given=None)
    train(EXPERIMENT, tmp_path, StopRequest(), SILENT)
    lengthen(tmp_path, 16)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(directory, "write_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patched.setattr(files, "write_text", write_text)
        lengthen(tmp_path, 20)
    assert read_experiment(tmp_path).optimizer.steps == 16
    assert train(read_experiment(tmp_path), tmp_path, StopRequest(), SILENT).steps == 16
    lengthen(tmp_path, 20)
    assert train(LONGER, tmp_path, StopRequest(), SILENT).steps == 20


def test_runs_of_several_seeds_begin_with_a_given_theta_and_follow_a_longer_one(tmp_path, capsys):
    first, several = finished_run(tmp_path / "first"), tmp_path / "several"
    (tmp_path / "config.toml").write_bytes((first / "resolved.toml").read_bytes())
    fields = ["--seeds", "2", "--optimizer.steps", "2", "--run.directory", str(several), "--from", str(first)]
    assert main([str(tmp_path / "config.toml"), *fields]) == 0
    assert "2 seeds" in capsys.readouterr().out
    for name in ("s3", "s4"):
        np.testing.assert_array_equal(mr.load(several / name).initial, mr.load(first).theta)
    lengthen(several, 4)
    longer = read_experiment(several)
    assert continue_run(several / "s3", longer.of_seed(3), is_longer=True)
    assert read_experiment(several / "s3") == longer.of_seed(3)
    assert not continue_run(several / "s4", replace(longer.of_seed(4), rule=mr.Polynomial()), is_longer=True)
    assert not continue_run(several / "s4", longer.of_seed(4), is_longer=False)


def test_other_changes_of_a_longer_run_are_refused(tmp_path):
    start_run(tmp_path, EXPERIMENT, given=None)
    train(EXPERIMENT, tmp_path, StopRequest(), SILENT)
    lengthen(tmp_path, 16)
    changed = (tmp_path / "resolved.toml").read_text().replace("batch_size = 4", "batch_size = 5")
    (tmp_path / "resolved.toml").write_text(changed)
    with pytest.raises(ConfigError, match="this checkpoint is of another experiment"):
        train(read_experiment(tmp_path), tmp_path, StopRequest(), SILENT)


@pytest.mark.parametrize(
    ("optimizer", "steps", "message"),
    [
        (mr.Gradient(steps=12), 11, "optimizer.steps = 11: allowed: at least 12, which this run has"),
        (mr.Gradient(steps=12), "x", "optimizer.steps = 'x': expected `int`"),
        (mr.Gradient(steps=12, curriculum=(0.5, 1.0)), 20, "cannot be longer: the curriculum divides the run in parts"),
        (
            mr.Gradient(
                steps=12, learning_rate=mr.Schedule(name="cosine_decay_schedule", arguments={"init_value": 0.1})
            ),
            20,
            "cannot be longer: the schedule cosine_decay_schedule ends with the run; allowed: 12",
        ),
        (mr.Genetic(steps=12), 20, "cannot be longer: the spread of candidates shrinks over the run"),
    ],
)
def test_a_run_is_not_made_longer_where_steps_depend_on_the_length(optimizer, steps, message, tmp_path):
    start_run(tmp_path, replace(EXPERIMENT, optimizer=optimizer), given=None)
    before = (tmp_path / "resolved.toml").read_text()
    with pytest.raises(ConfigError, match=message):
        lengthen(tmp_path, steps)
    assert (tmp_path / "resolved.toml").read_text() == before


def test_a_schedule_with_a_length_of_its_own_can_be_longer(tmp_path):
    arguments = {"init_value": 0.1, "decay_steps": 12}
    schedule = mr.Schedule(name="cosine_decay_schedule", arguments=arguments)
    start_run(tmp_path, replace(EXPERIMENT, optimizer=mr.Gradient(steps=12, learning_rate=schedule)), given=None)
    lengthen(tmp_path, 20)
    assert read_experiment(tmp_path).optimizer.steps == 20


def test_a_run_begins_with_the_theta_of_another(tmp_path):
    first = finished_run(tmp_path / "first")
    start_run(tmp_path / "second", EXPERIMENT, None, files=given_theta_files(str(first), EXPERIMENT))
    trained = train(EXPERIMENT, tmp_path / "second", StopRequest(), SILENT)
    np.testing.assert_array_equal(trained.initial, mr.load(first).theta)
    assert json.loads((tmp_path / "second" / "given.json").read_text())["from"] == str(first)
    (tmp_path / "second" / "given.npz").unlink()
    with pytest.raises(ConfigError, match="this checkpoint is of another experiment"):
        train(EXPERIMENT, tmp_path / "second", StopRequest(), SILENT)


def test_theta_of_another_rule_is_refused(tmp_path):
    first = finished_run(tmp_path / "first")
    other = replace(EXPERIMENT, rule=mr.Polynomial(terms=("oja",)))
    with pytest.raises(ConfigError, match=r"--from '.*first': its θ is of another rule: names\[0\] is "):
        given_theta_files(str(first), other)


@pytest.mark.parametrize(
    "words",
    [["--resume"], ["--resume", "RUN", "--optimizer.batch_size", "3"], ["--resume", "RUN", "--seed", "3"]],
)
def test_a_resumed_run_takes_no_other_field(words, tmp_path, capsys):
    run = finished_run(tmp_path / "run")
    assert main([str(run) if word == "RUN" else word for word in words]) == 2
    assert "--resume takes one run directory, --optimizer.steps N and --devices" in capsys.readouterr().err
