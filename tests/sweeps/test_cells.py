"""Points of one program have the results of single runs."""

import jax
import numpy as np
import pytest
from immutabledict import immutabledict
from msgspec.structs import replace
from small import EXPERIMENT

from metarule import Auto, RandomSearch, Sequence
from metarule.analysis.evaluation import final_metrics
from metarule.estimators.auto import _methods
from metarule.meta import train
from metarule.meta.phases import list_phases
from metarule.meta.transforms import Schedule
from metarule.prng import Purpose, run_key, stream
from metarule.runs.directory import start_run
from metarule.runs.files import read_json
from metarule.runs.finished import load
from metarule.runs.stopping import Stopped, StopRequest
from metarule.runs.sweep_files import DONE
from metarule.runs.theta_files import load_theta
from metarule.runs.training import train as run
from metarule.sweeps.cells import _resolved, run_cell, solve
from metarule.sweeps.plan import Cell, Point, with_values

SMALL = replace(EXPERIMENT, seed=0, optimizer=replace(EXPERIMENT.optimizer, steps=8, learning_rate=1e-2))
FIELDS = ("optimizer.learning_rate", "inner_loop.weight_bound", "inner_loop.online_loss_weight", "rule.hebbian_scale")
VALUES = ((1e-2, 4.0, 0.5, 0.1), (1e-1, 0.5, 0.2, 0.3), (1e-2, 4.0, 0.5, 0.1))
CELL = Cell("000-cell", SMALL, FIELDS, (Point(0, 3), Point(1, 3), Point(0, 5)), VALUES)
SILENT = lambda share: None


def trained(experiment, seed):
    """θ of one run and its observables, from the functions that a run is made of, with every number static."""
    learner = experiment.lifetime
    return jax.jit(lambda: train(learner, experiment.optimizer, learner.tasks.split(seed).train, run_key(seed)))()


def held_out(experiment, seed, theta):
    """Mean score of one run on its held-out tasks."""
    learner, key = experiment.lifetime, stream(run_key(seed), Purpose.HELD_OUT)
    metrics = final_metrics(learner, theta, learner.tasks.split(seed).test, key, experiment.evaluation.lifetimes)
    return float(metrics["solved"].mean())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return solve(CELL, tmp_path_factory.mktemp("states"), StopRequest(), SILENT)


def test_a_point_of_a_cell_has_the_theta_and_the_scores_of_a_run(outcome):
    number, experiment = 1, with_values(SMALL, dict(zip(FIELDS, VALUES[1], strict=True)))
    theta, infos = trained(experiment, CELL.points[number].seed)
    np.testing.assert_allclose(outcome.theta[number], theta, atol=1e-5, rtol=0)
    solved = held_out(experiment, CELL.points[number].seed, theta)
    assert outcome.metrics["solved"][number] == pytest.approx(solved, abs=1e-6)
    assert outcome.metrics["meta_loss"][number] == pytest.approx(float(infos.loss.mean()), abs=1e-5)
    assert not np.allclose(outcome.theta[number], outcome.theta[2], atol=1e-4)


def test_a_traced_number_of_training_tasks_moves_theta_as_the_number_does(tmp_path):
    field, numbers = "optimizer.train_tasks", (1, 3)
    cell = CELL._replace(fields=(field,), points=(Point(0, 3), Point(1, 3)), values=tuple((float(n),) for n in numbers))
    outcome = solve(cell, tmp_path, StopRequest(), SILENT)
    for number, tasks in enumerate(numbers):
        theta, _ = trained(with_values(SMALL, {field: tasks}), 3)
        np.testing.assert_allclose(outcome.theta[number], theta, atol=1e-5, rtol=0)
    assert not np.allclose(*outcome.theta, atol=1e-4)


def test_theta_of_a_cell_of_one_point_is_bit_for_bit_that_of_a_run(tmp_path):
    experiment = replace(SMALL, seed=3, optimizer=replace(SMALL.optimizer, curriculum=(0.5, 1.0)))
    start_run(tmp_path / "run", experiment, given=None)
    expected = run(experiment, tmp_path / "run", StopRequest(), lambda step, row: None)
    cell = Cell("000-cell", experiment, (), (Point(0, 3),), ((),))
    np.testing.assert_array_equal(solve(cell, tmp_path / "states", StopRequest(), SILENT).theta[0], expected.theta)


