"""Trial of a learner: by tracing, which computes nothing, and in users' own closed loops by a few steps."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from metarule.config.imports import is_users_own, located
from metarule.lifetime.closed_loop import respond, sense
from metarule.lifetime.learner import Lifetime
from metarule.prng import run_key
from metarule.protocols import ClosedLoop, OpenLoop, TaskFamily
from metarule.tasks.base import primary_metric, reaction_loss
from metarule.tracing import memoised
from metarule.types import Integer, LearnerState, Metrics, PRNGKey, Reaction, Stimulus

__all__ = ["try_out"]

# Most steps that are computed, and what is to be finite in them.
_STEPS = 20
_OF_CIRCUIT = ("circuit: the output", "circuit: log_probability")
_FINITE = (
    "tasks: the scores",
    "tasks: the input that sense returns",
    *_OF_CIRCUIT,
    "tasks: the reward",
    "tasks: the loss",
)


@memoised
def try_out(lifetime: Lifetime) -> None:
    """Trace a step and an evaluation, so that errors of users' own components show before anything is written.

    A few steps of a user's own closed loop are computed, too, in a network whose weights do not change.

    Raises:
        ValueError: parts that do not fit together, an error of a component, or a reaction that is not finite.
    """
    try:
        jax.eval_shape(lambda: _run(lifetime, run_key(0)))
        if isinstance(lifetime.tasks, ClosedLoop) and is_users_own(type(lifetime.tasks)):
            _check_finite(jax.device_get(jax.jit(lambda key: _react(lifetime, key))(run_key(0))))
    except _Unfit:
        raise
    except Exception as error:  # of any kind: it comes of a user's own code
        raise ValueError(f"rule, circuit, tasks: a lifetime cannot be traced: {located(error)}") from error


class _Unfit(ValueError):
    """Parts that do not fit together, with the reason."""


def _run(lifetime: Lifetime, key: PRNGKey) -> None:
    """A step and an evaluation, whose parts are checked as they are traced."""
    tasks, split = lifetime.tasks, lifetime.tasks.split(0)
    theta = lifetime.rule.init(key)
    leaves = jax.tree.leaves(theta)
    if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise _Unfit(f"rule: θ = {jax.typeof(theta) if len(leaves) == 1 else theta}; allowed: arrays of floats")
    task, _ = tasks.sample(key, split.train, 0), tasks.sample(key, split.test, 0)
    context, before = lifetime.init(lifetime.init_theta(key), key, task)
    stimulus = lifetime.stimulus(context, 0)
    _expect("tasks: the shape of the input of a stimulus", stimulus.input.shape, (tasks.inputs,))
    if isinstance(tasks, ClosedLoop):
        _expect("tasks: the shape of the target of a stimulus", jnp.shape(stimulus.target), (tasks.outputs,))
    response = lifetime.circuit.step(before.weights, context.wiring, before.circuit, stimulus)
    output, log_probability = response.output, response.log_probability
    _expect("circuit: the shape of the output", output.shape, (tasks.outputs,))
    if lifetime.samples and log_probability is not None:
        _expect("circuit: the shape of log_probability", jnp.shape(log_probability), ())
    if isinstance(tasks, ClosedLoop):
        _check_closed(tasks, task, before.task, stimulus, key)
    elif isinstance(tasks, OpenLoop):
        _check_open(tasks, task, output, stimulus)
    after, _ = lifetime.step(lifetime.init_theta(key), context, before, stimulus)
    _expect_kinds("rule, circuit: weights, memory and state after a step", after, before)
    lifetime.evaluate(lifetime.init_theta(key), context, after)


def _check_open(tasks: OpenLoop, task: Any, output: Any, stimulus: Stimulus) -> None:
    """Refuse losses and metrics of other shapes."""
    _expect("tasks: the shape of the loss", tasks.loss(output, stimulus.target).shape, ())
    examples = tasks.examples(task)
    outputs = jnp.zeros((examples.input.shape[0], tasks.outputs))
    _check_scalars(tasks, "metrics", tasks.metrics(outputs, examples.target))


def _check_closed(tasks: ClosedLoop, task: Any, state: Any, stimulus: Stimulus, key: PRNGKey) -> None:
    """Refuse stimuli, states, reactions and scores of other shapes or types."""
    for path, leaf in jax.tree.leaves_with_path(state):
        if not hasattr(leaf, "dtype") or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            found = f"state{jax.tree_util.keystr(path)} = {_kind(leaf)}"
            raise _Unfit(f"tasks: start returns {found}; allowed: arrays of numbers, such as jnp.zeros(())")
    sensed = tasks.sense(task, state, stimulus._replace(key=None))
    if not isinstance(sensed, Stimulus):
        raise _Unfit(f"tasks: sense returns a {type(sensed).__name__}; allowed: a Stimulus")
    _expect("tasks: the shape of the input that sense returns", sensed.input.shape, (tasks.inputs,))
    _expect("tasks: the shape of the target that sense returns", jnp.shape(sensed.target), (tasks.outputs,))
    reaction = tasks.react(task, state, jnp.zeros(tasks.outputs), key)
    if not isinstance(reaction, Reaction):
        raise _Unfit(f"tasks: react returns a {type(reaction).__name__}; allowed: a Reaction")
    _expect_kinds("tasks: state that react returns", reaction.state, state)
    loss = reaction.reward if reaction.loss is None else reaction.loss
    for name, value in (("reward", reaction.reward), ("loss", loss)):
        is_number = hasattr(value, "dtype") or isinstance(value, int | float)
        if not is_number or not jnp.issubdtype(jnp.result_type(value), jnp.number):
            raise _Unfit(f"tasks: the {name} that react returns = {_kind(value)}; allowed: a number")
        _expect(f"tasks: the shape of the {name}", jnp.shape(value), ())
    if reaction.target is not None:
        _expect("tasks: the shape of the target", jnp.shape(reaction.target), (tasks.outputs,))
    _check_scalars(tasks, "scores", tasks.scores(task, state))


def _react(lifetime: Lifetime, key: PRNGKey) -> tuple[Float[Array, "steps ..."], ...]:
    """What is to be finite in each of some steps, in the order of `_FINITE`."""
    tasks: Any = lifetime.tasks
    context, start = lifetime.init(lifetime.init_theta(key), key, tasks.sample(key, tasks.split(0).train, 0))

    def step(state: LearnerState, t: Integer) -> tuple[LearnerState, tuple[Array, ...]]:
        stimulus = lifetime.stimulus(context, t)
        response, reaction, _ = respond(lifetime, context, state, stimulus)
        assert reaction is not None
        scores = jnp.stack([*map(jnp.asarray, tasks.scores(context.task, state.task).values())])
        sensed = sense(tasks, context.task, state.task, stimulus).input
        log_probability = jnp.zeros(()) if response.log_probability is None else response.log_probability
        seen = scores, sensed, response.output, log_probability, reaction.reward, reaction_loss(reaction)
        return state._replace(circuit=response.state, task=reaction.state), seen

    return jax.lax.scan(step, start, jnp.arange(min(lifetime.steps, _STEPS)))[1]


def _check_finite(seen: tuple[Float[np.ndarray, "steps ..."], ...]) -> None:
    """Refuse the first step with a number that is not finite."""
    for t, values in enumerate(zip(*seen, strict=True)):
        for name, value in zip(_FINITE, values, strict=True):
            if not np.all(np.isfinite(value)):
                raise _Unfit(f"{name} at step {t} = {value}; allowed: finite numbers")


def _check_scalars(tasks: TaskFamily, member: str, metrics: Metrics) -> None:
    """Refuse metrics that are no scalars by name, or lack the primary one."""
    if not isinstance(metrics, Mapping) or not metrics:
        raise _Unfit(f"tasks: {member} returns {metrics}; allowed: scalars by name, at least one")
    for name, value in metrics.items():
        _expect(f"tasks: the shape of the metric '{name}'", jnp.shape(value), ())
    if (name := primary_metric(tasks)) not in metrics:
        raise _Unfit(f"tasks.primary_metric = '{name}'; allowed: {', '.join(metrics)}")


def _expect_kinds(what: str, found: Any, needed: Any) -> None:
    """Refuse arrays of other names, shapes or types than are needed, naming the first."""
    one, other = (
        {jax.tree_util.keystr(path): _kind(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (found, needed)
    )
    for path in {**other, **one}:
        _expect(f"{what}: {path or 'it'}", one.get(path, "nothing"), other.get(path, "nothing"))
    _expect(what, jax.tree.structure(found), jax.tree.structure(needed))


def _kind(leaf: Any) -> str:
    """Type and shape of an array, or a value that is none."""
    return f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "dtype") else repr(leaf)


def _expect(what: str, found: Any, needed: Any) -> None:
    """Refuse other shapes or types than are needed."""
    if found != needed:
        raise _Unfit(f"{what} = {found}; allowed: {needed}")
