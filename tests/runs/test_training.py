import json
import shutil
from contextlib import suppress

import jax
import numpy as np
import pytest
from event_files import scalars
from msgspec.structs import replace
from small import EXPERIMENT

from metarule import Feedforward, Genetic, Persistent, Polynomial, Sequence, Truncated
from metarule.config.toml import ConfigError
from metarule.meta import train as pure
from metarule.prng import Purpose, run_key, stream
from metarule.runs.diagnosis import HOPELESS
from metarule.runs.directory import read_experiment, start_run
from metarule.runs.experiment import Run
from metarule.runs.loggers.session import opened_loggers
from metarule.runs.metrics import read_metrics
from metarule.runs.stopping import Diverged, Stopped, StopRequest
from metarule.runs.theta_files import flat_parameters, load_theta
from metarule.runs.training import train

SILENT = lambda step, row: None


def interrupt(path, last, experiment=EXPERIMENT):
    """Start a run and stop it after a meta-step; return the last one that was taken."""
    stop = StopRequest()
    start_run(path, experiment, given=None)
    with pytest.raises(Stopped) as caught:
        train(experiment, path, stop, lambda step, row: stop.ask(15) if step >= last else None)
    return caught.value.step


def uninterrupted(path, experiment=EXPERIMENT):
    start_run(path, experiment, given=None)
    return path, train(experiment, path, StopRequest(), SILENT)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return uninterrupted(tmp_path_factory.mktemp("complete"))


def test_every_meta_step_leaves_one_row(complete):
    path, trained = complete
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


def test_nothing_depends_on_the_steps_of_a_call(complete, tmp_path):
    _, trained = uninterrupted(tmp_path, replace(EXPERIMENT, run=replace(EXPERIMENT.run, steps_per_call=3)))
    np.testing.assert_array_equal(trained.theta, complete[1].theta)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (complete[0] / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"step": 1}, "missing required field `loss`"),
        ({"theta": "x"}, "Expected `array`, got `str`"),
        ({"theta": [0.0]}, "θ of another rule, which has 7 numbers"),
        ({"lifetimes": 0}, "Expected `int` >= 1"),
    ],
)
def test_metrics_that_were_changed_are_refused(row, message, complete, tmp_path):
    path = shutil.copytree(complete[0], tmp_path / "run")
    lines = (path / "metrics.jsonl").read_text().splitlines()
    first = row if len(row) == 1 and "step" in row else json.loads(lines[0]) | row
    (path / "metrics.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    with pytest.raises(ConfigError, match=f"metrics.jsonl: damaged: .*{message}"):
        train(EXPERIMENT, path, StopRequest(), SILENT)


def test_theta_learns_from_the_training_pool_alone(complete):
    context, optimizer = EXPERIMENT.lifetime, EXPERIMENT.optimizer
    split, key = context.tasks.split(EXPERIMENT.seed), run_key(EXPERIMENT.seed)
    expected, elsewhere = map(jax.jit(lambda pool: pure(context, optimizer, pool, key)[0]), split)
    np.testing.assert_allclose(complete[1].theta, expected, rtol=1e-5, atol=1e-7)
    assert not np.allclose(complete[1].theta, elsewhere, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("last", [0, 1, 6, 10])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(last, complete, tmp_path):
    path = tmp_path / "run"
    step = interrupt(path, last)
    assert last <= step < 12
    assert max([0, *(int(saved.stem) for saved in (path / "checkpoints").iterdir())]) == step
    resumed = train(EXPERIMENT, path, StopRequest(), SILENT)
    jax.tree.map(np.testing.assert_array_equal, (resumed.theta, resumed.initial), complete[1][:2])
    assert (path / "metrics.jsonl").read_text() == (complete[0] / "metrics.jsonl").read_text()


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
def test_the_state_of_any_optimizer_is_resumed_bit_for_bit(optimizer, tmp_path):
    experiment = replace(EXPERIMENT, optimizer=optimizer)
    _, expected = uninterrupted(tmp_path / "complete", experiment)
    interrupt(tmp_path / "resumed", 6, experiment)
    resumed = train(experiment, tmp_path / "resumed", StopRequest(), SILENT)
    np.testing.assert_array_equal(resumed.theta, expected.theta)


class Killed(BaseException):
    pass


def test_loggers_of_a_killed_and_resumed_run_agree_with_its_metrics(complete, tmp_path):
    experiment = replace(EXPERIMENT, run=replace(EXPERIMENT.run, loggers=("csv", "tensorboard")))

    def die(step, row):
        if step > 8:  # after the checkpoint of meta-step 6
            raise Killed

    for name, progress in (("whole", SILENT), ("killed", die)):
        start_run(tmp_path / name, experiment, given=None)
        with suppress(Killed), opened_loggers(experiment, tmp_path / name) as log:
            train(experiment, tmp_path / name, StopRequest(), progress, log)
    with opened_loggers(experiment, tmp_path / "killed") as log:
        theta = train(experiment, tmp_path / "killed", StopRequest(), SILENT, log).theta
    np.testing.assert_array_equal(theta, complete[1].theta)
    whole, killed = (tmp_path / name / "metrics.csv" for name in ("whole", "killed"))
    assert killed.read_bytes() == whole.read_bytes()
    events, rows = scalars(tmp_path / "killed" / "tensorboard"), read_metrics(tmp_path / "killed")
    assert events == scalars(tmp_path / "whole" / "tensorboard")
    assert list(events) == [row["step"] for row in rows]
    np.testing.assert_allclose([one["loss"] for one in events.values()], [row["loss"] for row in rows])
    assert [step for step, one in events.items() if "held_out/solved" in one] == [5, 10, 12]


def test_rows_after_the_last_checkpoint_are_computed_again(complete, tmp_path):
    path = tmp_path / "run"
    interrupt(path, 6)
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 7, "loss": -1.0}) + '\n{"step": 8, "lo')
    train(EXPERIMENT, path, StopRequest(), SILENT)
    assert (path / "metrics.jsonl").read_text() == (complete[0] / "metrics.jsonl").read_text()


