"""Trial of a learner by tracing, which computes nothing."""

from typing import Any

import jax
import jax.numpy as jnp

from metarule.config.imports import located
from metarule.lifetime.learner import Lifetime
from metarule.prng import run_key
from metarule.tracing import memoised
from metarule.types import PRNGKey

__all__ = ["try_out"]


@memoised
def try_out(lifetime: Lifetime) -> None:
    """Trace a step and an evaluation, so that errors of users' own components show before anything is written.

    Raises:
        ValueError: parts that do not fit together, or an error of a component.
    """
    try:
        jax.eval_shape(lambda: _run(lifetime, run_key(0)))
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
    context, before = lifetime.init(key, task)
    stimulus = lifetime.stimulus(context, 0)
    _expect("tasks: the shape of the input of a stimulus", stimulus.input.shape, (tasks.inputs,))
    output = lifetime.circuit.step(before.weights, context.wiring, before.circuit, stimulus).output
    _expect("circuit: the shape of the output", output.shape, (tasks.outputs,))
    _expect("tasks: the shape of the loss", tasks.loss(output, stimulus.target).shape, ())
    after, _ = lifetime.step(lifetime.init_theta(key), context, before, stimulus)
    shapes = [str(jax.tree.map(jax.typeof, state)) for state in (after, before)]
    _expect("rule, circuit: the types of weights, memory and state after a step", *shapes)
    examples = tasks.examples(task)
    outputs = jnp.zeros((examples.input.shape[0], tasks.outputs))
    for name, value in tasks.metrics(outputs, examples.target).items():
        _expect(f"tasks: the shape of the metric '{name}'", value.shape, ())
    lifetime.evaluate(lifetime.init_theta(key), context, after)


def _expect(what: str, found: Any, needed: Any) -> None:
    """Refuse other shapes or types than are needed."""
    if found != needed:
        raise _Unfit(f"{what} = {found}; allowed: {needed}")
