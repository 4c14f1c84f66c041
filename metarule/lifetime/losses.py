"""Losses of a step and of the network at the end of a lifetime, which make up the meta-loss."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metarule.protocols import ClosedLoop, OpenLoop, Recorded
from metarule.tasks.base import reaction_loss
from metarule.tasks.scores import scores_of
from metarule.types import (
    LOGITS,
    CircuitStep,
    LearnerState,
    LifetimeContext,
    Metrics,
    Reaction,
    Stimulus,
    Theta,
)

__all__ = ["final_loss", "online_loss", "step_loss"]


def step_loss(lifetime: Any, output: Float[Array, " outputs"], target: Float[Array, " targets"]) -> Float[Array, ""]:
    """Share of one output in an open loop in the meta-loss."""
    return lifetime.inner_loop.online_loss_weight / lifetime.steps * lifetime.tasks.loss(output, target)


def online_loss(
    lifetime: Any,
    context: LifetimeContext,
    state: LearnerState,
    stimulus: Stimulus,
    response: CircuitStep,
    reaction: Reaction | None,
) -> Float[Array, ""]:
    """Share of one step in the meta-loss.

    Args:
        lifetime: the learner.
        context: constants of the lifetime.
        state: state before the step.
        stimulus: stimulus of the step.
        response: response of the network.
        reaction: reaction of a task in a closed loop.
    """
    tasks = lifetime.tasks
    if reaction is not None:
        return reaction_loss(reaction) / lifetime.steps
    if isinstance(tasks, Recorded) and stimulus.observed is not None:
        predicted = tasks.predict(context.task, state.weights, response)
        return tasks.misfit(context.task, predicted, stimulus.observed) / lifetime.steps
    return step_loss(lifetime, response.output.astype(stimulus.target.dtype), stimulus.target)


def final_loss(
    lifetime: Any, theta: Theta, context: LifetimeContext, state: LearnerState
) -> tuple[Float[Array, ""], Metrics]:
    """Share of the final network in the meta-loss, and its metrics; see `Lifetime.evaluate`."""
    tasks, loss, l1 = lifetime.tasks, jnp.zeros(()), lifetime.inner_loop.l1
    if isinstance(tasks, ClosedLoop):
        scores = scores_of(tasks, tasks.scores(context.task, state.task), state.weights)
    else:
        assert isinstance(tasks, OpenLoop)
        examples = tasks.examples(context.task)
        outputs = jax.vmap(partial(lifetime.present, context, state))(examples).output.astype(examples.target.dtype)
        loss = (1 - lifetime.inner_loop.online_loss_weight) * jnp.mean(jax.vmap(tasks.loss)(outputs, examples.target))
        scores = scores_of(tasks, tasks.metrics(outputs, examples.target), (outputs, state.weights))
    if l1:
        loss += l1 * _penalty(lifetime.rule_theta(theta), lifetime.rule_theta(lifetime.theta_scale()))
    return loss, scores


def _penalty(theta: Theta, scale: Theta) -> Float[Array, ""]:
    """Σ|θ| / scale without the logits of decays."""
    leaves = zip(jax.tree.leaves_with_path(theta), jax.tree.leaves(scale), strict=True)
    sizes = [jnp.sum(jnp.abs(leaf) / size) for (path, leaf), size in leaves if LOGITS not in path]
    return jnp.sum(jnp.stack(sizes))
