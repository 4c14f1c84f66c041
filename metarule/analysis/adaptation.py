"""Adaptation to a new task: steps of the rule alternate with updates of θ, with the same weights."""

import math
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from immutabledict import immutabledict
from jaxtyping import Array, Float, Int
from msgspec import Meta
from msgspec.structs import replace

from metarule.analysis.evaluation import Curves, map_lifetimes, sample_lifetime
from metarule.config.schema import Checked
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.score_function import score_term, to_go
from metarule.lifetime.unroll import unroll
from metarule.meta.transforms import Arguments, clip_by_norm, make_transform
from metarule.parallel.devices import sharded_jit
from metarule.tasks.base import primary_metric, task_id
from metarule.tasks.mixture import family_of
from metarule.types import Integer, LearnerState, Metrics, PRNGKey, Theta

__all__ = ["Adaptation", "Adapted", "TunedAdaptation", "adapt", "adaptation_curves", "tune_adaptation"]

Scalar = Float[Array, ""]
# θ, state of the network, and state of the optimiser of θ.
_State = tuple[Theta, LearnerState, Any]
# Learning rates of θ that tuning compares.
_RATES = 10.0 ** np.linspace(-4, -1, 7)


class Adaptation(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Updates of θ while a network learns.

    Attributes:
        window: steps between two updates of θ.
        name: Optax optimiser.
        arguments: its arguments besides the learning rate.
        clip: largest norm of the gradient.

    Raises:
        ValueError: an optimiser that Optax does not have, or arguments that it does not take.
    """

    window: Annotated[int, Meta(ge=2, le=10_000_000)] = 10
    name: str = "adam"
    arguments: Arguments = immutabledict()
    clip: Annotated[float, Meta(gt=0)] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.transform(1.0)

    def transform(self, rate: float | Scalar) -> optax.GradientTransformation:
        """Optax transformation from a gradient to an update of θ."""
        return optax.chain(clip_by_norm(self.clip), make_transform(self.name, rate, self.arguments))


class Adapted(NamedTuple):
    """Result of adaptation to one task.

    Attributes:
        theta: final θ.
        state: final state of the network.
        losses: mean loss of the steps of each window, before the weights change [windows].
        metrics: scores at step 0 and after each window, by name [windows + 1].
    """

    theta: Theta
    state: LearnerState
    losses: Float[Array, " windows"]
    metrics: dict[str, Float[Array, " points"]]


class TunedAdaptation(NamedTuple):
    """Result of tuning the learning rate of θ.

    Attributes:
        rate: best rate.
        rates: all rates.
        scores: mean score of each rate on training tasks, at the end of a lifetime.
        lifetimes: lifetimes used.
    """

    rate: float
    rates: tuple[float, ...]
    scores: tuple[float, ...]
    lifetimes: int


def adapt(
    lifetime: Lifetime, theta: Theta, task: Any, key: PRNGKey, adaptation: Adaptation, rate: float | Scalar
) -> Adapted:
    """Learn one task while θ adapts to it.

    From initial weights w₀, for each window k of steps:

        wₖ₊₁ = the weights after the window under θₖ
        θₖ₊₁ = θₖ + u ∘ Optax(u ∘ ∂/∂θ mean loss of its steps; rate)

    The gradient is that through the window, from its first weights, with the score-function term of the window where
    actions are sampled; u is the parameter scale. The loss of a step precedes its change of the weights, and the test
    examples do not affect θ. An update with a gradient that is not finite is skipped. With rate 0, θ is frozen. The
    function is pure; it can be jitted, vmapped and differentiated.

    Args:
        lifetime: the learner; its lifetime is divided into windows.
        theta: initial θ.
        task: the task.
        key: decides the weights.
        adaptation: updates of θ.
        rate: learning rate of θ.

    References:
        S. Bengio, Y. Bengio, J. Cloutier, J. Gecsei, "On the Optimization of a Synaptic Learning Rule", 1992.
    """
    window, theta_scale, starts = adaptation.window, lifetime.theta_scale(), _window_starts(lifetime, adaptation)
    # Only the losses of steps count, not the final loss on the examples.
    inner_loop = replace(lifetime.inner_loop, online_loss_weight=1.0, l1=0.0)
    learner, transform = replace(lifetime, inner_loop=inner_loop), adaptation.transform(rate)
    context, learner_state = lifetime.init(theta, key, task)

    def window_loss(theta: Theta, learner_state: LearnerState, start: Integer) -> tuple[Scalar, LearnerState]:
        learner_state, outputs = unroll(learner, theta, context, learner_state, start + jnp.arange(window))
        loss = jnp.sum(outputs.loss)
        if outputs.log_probability is not None:
            loss += score_term(to_go(outputs.loss), outputs.log_probability, None)
        return loss * (lifetime.steps / window), learner_state

    def one_window(state: _State, start: Integer) -> tuple[_State, tuple[Scalar, Metrics]]:
        theta, learner_state, opt_state = state
        (loss, learner_state), gradient = jax.value_and_grad(window_loss, has_aux=True)(theta, learner_state, start)
        gradient = jax.tree.map(jnp.multiply, theta_scale, gradient)
        updates, new_opt_state = transform.update(gradient, opt_state, jax.tree.map(jnp.divide, theta, theta_scale))
        new_theta = jax.tree.map(lambda leaf, scale, update: leaf + scale * update, theta, theta_scale, updates)
        finite = jnp.isfinite(optax.tree.norm(gradient))
        theta, opt_state = jax.tree.map(partial(jnp.where, finite), (new_theta, new_opt_state), (theta, opt_state))
        return (theta, learner_state, opt_state), (loss, lifetime.evaluate(theta, context, learner_state)[1])

    initial = lifetime.evaluate(theta, context, learner_state)[1]
    state = (theta, learner_state, transform.init(theta))
    (theta, learner_state, _), (losses, scores) = jax.lax.scan(one_window, state, starts)
    metrics = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), initial, scores)
    return Adapted(theta, learner_state, losses, metrics)


@sharded_jit("lifetime", "adaptation", "lifetimes")
def adaptation_curves(
    lifetime: Lifetime,
    theta: Theta,
    pool: Any,
    key: PRNGKey,
    lifetimes: int,
    adaptation: Adaptation,
    rate: float | Scalar,
    tasks: Integer | None = None,
) -> Curves:
    """Scores of many networks that adapt, each its own θ to its own task.

    Arguments are as of `adapt` and `metarule.analysis.evaluation.learning_curves`. With the same key, tasks, orders and
    initial weights are those of the latter.

    Returns:
        The curves, at step 0 and after each window.
    """

    def one_lifetime(number: Integer) -> tuple[dict[str, Float[Array, " points"]], Int[Array, ""], Any]:
        task, lifetime_key, index = sample_lifetime(lifetime, pool, key, number, tasks)
        adapted = adapt(lifetime, theta, task, lifetime_key, adaptation, rate)
        return adapted.metrics, jnp.asarray(task_id(lifetime.tasks, pool, index)), family_of(task)

    ends = jnp.append(_window_starts(lifetime, adaptation), lifetime.steps)
    return Curves(ends, *map_lifetimes(one_lifetime, lifetimes))


def tune_adaptation(
    lifetime: Lifetime, theta: Theta, pool: Any, key: PRNGKey, budget: int, adaptation: Adaptation
) -> TunedAdaptation:
    """Find the learning rate of θ with the best mean final score, among seven over three decades.

    Args:
        lifetime: the learner.
        theta: initial θ.
        pool: training tasks.
        key: decides the lifetimes, which are the same for every rate.
        budget: lifetimes in all.
        adaptation: updates of θ.
    """
    lifetimes = max(budget // _RATES.size, 1)

    def score(rate: float) -> float:
        curves = adaptation_curves(lifetime, theta, pool, key, lifetimes, adaptation, rate)
        return float(jnp.mean(curves.metrics[primary_metric(lifetime.tasks)][:, -1]))

    scores = {rate: score(rate) for rate in _RATES.tolist()}
    best = max(scores, key=lambda rate: scores[rate] if math.isfinite(scores[rate]) else -math.inf)
    return TunedAdaptation(best, tuple(scores), tuple(scores.values()), lifetimes * len(scores))


def _window_starts(lifetime: Lifetime, adaptation: Adaptation) -> Int[Array, " windows"]:
    """First step of each window."""
    if lifetime.steps % adaptation.window:
        raise ValueError(
            f"inner_loop.steps = {lifetime.steps}: a lifetime is divided into windows of {adaptation.window}; "
            f"allowed: multiples of {adaptation.window}"
        )
    return jnp.arange(0, lifetime.steps, adaptation.window)
