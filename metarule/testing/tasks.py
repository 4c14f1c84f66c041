"""Contract of task families: `check_tasks(MyTasks())`."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from metarule.prng import run_key
from metarule.protocols import ClosedLoop, OpenLoop, TaskFamily
from metarule.tasks.base import min_steps, primary_metric, reaction_loss, task_id
from metarule.tasks.scores import DIVERGED
from metarule.tasks.subsets import shared_tasks
from metarule.testing.common import assert_equal_by_value, assert_one_trace, assert_precision, named, run_checks
from metarule.types import Integer, PRNGKey, Split, Stimulus

__all__ = ["TASK_CHECKS", "check_tasks"]


def check_tasks(tasks: Any, *, checks: Sequence[str] | None = None, seed: int = 0) -> None:
    """Check that a task family keeps the contract that metarule relies on.

    Args:
        tasks: a task family.
        checks: names of checks, all by default.
        seed: decides split, tasks and outputs.

    Raises:
        AssertionError: naming the family, the check that it fails, and how.
        RuntimeError: Python runs without assertions, so that nothing would be checked.
    """
    run_checks(tasks, TASK_CHECKS, checks, seed, type(tasks).__name__)


def _protocol(tasks: Any, seed: int) -> None:
    """It has every member, and is equal by value, so that equal families share compiled programs."""
    loop = ClosedLoop if hasattr(tasks, "react") else OpenLoop
    missing = [name for name in (*vars(TaskFamily), *vars(loop)) if name[0] != "_" and not hasattr(tasks, name)]
    assert not missing, f"it has no {', no '.join(missing)}"
    assert_equal_by_value(tasks)


def _shapes(tasks: Any, seed: int) -> None:
    """Stimuli and examples have as many inputs as the family says; losses and metrics are scalars."""
    stimulus, shown, loss, metrics = jax.eval_shape(partial(_results, tasks, seed), run_key(seed))
    assert stimulus.input.shape == (tasks.inputs,), (
        f"a stimulus has input {stimulus.input.shape}, not ({tasks.inputs},)"
    )
    name = "a sensed stimulus" if isinstance(tasks, ClosedLoop) else "an example"
    assert shown.input.shape[1:] == (tasks.inputs,), f"{name} has input {shown.input.shape[1:]}"
    targets = stimulus.target.shape, shown.target.shape[1:]
    assert targets[0] == targets[1], f"a stimulus has target {targets[0]}, {name} {targets[1]}"
    assert loss.shape == (), f"the loss has shape {loss.shape}"
    for name, value in metrics.items():
        assert value.shape == (), f"the metric '{name}' has shape {value.shape}"


def _metrics(tasks: Any, seed: int) -> None:
    """Loss and metrics are finite, the primary metric is one of them, and lies between 0 and 1."""
    _, _, loss, metrics = jax.jit(partial(_results, tasks, seed))(run_key(seed))
    assert np.isfinite(loss), f"the loss is {loss}"
    for name, value in metrics.items():
        assert np.isfinite(value), f"the metric '{name}' is {value}"
    assert DIVERGED not in metrics, f"'{DIVERGED}' is the name of a metric that every network has"
    name = primary_metric(tasks)
    assert name in metrics, f"the primary metric is '{name}'; its metrics are {', '.join(metrics)}"
    assert 0 <= float(metrics[name]) <= 1, f"the primary metric is {float(metrics[name])}; it lies between 0 and 1"


def _dtypes(tasks: Any, seed: int) -> None:
    """Stimuli, losses and metrics have the precision that JAX is set to."""
    assert_precision(lambda: jax.eval_shape(partial(_results, tasks, seed), run_key(seed)))


def _pools(tasks: Any, seed: int) -> None:
    """The seed of a split may be traced and vmapped; pools of equal shape come of every seed."""
    seeds = jnp.array([seed, seed + 1])
    together = jax.eval_shape(jax.vmap(tasks.split), seeds)
    each = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), together)
    chex.assert_trees_all_equal_shapes(jax.eval_shape(tasks.split, seeds[0]), each)


def _held_out(tasks: Any, seed: int) -> None:
    """Training and test pools share no task, unless the pools are the same."""
    split = _split(tasks, seed)
    pools = zip(jax.tree.leaves(split.train), jax.tree.leaves(split.test), strict=True)
    if all(_is_same(one, other) for one, other in pools):
        return
    shared, of = shared_tasks(tasks, split, seed)
    assert not shared, f"{shared} of {of} test tasks are training tasks"


@partial(jax.jit, static_argnums=0)
def _split(tasks: Any, seed: Integer) -> Split:
    return tasks.split(seed)


def _is_same(one: Any, other: Any) -> bool:
    """True if two arrays are equal; NaN is equal to NaN."""
    has_nan = jnp.issubdtype(one.dtype, jnp.inexact)
    return one.shape == other.shape and bool(jnp.array_equal(one, other, equal_nan=has_nan))


def _incidentals(tasks: Any, seed: int) -> None:
    """A task is decided by key, pool and number, and its id by pool and number."""
    split, sample = _split(tasks, seed), jax.jit(tasks.sample)
    one, again = (sample(run_key(seed), split.train, 1) for _ in range(2))
    chex.assert_trees_all_equal(one, again)
    ids = [int(task_id(tasks, split.train, jnp.asarray(1))) for _ in range(2)]
    assert ids[0] == ids[1], f"task 1 has the ids {ids[0]} and {ids[1]}"


def _one_trace(tasks: Any, seed: int) -> None:
    """Equal families share one compiled program."""
    with assert_one_trace(lambda tasks, key: _results(tasks, seed, key)) as run:
        for number in range(2):
            run(tasks, run_key(seed + number))


def _steps(tasks: Any, seed: int) -> None:
    """Stimuli are finite from the first step to beyond the minimum length; what is not observed is NaN."""
    length = 2 * min_steps(tasks) + 10

    def stimuli(key: PRNGKey) -> Stimulus:
        task = tasks.sample(key, tasks.split(seed).train, 0)
        stimuli = jax.vmap(lambda t: tasks.stimulus(task, t, jax.random.fold_in(key, t)))(jnp.arange(length))
        return stimuli._replace(observed=None)

    for leaf in jax.tree.leaves(jax.jit(stimuli)(run_key(seed))):
        assert np.all(np.isfinite(leaf)), "a stimulus is not finite"


def _reactions(tasks: Any, seed: int) -> None:
    """In a closed loop states keep their types, and sensed stimuli, rewards, losses and scores stay finite."""
    if not isinstance(tasks, ClosedLoop):
        return
    length = 2 * min_steps(tasks) + 50

    def run(key: PRNGKey) -> Any:
        task = tasks.sample(key, tasks.split(seed).train, 0)

        def step(state: Any, t: Any) -> tuple[Any, Any]:
            after, sensed, reaction = _one_step(tasks, task, state, t, jax.random.fold_in(key, t))
            return after, (sensed._replace(key=None), reaction, tasks.scores(task, after))

        start = tasks.start(task)
        return tasks.scores(task, start), jax.lax.scan(step, start, jnp.arange(length))[1]  # raises for other types

    for leaf in jax.tree.leaves(jax.jit(run)(run_key(seed))):
        assert np.all(np.isfinite(leaf)), "a sensed stimulus, a reaction or a score is not finite"


TASK_CHECKS = named(
    (_protocol, _shapes, _metrics, _dtypes, _pools, _held_out, _incidentals, _one_trace, _steps, _reactions)
)


def _one_step(tasks: ClosedLoop, task: Any, state: Any, t: Any, key: PRNGKey) -> tuple[Any, Stimulus, Any]:
    """State after a step with a random choice as output, the sensed stimulus, and (reward, loss, target)."""
    stimulus_key, output_key, reaction_key = jax.random.split(key, 3)
    sensed = tasks.sense(task, state, tasks.stimulus(task, t, stimulus_key))
    output = jax.nn.one_hot(jax.random.randint(output_key, (), 0, tasks.outputs), tasks.outputs)
    reaction = tasks.react(task, state, output, reaction_key)
    return reaction.state, sensed, (reaction.reward, reaction_loss(reaction), reaction.target)


def _results(tasks: Any, seed: int, key: PRNGKey) -> tuple[Stimulus, Stimulus, Any, Any]:
    """A stimulus, what is shown to the network, the loss, and the metrics, for random outputs.

    In an open loop the examples are shown, in a closed one the stimulus of a first step, along a leading axis of 1.
    """
    task = tasks.sample(key, tasks.split(seed).train, 0)
    if isinstance(tasks, ClosedLoop):
        after, sensed, (_, loss, _) = _one_step(tasks, task, tasks.start(task), 0, key)
        shown = jax.tree.map(lambda leaf: leaf[None], sensed)
        return tasks.stimulus(task, 0, key), shown, loss, tasks.scores(task, after)
    examples = tasks.examples(task)
    outputs = jax.nn.softmax(jax.random.normal(key, (examples.input.shape[0], tasks.outputs)))
    outputs = outputs if tasks.outputs > 1 else jax.random.uniform(key, outputs.shape)
    loss = tasks.loss(outputs[0], examples.target[0])
    return tasks.stimulus(task, 0, key), examples, loss, tasks.metrics(outputs, examples.target)
