import json
import shutil

import jax
import numpy as np
import pytest
from msgspec.structs import replace
from small import EXPERIMENT

from metarule import Feedforward, Genetic, Persistent, Polynomial, Sequence, Truncated
from metarule.config.toml import ConfigError
from metarule.meta import train as pure
from metarule.prng import Purpose, run_key, stream
from metarule.runs.diagnosis import HOPELESS
from metarule.runs.directory import read_experiment, start_run
from metarule.runs.experiment import Run
from metarule.runs.metrics import read_metrics
from metarule.runs.stopping import Diverged, Stopped, StopRequest
from metarule.runs.theta_files import flat_parameters, load_theta
from metarule.runs.training import train

SILENT = lambda step, row: None


def begun(path):
    start_run(path, EXPERIMENT, given=None)
    return path


def stopping_at(stop, last):
    def progress(step, row):
        if step >= last:
            stop.ask(15)

    return progress


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = begun(tmp_path_factory.mktemp("whole"))
    return path, train(EXPERIMENT, path, StopRequest(), SILENT)


def test_every_meta_step_leaves_one_row(whole):
    path, trained = whole
    rows = read_metrics(path)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert {"loss", "solved", "gradient_norm", "median_lifetime_norm", "largest_lifetime_norm"} <= set(rows[0])
    assert {"lifetimes", "nonfinite_lifetimes", "zero_gradient_lifetimes", "rejected", "theta"} <= set(rows[0])
    assert [row["step"] for row in rows if "held_out" in row] == [5, 10, 12]
    exponents = [row["lyapunov_exponent"] for row in rows if "lyapunov_exponent" in row]
    assert [one["median"] <= one["largest"] for one in exponents] == [True] * 3
    assert not [row for row in rows if "trouble" in row]
    values = [float(value) for value in flat_parameters(EXPERIMENT.lifetime, trained.theta).values()]
    np.testing.assert_array_equal(np.float32(rows[-1]["theta"]), np.float32(values))
    assert not np.array_equal(trained.theta, trained.initial)


def test_nothing_depends_on_the_steps_of_a_call(whole, tmp_path):
    other = replace(EXPERIMENT, run=replace(EXPERIMENT.run, steps_per_call=3))
    start_run(tmp_path, other, given=None)
    trained = train(other, tmp_path, StopRequest(), SILENT)
    np.testing.assert_array_equal(trained.theta, whole[1].theta)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole[0] / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"step": 1}, "missing required field `loss`"),
        ({"theta": "x"}, "Expected `array`, got `str`"),
        ({"theta": [0.0]}, "θ of another rule, which has 7 numbers"),
        ({"lifetimes": 0}, "Expected `int` >= 1"),
    ],
)
def test_metrics_that_somebody_changed_are_refused(row, says, whole, tmp_path):
    path = shutil.copytree(whole[0], tmp_path / "run")
    lines = (path / "metrics.jsonl").read_text().splitlines()
    first = row if len(row) == 1 and "step" in row else json.loads(lines[0]) | row
    (path / "metrics.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    with pytest.raises(ConfigError, match=f"metrics.jsonl: damaged: .*{says}"):
        train(EXPERIMENT, path, StopRequest(), SILENT)


def test_theta_learns_from_the_training_pool_alone(whole):
    context, optimizer = EXPERIMENT.lifetime, EXPERIMENT.optimizer
    split, key = context.tasks.split(EXPERIMENT.seed), run_key(EXPERIMENT.seed)
    expected, elsewhere = map(jax.jit(lambda pool: pure(context, optimizer, pool, key)[0]), split)
    np.testing.assert_allclose(whole[1].theta, expected, rtol=1e-5, atol=1e-7)
    assert not np.allclose(whole[1].theta, elsewhere, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("last", [0, 1, 6, 10])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(last, whole, tmp_path):
    path, stop = begun(tmp_path / "run"), StopRequest()
    with pytest.raises(Stopped) as caught:
        train(EXPERIMENT, path, stop, stopping_at(stop, last))
    assert last <= caught.value.step < 12
    assert max([0, *(int(kept.name) for kept in (path / "checkpoints").iterdir())]) == caught.value.step
    resumed = train(EXPERIMENT, path, StopRequest(), SILENT)
    jax.tree.map(np.testing.assert_array_equal, (resumed.theta, resumed.initial), whole[1][:2])
    assert (path / "metrics.jsonl").read_text() == (whole[0] / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    "optimizer",
    [
        replace(EXPERIMENT.optimizer, estimator=Truncated(window=8)),
        replace(EXPERIMENT.optimizer, estimator=Persistent(window=8, pairs=2)),
        Sequence(
            first=Genetic(steps=8, population=4, batch_size=2, validation=2),
            then=replace(EXPERIMENT.optimizer, steps=4),
        ),
    ],
    ids=["truncated", "persistent", "sequence"],
)
def test_what_goes_on_from_step_to_step_is_resumed_where_it_was(optimizer, tmp_path):
    experiment = replace(EXPERIMENT, optimizer=optimizer)
    thetas = []
    for name, last in (("whole", None), ("resumed", 6)):
        start_run(tmp_path / name, experiment, given=None)
        if last is not None:
            stop = StopRequest()
            with pytest.raises(Stopped):
                train(experiment, tmp_path / name, stop, stopping_at(stop, last))
        thetas.append(train(experiment, tmp_path / name, StopRequest(), SILENT).theta)
    np.testing.assert_array_equal(*thetas)


def test_rows_after_the_last_checkpoint_are_made_again(whole, tmp_path):
    path, stop = begun(tmp_path / "run"), StopRequest()
    with pytest.raises(Stopped):
        train(EXPERIMENT, path, stop, stopping_at(stop, 6))
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 7, "loss": -1.0}) + '\n{"step": 8, "lo')
    train(EXPERIMENT, path, StopRequest(), SILENT)
    assert (path / "metrics.jsonl").read_text() == (whole[0] / "metrics.jsonl").read_text()