def test_a_finished_run_is_not_run_again(complete):
    again = train(EXPERIMENT, complete[0], StopRequest(), SILENT)
    np.testing.assert_array_equal(again.theta, complete[1].theta)


@pytest.mark.parametrize(
    "damage", ["lose a row", "lose the file", "garble a row", "change the rule", "change the seed"]
)
def test_a_damaged_run_is_refused_in_one_line(damage, complete, tmp_path):
    path, experiment = tmp_path / "run", EXPERIMENT
    shutil.copytree(complete[0], path)
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
    with pytest.raises(ConfigError, match=r"metrics.jsonl: |checkpoints/12.npz: ") as caught:
        train(experiment, path, StopRequest(), SILENT)
    assert "\n" not in str(caught.value)


# Activities are beyond float32 after three layers, and no number after four.
OVERFLOWING = Feedforward(hidden=(8, 8, 8, 8), activation="identity", weight_scale=1e18)


def test_a_run_in_trouble_is_resumed_to_the_same_metrics(tmp_path):
    experiment = replace(EXPERIMENT, circuit=OVERFLOWING)
    uninterrupted(tmp_path / "complete", experiment)
    interrupt(tmp_path / "resumed", 6, experiment)
    train(experiment, tmp_path / "resumed", StopRequest(), SILENT)
    expected, resumed = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("complete", "resumed"))
    assert resumed == expected
    assert expected.count('"trouble": "100% of lifetimes diverged') == 3


def test_a_run_without_usable_lifetimes_stops_and_keeps_theta(tmp_path):
    optimizer = replace(EXPERIMENT.optimizer, steps=300)
    experiment = replace(EXPERIMENT, circuit=OVERFLOWING, optimizer=optimizer, run=Run(steps_per_call=30))
    assert experiment.evaluation.monitor_every == 5
    start_run(tmp_path, experiment, given=None)
    message = f"no lifetime of the last {HOPELESS} meta-steps had a useful gradient"
    for _ in range(2):  # a resumed run is stopped again, at once
        with pytest.raises(Diverged, match=message) as caught:
            train(experiment, tmp_path, StopRequest(), SILENT)
        assert "\n" not in str(caught.value)
    initial = experiment.lifetime.init_theta(stream(run_key(EXPERIMENT.seed), Purpose.THETA))
    np.testing.assert_array_equal(load_theta(tmp_path, initial, {}), initial)
    rows = read_metrics(tmp_path)
    assert len(rows) == HOPELESS
    assert rows[-1]["trouble"].startswith("100% of lifetimes diverged in the last 20 meta-steps")
    assert np.abs(rows[-1]["theta"]).max() < 1e-30
