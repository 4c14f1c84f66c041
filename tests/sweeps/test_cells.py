"""Many points in one program come to what each comes to alone."""

import jax
import numpy as np
import pytest
from immutabledict import immutabledict
from msgspec.structs import replace
from small import EXPERIMENT

from metarule import Auto, RandomSearch, Sequence
from metarule.analysis.evaluation import final_metrics, learning_curves
from metarule.estimators.auto import _methods
from metarule.meta import train
from metarule.meta.phases import phases
from metarule.meta.transforms import Schedule
from metarule.prng import Purpose, run_key, stream
from metarule.runs.directory import start_run
from metarule.runs.files import read_json
from metarule.runs.stopping import Stopped, StopRequest
from metarule.runs.theta_files import load_theta
from metarule.runs.training import train as run
from metarule.sweeps.cells import DONE, _resolved, run_cell, solve
from metarule.sweeps.plan import Cell, Point, with_values

SMALL = replace(EXPERIMENT, seed=0, optimizer=replace(EXPERIMENT.optimizer, steps=8, learning_rate=1e-2))
FIELDS = ("optimizer.learning_rate", "inner_loop.weight_bound", "inner_loop.online_loss_weight", "rule.hebbian_scale")
VALUES = ((1e-2, 4.0, 0.5, 0.1), (1e-1, 0.5, 0.2, 0.3), (1e-2, 4.0, 0.5, 0.1))
CELL = Cell("000-cell", SMALL, FIELDS, (Point(0, 3), Point(1, 3), Point(0, 5)), VALUES)
SILENT = lambda share: None


def alone(experiment, seed, rate, bound, along, unit):
    """θ and score of one run, from the functions that a run is made of, with every number static."""
    context, optimizer = experiment.lifetime, replace(experiment.optimizer, learning_rate=rate)
    inner_loop = replace(context.inner_loop, weight_bound=bound, online_loss_weight=along)
    context = replace(context, inner_loop=inner_loop, rule=replace(context.rule, hebbian_scale=unit))
    split, key = context.tasks.split(seed), run_key(seed)
    theta, seen = jax.jit(lambda: train(context, optimizer, split.train, key))()
    settings = experiment.evaluation
    look = learning_curves(
        context, theta, split.test, stream(key, Purpose.HELD_OUT), settings.lifetimes, settings.points
    )
    return theta, float(look.metrics["solved"][:, -1].mean()), float(seen.loss.mean())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return solve(CELL, tmp_path_factory.mktemp("states"), StopRequest(), SILENT)


def test_a_seed_beside_others_gives_the_theta_and_the_score_that_it_gives_alone(whole):
    number = 1
    theta, solved, loss = alone(SMALL, CELL.points[number].seed, *VALUES[number])
    np.testing.assert_allclose(whole.theta[number], theta, atol=1e-5, rtol=0)
    assert whole.metrics["solved"][number] == pytest.approx(solved, abs=1e-6)
    assert whole.metrics["meta_loss"][number] == pytest.approx(loss, abs=1e-5)
    assert not np.allclose(whole.theta[number], whole.theta[2], atol=1e-4)


def test_a_point_alone_gives_theta_bit_for_bit_as_a_run_does(tmp_path):
    experiment = replace(SMALL, seed=3, optimizer=replace(SMALL.optimizer, curriculum=(0.5, 1.0)))
    start_run(tmp_path / "run", experiment, given=None)
    trained = run(experiment, tmp_path / "run", StopRequest(), lambda step, row: None)
    cell = Cell("000-cell", experiment, (), (Point(0, 3),), ((),))
    outcome = solve(cell, tmp_path / "states", StopRequest(), SILENT)
    np.testing.assert_array_equal(outcome.theta[0], trained.theta)


def test_a_search_beside_others_comes_to_what_it_comes_to_alone_mark_by_mark(tmp_path):
    search = RandomSearch(steps=4, population=4, batch_size=2, validation=2)
    experiment = replace(SMALL, optimizer=Sequence(first=search, then=replace(SMALL.optimizer, steps=3)))
    field = "rule.hebbian_scale"
    cell = Cell("000-cell", experiment, (field,), (Point(0, 3), Point(1, 5)), ((0.1,), (0.3,)), curve=3)
    assert cell.marks == (1, 3, 7)
    together = solve(cell, tmp_path, StopRequest(), SILENT)
    np.testing.assert_array_equal(together.curve[:, -1], together.metrics["solved"])
    other, key = with_values(experiment, {field: 0.3}), run_key(5)
    context, split = other.lifetime, other.tasks.split(5)
    theta, seen = jax.jit(lambda: train(context, other.optimizer, split.train, key))()
    np.testing.assert_allclose(together.theta[1], theta, atol=1e-5, rtol=0)
    for mark, scored in zip(cell.marks, together.curve[1], strict=True):
        count = final_metrics(context, seen.theta[mark - 1], split.test, stream(key, Purpose.HELD_OUT), 16)
        assert scored == pytest.approx(float(count["solved"].mean()), abs=1e-6)


def test_a_way_to_the_gradient_that_is_left_open_has_memory_for_all_points():
    count = SMALL.optimizer.batch_size
    (remat, size), *_ = methods = [(method, size * count) for method, size in _methods(SMALL.lifetime)]
    enough = 1.5 * size / 2**30
    optimizer = replace(SMALL.optimizer, estimator=Auto(memory_gib=enough))
    alone = CELL._replace(experiment=replace(SMALL, optimizer=optimizer), points=CELL.points[:1])
    (phase,) = phases(optimizer, SMALL.lifetime)
    assert _resolved(alone, phase).optimizer.estimator == remat
    assert _resolved(alone._replace(points=CELL.points), phase).optimizer.estimator in [
        method for method, _ in methods[1:]
    ]


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


def stopping_at(stop, last):
    def progress(share):
        if share >= last:
            stop.ask(15)

    return progress


def test_a_cell_goes_on_from_the_middle_to_what_it_would_have_come_to(whole, tmp_path):
    stop = StopRequest()
    with pytest.raises(Stopped):
        solve(CELL, tmp_path, stop, stopping_at(stop, 0.5))
    shares = []
    resumed = solve(CELL, tmp_path, StopRequest(), shares.append)
    assert min(shares) >= 0.5
    np.testing.assert_array_equal(resumed.theta, whole.theta)
    for name, values in whole.metrics.items():
        np.testing.assert_array_equal(resumed.metrics[name], values)


def test_a_finished_cell_is_whole_and_says_what_it_ran_in(whole, tmp_path):
    damaged = tmp_path / "checkpoints" / "6"
    damaged.mkdir(parents=True)
    assert run_cell(CELL, tmp_path, StopRequest(), SILENT)
    assert {file.name for file in tmp_path.iterdir()} == {DONE, "environment.json"}
    result = read_json(tmp_path / DONE / "result.json")
    assert [(point["setting"], point["seed"]) for point in result["points"]] == list(CELL.points)
    assert result["points"][1]["metrics"]["solved"] == pytest.approx(float(whole.metrics["solved"][1]))
    assert "pre*modulator" in result["points"][0]["theta"]
    kept = load_theta(tmp_path / DONE, whole.theta, {})
    np.testing.assert_array_equal(kept, whole.theta)
    assert {"jax", "metarule", "numpy"} <= set(read_json(tmp_path / DONE / "environment.json")["packages"])