def test_a_finished_run_is_not_run_again(whole):
    again = train(EXPERIMENT, whole[0], StopRequest(), SILENT)
    np.testing.assert_array_equal(again.theta, whole[1].theta)


@pytest.mark.parametrize(
    "damage", ["lose a row", "lose the file", "garble a row", "change the rule", "change the seed"]
)
def test_a_damaged_run_is_refused_in_one_line(damage, whole, tmp_path):
    path, experiment = tmp_path / "run", EXPERIMENT
    shutil.copytree(whole[0], path)
    metrics = path / "metrics.jsonl"
    rows = metrics.read_text().splitlines(keepends=True)
    match damage:
        case "lose a row":
            metrics.write_text("".join(rows[:3] + rows[4:]))
        case "lose the file":
            metrics.unlink()
        case "garble a row":
            metrics.write_text("".join([rows[0], "}" + rows[1], *rows[2:]]))
        case "change the rule":
            experiment = replace(EXPERIMENT, rule=Polynomial(terms=("sixteen",)))
        case "change the seed":
            resolved = path / "resolved.toml"
            resolved.write_text(resolved.read_text().replace("\nseed = 3\n", "\nseed = 4\n"))
            experiment = read_experiment(path)
    with pytest.raises(ConfigError, match=r"metrics.jsonl: |checkpoints/12: ") as caught:
        train(experiment, path, StopRequest(), SILENT)
    assert "\n" not in str(caught.value)


# Activities are beyond float32 after three layers, and no number after four.
OVERFLOWING = Feedforward(hidden=(8, 8, 8, 8), activation="identity", weight_scale=1e18)


def test_a_run_in_trouble_is_resumed_to_the_same_metrics(tmp_path):
    experiment = replace(EXPERIMENT, circuit=OVERFLOWING)
    for name, last in (("whole", None), ("resumed", 6)):
        start_run(tmp_path / name, experiment, given=None)
        if last is not None:
            stop = StopRequest()
            with pytest.raises(Stopped):
                train(experiment, tmp_path / name, stop, stopping_at(stop, last))
        train(experiment, tmp_path / name, StopRequest(), SILENT)
    whole, resumed = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "resumed"))
    assert resumed == whole
    assert whole.count('"trouble": "100% of lifetimes diverged') == 3


def test_where_there_is_nothing_to_learn_from_it_stops_and_keeps_theta(tmp_path):
    optimizer = replace(EXPERIMENT.optimizer, steps=300)
    experiment = replace(EXPERIMENT, circuit=OVERFLOWING, optimizer=optimizer, run=Run(steps_per_call=30))
    assert experiment.evaluation.monitor_every == 5
    start_run(tmp_path, experiment, given=None)
    for _ in range(2):  # a resumed run is stopped again, at once
        with pytest.raises(
            Diverged, match=f"no lifetime of the last {HOPELESS} meta-steps had a useful gradient"
        ) as caught:
            train(experiment, tmp_path, StopRequest(), SILENT)
        assert "\n" not in str(caught.value)
    initial = experiment.lifetime.init_theta(stream(run_key(EXPERIMENT.seed), Purpose.THETA))
    np.testing.assert_array_equal(load_theta(tmp_path, initial, {}), initial)
    rows = read_metrics(tmp_path)
    assert len(rows) == HOPELESS
    assert rows[-1]["trouble"].startswith("100% of lifetimes diverged in the last 20 meta-steps")
    assert np.abs(rows[-1]["theta"]).max() < 1e-30