@pytest.mark.long
def test_a_curve_has_the_score_of_each_marked_meta_step(tmp_path):
    search = RandomSearch(steps=4, population=4, batch_size=2, validation=2)
    experiment = replace(SMALL, optimizer=Sequence(first=search, then=replace(SMALL.optimizer, steps=3)))
    field = "rule.hebbian_scale"
    cell = Cell("000-cell", experiment, (field,), (Point(0, 3), Point(1, 5)), ((0.1,), (0.3,)), curve=3)
    assert cell.marks == (1, 3, 7)
    outcome = solve(cell, tmp_path, StopRequest(), SILENT)
    np.testing.assert_array_equal(outcome.curve[:, -1], outcome.metrics["solved"])
    other = with_values(experiment, {field: 0.3})
    theta, infos = trained(other, 5)
    np.testing.assert_allclose(outcome.theta[1], theta, atol=1e-5, rtol=0)
    for mark, score in zip(cell.marks, outcome.curve[1], strict=True):
        assert score == pytest.approx(held_out(other, 5, infos.theta[mark - 1]), abs=1e-6)


def test_an_automatic_estimator_has_memory_for_all_points():
    count = SMALL.optimizer.batch_size
    (remat, size), *others = [(method, size * count) for method, size in _methods(SMALL.lifetime)]
    optimizer = replace(SMALL.optimizer, estimator=Auto(memory_gib=1.5 * size / 2**30))
    one = CELL._replace(experiment=replace(SMALL, optimizer=optimizer), points=CELL.points[:1])
    (phase,) = list_phases(optimizer, SMALL.lifetime)
    assert _resolved(one, phase).optimizer.estimator == remat
    assert _resolved(one._replace(points=CELL.points), phase).optimizer.estimator in [method for method, _ in others]


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("sgd", 0.3),
        ("adamw", 0.1),
        ("adafactor", 0.1),
        ("adam", Schedule(name="cosine_decay_schedule", arguments={"init_value": 0.1})),
    ],
)
def test_a_traced_learning_rate_moves_theta_as_the_number_does(name, rate):
    theta, gradient = np.float32([0.3, -2.0]), np.float32([0.5, -0.01])

    def moved(rate):
        optimizer = replace(SMALL.optimizer, name=name, learning_rate=rate, arguments={})
        transform, after = optimizer._transform(), theta
        state = transform.init(after)
        for _ in range(3):
            updates, state = transform.update(gradient, state, after)
            after = after + updates
        return after

    def scheduled(value):
        arguments = immutabledict({**rate.arguments, "init_value": value})
        return moved(replace(rate, arguments=arguments))

    traced = jax.jit(scheduled)(0.1) if isinstance(rate, Schedule) else jax.jit(moved)(rate)
    np.testing.assert_allclose(traced, moved(rate), rtol=1e-5, atol=1e-7)
    assert not np.allclose(traced, theta, atol=1e-3)


def test_a_resumed_cell_has_the_result_of_one_that_was_not_stopped(outcome, tmp_path):
    stop, shares = StopRequest(), []
    with pytest.raises(Stopped):
        solve(CELL, tmp_path, stop, lambda share: stop.ask(15) if share >= 0.5 else None)
    resumed = solve(CELL, tmp_path, StopRequest(), shares.append)
    assert min(shares) >= 0.5
    np.testing.assert_array_equal(resumed.theta, outcome.theta)
    for name, values in outcome.metrics.items():
        np.testing.assert_array_equal(resumed.metrics[name], values)


def test_a_finished_cell_holds_its_result_and_environment(outcome, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "6.npz").write_bytes(b"damaged")
    labels = ("rate = 0.01", "rate = 0.1", "rate = 0.01")
    assert run_cell(CELL._replace(labels=labels), tmp_path, StopRequest(), SILENT)
    assert {file.name for file in tmp_path.iterdir()} == {DONE, "environment.json"}
    result = read_json(tmp_path / DONE / "result.json")
    assert [(point["setting"], point["seed"]) for point in result["points"]] == list(CELL.points)
    assert result["points"][1]["metrics"]["solved"] == pytest.approx(float(outcome.metrics["solved"][1]))
    assert "pre*modulator" in result["points"][0]["theta"]
    np.testing.assert_array_equal(load_theta(tmp_path / DONE, outcome.theta, {}), outcome.theta)
    assert {"jax", "metarule", "numpy"} <= set(read_json(tmp_path / DONE / "environment.json")["packages"])
    names = ("0-rate=0.01-s3", "1-rate=0.1-s3", "0-rate=0.01-s5")
    for number, (name, point) in enumerate(zip(names, CELL.points, strict=True)):
        member = load(tmp_path / DONE / name)
        values = dict(zip(FIELDS, VALUES[number], strict=True))
        assert member.config == with_values(SMALL, values).of_seed(point.seed)
        np.testing.assert_array_equal(member.theta, outcome.theta[number])
        summary = read_json(member.directory / "summary.json")
        assert summary["held_out"]["learned"]["mean"] == result["points"][number]["metrics"]["solved"]
        assert (summary["seed"], summary["steps"], member.rates) == (point.seed, 8, {})
