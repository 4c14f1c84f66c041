import json
import shutil
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace
from small import EXPERIMENT

from metarule import Conditioning
from metarule.config.toml import ConfigError, decode, override
from metarule.runs import training
from metarule.runs.directory import start_run
from metarule.runs.experiment import Experiment, to_tree
from metarule.runs.metrics import read_metrics
from metarule.runs.stopping import Stopped, StopRequest
from metarule.runs.theta_files import BEST, load_theta
from metarule.runs.training import train
from metarule.runs.validation import VALIDATION, best_mark, is_over, pools_of, report, report_text
from metarule.tasks.subsets import Selected, split_off

# A learning rate at which the score falls after a few meta-steps.
PATIENT = replace(
    EXPERIMENT,
    optimizer=replace(EXPERIMENT.optimizer, steps=40, patience=6, learning_rate=0.3),
    evaluation=replace(EXPERIMENT.evaluation, monitor_every=2),
)


def row(step, score):
    return {"step": step, VALIDATION: {"solved": score}}


def run(path, experiment=PATIENT, stop=None, progress=lambda step, row: None):
    start_run(path, experiment, given=None)
    return train(experiment, path, stop or StopRequest(), progress)


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    path = tmp_path_factory.mktemp("patient")
    return path, run(path)


def test_training_ends_when_validation_scores_no_longer_improve(patient):
    path, trained = patient
    marks = [row for row in read_metrics(path) if VALIDATION in row]
    best = best_mark(PATIENT, marks)
    assert trained.steps == marks[-1]["step"] == best["step"] + 6 < 40
    assert max(row[VALIDATION]["solved"] for row in marks) == best[VALIDATION]["solved"]
    stored = json.loads((path / "best.json").read_text())
    assert (stored["step"], stored[VALIDATION]) == (best["step"], best[VALIDATION])
    np.testing.assert_allclose(np.asarray(trained.theta), best["theta"], rtol=1e-6)


def test_a_run_that_was_stopped_ends_at_the_same_meta_step_with_the_same_theta(patient, tmp_path):
    stop = StopRequest()
    with pytest.raises(Stopped):
        run(tmp_path / "run", stop=stop, progress=lambda step, row: stop.ask(15) if step >= 4 else None)
    resumed = train(PATIENT, tmp_path / "run", StopRequest(), lambda step, row: None)
    assert resumed.steps == patient[1].steps
    np.testing.assert_array_equal(resumed.theta, patient[1].theta)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (patient[0] / "metrics.jsonl").read_bytes()
    # After the end, and before the evaluation.
    again = train(PATIENT, tmp_path / "run", StopRequest(), lambda step, row: None)
    np.testing.assert_array_equal(again.theta, patient[1].theta)


def test_the_last_theta_is_reported_on_request(patient, tmp_path):
    last = replace(PATIENT, evaluation=replace(PATIENT.evaluation, theta="last"))
    trained = run(tmp_path / "run", last)
    np.testing.assert_allclose(np.asarray(trained.theta), read_metrics(tmp_path / "run")[-1]["theta"], rtol=1e-6)
    best = load_theta(tmp_path / "run", trained.theta, {}, BEST)
    np.testing.assert_array_equal(best, patient[1].theta)


def test_equal_scores_count_as_no_improvement_and_the_first_is_the_best():
    marks = [row(2, 0.5), row(4, 0.5), row(6, None), row(8, 0.4)]
    assert best_mark(PATIENT, marks) is marks[0]
    assert is_over(PATIENT, marks)
    assert not is_over(PATIENT, marks[:3])
    assert not is_over(EXPERIMENT, marks)
    assert not is_over(PATIENT, [])


def test_the_summary_tells_which_theta_is_reported():
    rows = [row(2, 0.25), row(4, 0.5), row(10, 0.25)]
    reported = report(PATIENT, rows)["reported"]
    assert report_text(reported) == (
        "θ: the best, of meta-step 4, with validation solved 0.5000; training ended after 10 of 40 meta-steps, by the "
        "patience"
    )
    whole = replace(PATIENT, evaluation=replace(PATIENT.evaluation, theta="last"))
    assert report_text(report(whole, [*rows, row(40, 0.25)])["reported"]) == (
        "θ: the last, of meta-step 40, with validation solved 0.2500"
    )
    assert report(EXPERIMENT, [{"step": 2}]) == {}


def test_a_search_that_comes_first_does_not_count():
    tree = override(to_tree(PATIENT), [("optimizer", {"kind": "sequence"}), ("optimizer.then.patience", 6)])
    sequence = decode(override(tree, [("optimizer.first.steps", 5)]), Experiment)
    assert best_mark(sequence, [row(4, 0.9), row(6, 0.5)])["step"] == 6


def test_a_pool_of_one_task_is_refused():
    # Three classes are left for training, which make one set of three.
    pairs = [("tasks", {"kind": "tabular", "ways": 3, "test_classes": 7}), ("circuit.output", "softmax")]
    with pytest.raises(ConfigError, match="^optimizer.patience: the training pool has a single task"):
        pools_of(decode(override(to_tree(PATIENT), pairs), Experiment))


def ids(tasks, pool):
    numbers = np.asarray(pool.numbers) if isinstance(pool, Selected) else np.arange(1000)
    return set(np.asarray(jax.vmap(lambda index: tasks.task_id(pool.pool, index))(jnp.asarray(numbers))).tolist())


@pytest.mark.parametrize("optimizer", [{"train_tasks": 3}, {"kind": "random_search", "population": 4, "validation": 4}])
def test_theta_learns_from_no_validation_task(optimizer, tmp_path, monkeypatch):
    fields = {"optimizer": {"kind": "gradient", "steps": 2, "batch_size": 4, "patience": 4} | optimizer}
    experiment = decode(override(to_tree(EXPERIMENT), fields.items()), Experiment)
    moved, pools = training.advance, []
    monkeypatch.setattr(training, "advance", lambda phase, pool, *rest: pools.append(pool) or moved(phase, pool, *rest))
    run(tmp_path / "run", experiment)
    held = ids(experiment.tasks, pools_of(experiment).validation)
    assert held
    assert not any(held & ids(experiment.tasks, pool) for pool in pools)


def test_the_best_theta_of_another_run_is_not_reported(patient, tmp_path):
    path = shutil.copytree(patient[0], tmp_path / "run")
    stored = json.loads((path / "best.json").read_text())
    (path / "best.json").write_text(json.dumps(stored | {"step": 39}))
    with pytest.raises(ConfigError, match="best.json: it is of meta-step 39, and the best in the metrics is"):
        train(PATIENT, path, StopRequest(), lambda step, row: None)


def test_an_own_optimizer_has_no_validation_tasks():
    fields = {"optimizer": {"kind": "gradient", "steps": 2}, "evaluation.theta": "best"}
    assert decode(override(to_tree(EXPERIMENT), fields.items()), Experiment).is_validated
    with pytest.raises(ValueError, match="evaluation.theta = 'best': Idle has no validation tasks; allowed: auto"):
        replace(EXPERIMENT, optimizer=Idle(), evaluation=replace(EXPERIMENT.evaluation, theta="best"))


@dataclass(frozen=True)
class Idle:
    steps: int = 2
    batch_size: int = 2

    def init(self, learner, pool, theta, key):
        return theta

    def step(self, learner, pool, state, key):
        raise NotImplementedError

    def theta(self, state):
        return state


def test_tasks_that_are_not_told_apart_are_not_split():
    with pytest.raises(ValueError, match="Conditioning cannot be split: it has no task_id"):
        split_off(Conditioning(), Conditioning().split(0).train, seed=0)
