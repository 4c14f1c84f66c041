"""The inner loop: a lifetime or a part of it, and its meta-loss."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from metarule.kernels import why_not
from metarule.lifetime.scans import loop
from metarule.lifetime.score_function import samples, score_term, to_go
from metarule.protocols import Learner
from metarule.types import Integer, LearnerState, LifetimeContext, Metrics, PRNGKey, ScanFn, StepOutput, Theta

__all__ = ["draw_index", "either", "is_compiled", "lifetime_loss", "meta_loss", "sampled_loss"]
__all__ += ["segment_loss", "step_at", "unroll"]


def step_at(
    learner: Learner, theta: Theta, context: LifetimeContext, state: LearnerState, t: Integer
) -> tuple[LearnerState, StepOutput]:
    """Step t of a lifetime with the stimulus of its task."""
    return learner.step(theta, context, state, learner.stimulus(context, t))


def unroll(
    learner: Learner,
    theta: Theta,
    context: LifetimeContext,
    state: LearnerState,
    ts: Int[Array, " n"],
    scan: ScanFn = loop,
) -> tuple[LearnerState, StepOutput]:
    """Run some steps of a lifetime.

    Args:
        learner: the learner.
        theta: θ.
        context: constants of the lifetime; the scan closes over them, because it copies what it carries.
        state: state before the first of the steps.
        ts: the steps [n].
        scan: runs the loop, and decides how it is differentiated.

    Returns:
        State after the last step, and the observables of each step [n, …].
    """
    return scan(lambda state, t: step_at(learner, theta, context, state, t), state, ts)


def is_compiled(learner: Learner, theta: Theta, context: LifetimeContext, state: LearnerState) -> bool:
    """True if the loop of a lifetime is compiled to one operation; its derivative is not if a state has integers."""
    return not why_not(lambda state, t: step_at(learner, theta, context, state, t), state, jnp.arange(learner.steps))


def segment_loss(
    learner: Learner,
    theta: Theta,
    context: LifetimeContext,
    state: LearnerState,
    start: Integer,
    length: int,
    scan: ScanFn = loop,
) -> tuple[Float[Array, ""], tuple[LearnerState, Metrics]]:
    """Share of a segment of a lifetime in the meta-loss, and (state after it, metrics of the network after it).

    Σ_t loss_t over the segment, plus the loss of the final evaluation if the lifetime ends with it

    The segment begins at step `start`, a multiple of `length`; the last segment of a lifetime may be shorter. The loop
    sums the losses, so that nothing is stored over time, unless actions are sampled: then the derivative has the
    score-function term for the losses of the segment.
    """
    if samples(learner):
        loss, (state, metrics, _) = sampled_loss(learner, theta, context, state, start, length, scan)
        return loss, (state, metrics)
    last = learner.steps - 1

    def step(carry: tuple[LearnerState, Array], t: Integer) -> tuple[tuple[LearnerState, Array], None]:
        state, total = carry
        state, output = step_at(learner, theta, context, state, t)
        return (state, total + output.loss), None

    def step_unless_over(carry: tuple[LearnerState, Array], t: Integer) -> tuple[tuple[LearnerState, Array], None]:
        after, _ = step(carry, jnp.minimum(t, last))
        return either(t <= last, after, carry), None

    body = step if learner.steps % length == 0 else step_unless_over
    (state, online), _ = scan(body, (state, jnp.zeros(())), start + jnp.arange(length))
    final, metrics = learner.evaluate(theta, context, state)
    return online + jnp.where(start + length > last, final, 0.0), (state, metrics)


def sampled_loss(
    learner: Learner,
    theta: Theta,
    context: LifetimeContext,
    state: LearnerState,
    start: Integer,
    length: int,
    scan: ScanFn = loop,
    baseline: Float[Array, " length"] | None = None,
) -> tuple[Float[Array, ""], tuple[LearnerState, Metrics, Float[Array, " length"]]]:
    """Compute `segment_loss` of a learner that samples, with the score-function term in its derivative.

    Args:
        learner: the learner.
        theta: θ.
        context: constants of the lifetime.
        state: state before the segment.
        start: first step.
        length: steps.
        scan: runs the loop.
        baseline: expected losses from each step on, independent of what is sampled there; None for 0.

    Returns:
        (share in the meta-loss, (state after the segment, metrics, losses from each step on)).
    """
    last = learner.steps - 1

    def step(state: LearnerState, t: Integer) -> tuple[LearnerState, tuple[Array, Array]]:
        after, output = step_at(learner, theta, context, state, jnp.minimum(t, last))
        inside = t <= last
        assert output.log_probability is not None
        seen = jnp.where(inside, output.loss, 0.0), jnp.where(inside, output.log_probability, 0.0)
        return either(inside, after, state), seen

    state, (losses, log_probabilities) = scan(step, state, start + jnp.arange(length))
    final, metrics = learner.evaluate(theta, context, state)
    final = jnp.where(start + length > last, final, 0.0)
    left = to_go(losses, final)
    loss = jnp.sum(losses) + final + score_term(left, log_probabilities, baseline)
    return loss, (state, metrics, left)


def either(condition: bool | Bool[Array, ""], one: Any, other: Any) -> Any:
    """The first of two pytrees if a condition holds, else the second."""
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), one, other)


def lifetime_loss(
    learner: Learner, theta: Theta, task: PyTree, key: PRNGKey, scan: ScanFn = loop
) -> tuple[Float[Array, ""], Metrics]:
    """Meta-loss of one lifetime on a task, and the metrics at its end."""
    context, state = learner.init(theta, key, task)
    loss, (_, metrics) = segment_loss(learner, theta, context, state, 0, learner.steps, scan)
    return loss, metrics


def meta_loss(learner: Learner, theta: Theta, pool: Any, key: PRNGKey) -> Float[Array, ""]:
    """Meta-loss of one lifetime, whose task and network the key draws from a pool, as of `learner.tasks.split`.

    Differentiate it by θ, and `vmap` it over keys for a batch of lifetimes.
    """
    index_key, task_key, lifetime_key = jax.random.split(key, 3)
    task = learner.tasks.sample(task_key, pool, draw_index(index_key))
    return lifetime_loss(learner, theta, task, lifetime_key)[0]


def draw_index(key: PRNGKey) -> Int[Array, ""]:
    """Draw the number of a task of a pool."""
    return jax.random.randint(key, (), 0, jnp.iinfo(jnp.int32).max)
