"""A new task: rule steps and θ steps alternate on it, and the weights are not drawn again."""

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

from metarule.analysis.evaluation import Curves, over_lifetimes
from metarule.config.schema import Checked
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.unroll import unroll
from metarule.meta.transforms import Arguments, clip_by_norm, make_transform
from metarule.parallel.devices import sharded_jit
from metarule.tasks.base import primary_metric, task_id
from metarule.types import Integer, LearnerState, Metrics, PRNGKey, Theta

__all__ = ["Adaptation", "Adapted", "TunedAdaptation", "adapt", "adaptation_curves", "tune_adaptation"]

Scalar = Float[Array, ""]

# Learning rates of θ among which the best is picked.
_RATES = 10.0 ** np.linspace(-4, -1, 7)


class Adaptation(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How θ moves while a network learns.

    Attributes:
        window: steps between two steps of θ.
        name: optimiser of Optax.
        arguments: its arguments besides the learning rate.
        clip: largest norm of the gradient.

    Raises:
        ValueError: an optimiser that Optax does not have, or arguments that it does not take.
    """

    window: Annotated[int, Meta(ge=2, le=10_000_000, description="steps between two steps of theta")] = 10
    name: Annotated[str, Meta(description="optimiser of Optax")] = "adam"
    arguments: Annotated[Arguments, Meta(description="its arguments besides the learning rate")] = immutabledict()
    clip: Annotated[float, Meta(gt=0, description="largest norm of the gradient")] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.transform(1.0)

    def transform(self, rate: float | Scalar) -> optax.GradientTransformation:
        """What makes a step of θ of its gradient."""
        return optax.chain(clip_by_norm(self.clip), make_transform(self.name, rate, self.arguments))


class Adapted(NamedTuple):
    """How one task went.

    Attributes:
        theta: θ at the end.
        carry: the network at the end.
        losses: mean loss of the steps of each window, before the weights changed [windows].
        metrics: scores at birth and after each window, by name [windows + 1].
    """

    theta: Theta
    learner_state: LearnerState
    losses: Float[Array, " windows"]
    metrics: dict[str, Float[Array, " points"]]


class TunedAdaptation(NamedTuple):
    """Outcome of tuning the learning rate of θ.

    Attributes:
        rate: the best.
        rates: every rate that was tried.
        scores: of each, the mean at the end of the lifetime on training tasks.
        lifetimes: what the tuning cost.
    """

    rate: float
    rates: tuple[float, ...]
    scores: tuple[float, ...]
    lifetimes: int


def adapt(
    lifetime: Lifetime, theta: Theta, task: Any, key: PRNGKey, adaptation: Adaptation, rate: float | Scalar
) -> Adapted:
    """Learn one task, and the rule on it.

    From weights w₀ that are drawn once, window after window k of steps:

        wₖ₊₁ = the weights after the window under θₖ
        θₖ₊₁ = θₖ + u ∘ Optax(u ∘ ∂/∂θ mean loss of its steps; rate)

    The gradient is that through the window, from its first weights on; u are the units of θ. The loss is that of the
    steps alone, each before the weights change, so that the assessed examples decide nothing. A θ-step whose
    gradient is not finite is left out. With rate 0 the rule is frozen.

    It is a pure function, to be jitted, vmapped and differentiated.

    Args:
        lifetime: who lives; its lifetime is cut into windows.
        theta: θ to begin with.
        task: the task.
        key: decides the weights.
        adaptation: how θ moves.
        rate: learning rate of θ.

    Returns:
        How it went.

    References:
        S. Bengio, Y. Bengio, J. Cloutier, J. Gecsei, "On the Optimization of a Synaptic Learning Rule", 1992.
    """
    window, theta_scale = adaptation.window, lifetime.theta_scale()
    # What is assessed at the end of a lifetime does not count here.
    seen_alone = replace(lifetime.inner_loop, online_loss_weight=1.0, l1=0.0)
    learner, transform = replace(lifetime, inner_loop=seen_alone), adaptation.transform(rate)
    context, learner_state = lifetime.init(key, task)

    def through(theta: Theta, learner_state: LearnerState, start: Integer) -> tuple[Scalar, LearnerState]:
        learner_state, seen = unroll(learner, theta, context, learner_state, start + jnp.arange(window))
        return jnp.sum(seen.loss) * (lifetime.steps / window), learner_state

    def one(
        state: tuple[Theta, LearnerState, Any], start: Integer
    ) -> tuple[tuple[Theta, LearnerState, Any], tuple[Scalar, Metrics]]:
        theta, learner_state, optimizer = state
        (loss, learner_state), gradient = jax.value_and_grad(through, has_aux=True)(theta, learner_state, start)
        gradient = jax.tree.map(jnp.multiply, theta_scale, gradient)
        updates, moved = transform.update(gradient, optimizer, jax.tree.map(jnp.divide, theta, theta_scale))
        there = jax.tree.map(lambda leaf, unit, update: leaf + unit * update, theta, theta_scale, updates)
        finite = jnp.isfinite(optax.tree.norm(gradient))
        theta, optimizer = jax.tree.map(partial(jnp.where, finite), (there, moved), (theta, optimizer))
        return (theta, learner_state, optimizer), (loss, lifetime.evaluate(theta, context, learner_state)[1])

    born = lifetime.evaluate(theta, context, learner_state)[1]
    state = (theta, learner_state, transform.init(theta))
    (theta, learner_state, _), (losses, scores) = jax.lax.scan(one, state, _starts(lifetime, adaptation))
    metrics = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), born, scores)
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

    Given the same key, the tasks, orders and initial weights are those of `metarule.analysis.evaluation.learning_curves`.

    Args:
        lifetime: who lives.
        theta: θ to begin with.
        pool: tasks.
        key: decides weights, orders and whatever else is drawn.
        lifetimes: how many networks.
        adaptation: how θ moves.
        rate: learning rate of θ.
        tasks: how many tasks of the pool are met; None for as many as there are.

    Returns:
        The curves, at birth and after each window.
    """

    def one_lifetime(number: Integer) -> tuple[dict[str, Float[Array, " points"]], Int[Array, ""]]:
        task_key, lifetime_key = jax.random.split(jax.random.fold_in(key, number))
        index = number if tasks is None else number % tasks
        task = lifetime.tasks.sample(task_key, pool, index)
        adapted = adapt(lifetime, theta, task, lifetime_key, adaptation, rate)
        return adapted.metrics, jnp.asarray(task_id(lifetime.tasks, pool, index))

    ends = jnp.append(_starts(lifetime, adaptation), lifetime.steps)
    metrics, task = over_lifetimes(one_lifetime, lifetimes)
    return Curves(ends, metrics, task)


def tune_adaptation(
    lifetime: Lifetime, theta: Theta, pool: Any, key: PRNGKey, budget: int, adaptation: Adaptation
) -> TunedAdaptation:
    """Pick the learning rate of θ with the best mean score at the end of the lifetime, among seven over three decades.

    Args:
        lifetime: who lives.
        theta: θ to begin with.
        pool: training tasks.
        key: decides the lifetimes; every rate is given the same ones.
        budget: lifetimes in all.
        adaptation: how θ moves.

    Returns:
        The best rate, and all that were tried.
    """
    lifetimes = max(budget // _RATES.size, 1)

    def score(rate: float) -> float:
        seen = adaptation_curves(lifetime, theta, pool, key, lifetimes, adaptation, rate).metrics[
            primary_metric(lifetime.tasks)
        ]
        return float(jnp.mean(seen[:, -1]))

    rates = tuple(_RATES.tolist())
    scores = tuple(map(score, rates))
    best = max(range(len(rates)), key=lambda number: scores[number] if math.isfinite(scores[number]) else -math.inf)
    return TunedAdaptation(rates[best], rates, scores, lifetimes * len(rates))


def _starts(lifetime: Lifetime, adaptation: Adaptation) -> Int[Array, " windows"]:
    """First step of each window."""
    if lifetime.steps % adaptation.window:
        raise ValueError(
            f"inner_loop.steps = {lifetime.steps}: a lifetime is cut into windows of {adaptation.window}; "
            f"allowed: multiples of {adaptation.window}"
        )
    return jnp.arange(0, lifetime.steps, adaptation.window)
