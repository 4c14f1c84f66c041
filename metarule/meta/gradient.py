"""Gradient descent on θ: Optax moves θ by the mean of the θ-gradients of a batch of lifetimes."""

import math
from functools import partial
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from immutabledict import immutabledict
from jaxtyping import Array, Float, Int
from msgspec import Meta
from msgspec.structs import replace

from metarule.config.schema import Checked
from metarule.estimators import AnyEstimator, Auto, Reverse
from metarule.estimators.base import Windowed, gradient_chunk_size
from metarule.lifetime.initial import with_scaled_rule
from metarule.lifetime.unroll import either, lifetime_loss
from metarule.meta.batch_mean import robust_mean, standard_error
from metarule.meta.rollback import BatchSummary, Iterate, Rollback, RollbackState
from metarule.meta.training_tasks import Patience, TrainTasks, draw_lifetime
from metarule.meta.transforms import Arguments, Schedule, make_schedule, make_transform
from metarule.parallel.batching import batch_lifetimes
from metarule.parallel.devices import sharded_jit
from metarule.protocols import Estimator, Learner
from metarule.tasks.subsets import numbered
from metarule.types import Estimate, Info, Integer, PRNGKey, Theta

__all__ = ["Gradient", "GradientState", "scaled_steps"]


class GradientState(NamedTuple):
    """State of gradient descent; that of the estimator has a leading axis [lifetimes of a meta-step]."""

    step: Int[Array, ""]
    iterate: Iterate
    estimator: Any
    rollback: RollbackState


class Gradient(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="gradient"):
    """Move θ by the mean of the θ-gradients of a batch of lifetimes, each with its own task and network.

    gᵢ = s ∘ ∂lossᵢ/∂θ,  g = 1/N Σᵢ clip(gᵢ),  θ ← θ + scale · s ∘ Optax(clip(g))

    s is the parameter scale. Lifetimes whose loss or gradient is not finite are counted and left out of the mean. The
    rollback rejects bad steps, and shortens the next ones by `scale`.

    Attributes:
        steps: meta-steps of a run.
        batch_size: N, lifetimes of a meta-step, each with its own task.
        train_tasks: `all` tasks of the training pool, drawn at random, or a number of tasks that are used in turn.
        patience: meta-steps without a better score on validation tasks after which a run ends; 0 for none. These are
            a fifth of the training tasks, at most 256, and are scored every `evaluation.monitor_every` meta-steps.
        estimator: method that estimates the θ-gradient of a lifetime.
        name: optimiser of Optax.
        learning_rate: a number, or a schedule of Optax.
        arguments: further arguments of the optimiser.
        lifetime_clip: largest norm of the gradient of one lifetime.
        clip: largest norm of their mean.
        rollback: conditions under which a step is rejected.
        curriculum: length of lifetimes in each part of the run, as a share of a whole lifetime; all parts
            have the same number of meta-steps. A rule learned on short lifetimes seldom makes long ones chaotic.
        lengths: multiples of a lifetime, of which each meta-step draws one for all of its lifetimes, with equal
            chances: log-uniform for a geometric series; one given twice is drawn twice as often. A rule learned at one
            length often fails at longer ones. A longer lifetime counts by its length, so that baselines are tuned with
            as many steps. With several lengths the rollback ignores jumps of the meta-loss and never shrinks a good θ,
            and vmapped runs compute every length at every meta-step.

    Raises:
        ValueError: an optimiser that Optax does not have, or arguments that it does not take; several lengths for an
            estimator whose lifetimes continue from one meta-step to the next.

    References:
        S. Bengio, Y. Bengio, J. Cloutier, J. Gecsei, "On the Optimization of a Synaptic Learning Rule", 1992: one
        network a task, and the mean of their gradients.
    """

    OBSERVES: ClassVar[tuple[str, ...]] = ("gradient_norm", "median_lifetime_norm", "largest_lifetime_norm")

    steps: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 600
    batch_size: Annotated[int, Meta(ge=1, le=1_000_000)] = 64
    train_tasks: TrainTasks = "all"
    patience: Patience = 0
    estimator: Annotated[AnyEstimator, Meta(extra={"protocol": Estimator})] = Reverse()
    name: str = "adam"
    learning_rate: Annotated[float, Meta(gt=0)] | Schedule = 3e-3
    arguments: Arguments = immutabledict()
    lifetime_clip: Annotated[float, Meta(gt=0)] = 1.0
    clip: Annotated[float, Meta(gt=0)] = 1.0
    rollback: Rollback = Rollback()
    curriculum: Annotated[tuple[Annotated[float, Meta(gt=0, le=1)], ...], Meta(min_length=1)] = (1.0,)
    lengths: Annotated[tuple[Annotated[float, Meta(gt=0, le=1000)], ...], Meta(min_length=1, max_length=16)] = (1.0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lengths != (1.0,) and isinstance(self.estimator, Windowed):
            reason = "lifetimes continue from one meta-step to the next"
            raise ValueError(
                f"lengths = {list(self.lengths)}: {reason}; allowed: [1.0], or an estimator of whole lifetimes"
            )
        # Refuses what Optax does not take. Tracing computes nothing; each operation of a schedule would be compiled.
        jax.eval_shape(lambda step: self._transform(step).init(jnp.zeros(1)), jax.ShapeDtypeStruct((), "int32"))

    @property
    def comparable(self) -> bool:
        """True if meta-losses within one part of the curriculum are comparable."""
        return len(self.lengths) == 1 and not isinstance(self.estimator, Windowed)

    @property
    def ends(self) -> list[int]:
        """First meta-step after each part of the curriculum."""
        parts = len(self.curriculum)
        return [(number + 1) * self.steps // parts for number in range(parts)]

    def resolved(self, learner: Learner, runs: int = 1) -> tuple["Gradient", str]:
        """Choose the estimator if it is `auto`, for runs that share the memory.

        Returns:
            (optimiser, reason in one line, empty where the estimator was named).
        """
        if not isinstance(self.estimator, Auto):
            return self, ""
        longest = scaled_steps(learner.steps, max(self.lengths))
        estimator, reason = self.estimator.choose(learner.with_steps(longest), self.batch_size * runs)
        return replace(self, estimator=estimator), f"gradient by {reason}"

    def init(self, learner: Learner, pool: Any, theta: Theta, key: PRNGKey) -> GradientState:
        """State before the first meta-step; the key is for the estimator, and for the lifetimes under θ = 0."""
        estimator = self.resolved(learner)[0].estimator
        states = jax.vmap(lambda key: estimator.init(learner, theta, key))(jax.random.split(key, self.batch_size))
        iterate = Iterate(theta, self._transform().init(theta))
        idle = self._idle(learner, pool, theta, key) if self.comparable else None
        return GradientState(jnp.zeros((), int), iterate, states, self.rollback.init(iterate, idle))

    def step(self, learner: Learner, pool: Any, state: GradientState, key: PRNGKey) -> tuple[GradientState, Info]:
        """Take one meta-step; the key is the same at every meta-step, whose number is folded in here."""
        estimates, states = self._estimates(learner, pool, state, jax.random.fold_in(key, state.step))
        mean, finite, norms = robust_mean(estimates, self.lifetime_clip)
        proposed = self._next(learner.theta_scale(), state, mean)
        # The gradient of a window without loss is rightly zero.
        zero = finite & (norms == 0) & (estimates.loss != 0)
        diverged, useless = (jnp.mean(lifetimes.astype(norms.dtype)) for lifetimes in (~finite, ~finite | zero))
        batch = BatchSummary(mean.loss, standard_error(estimates.loss, finite), diverged, useless)
        rollback = self.rollback if self.comparable else replace(self.rollback, jump=math.inf)
        is_longer = jnp.any(state.step == jnp.array(self.ends))
        before = rollback.forget_typical(state.rollback, is_longer)
        iterate, rollback_state, rejected = rollback.move(before, state.iterate, proposed, batch)
        median, largest = jnp.nanmedian(jnp.where(finite, norms, jnp.nan)), jnp.max(jnp.where(finite, norms, 0.0))
        observed = (optax.tree.norm(mean.gradient), median, largest)
        info = Info(
            loss=mean.loss,
            metrics=mean.metrics,
            observed=dict(zip(self.OBSERVES, observed, strict=True)),
            lifetimes=jnp.asarray(self.batch_size),
            nonfinite_lifetimes=jnp.sum(~finite),
            zero_gradient_lifetimes=jnp.sum(zero),
            rejected=rejected,
            theta=iterate.theta,
        )
        return GradientState(state.step + 1, iterate, states, rollback_state), info

    def theta(self, state: GradientState) -> Theta:
        """θ of a state; the last good one, or the initial one, while smaller ones are tried."""
        is_shrinking = state.rollback.shrinkage.factors > 0
        return either(is_shrinking, state.rollback.good.theta, state.iterate.theta)

    def _estimates(self, learner: Learner, pool: Any, state: GradientState, key: PRNGKey) -> tuple[Estimate, Any]:
        """Estimates of a meta-step, in multiples of the parameter scale, and states of the estimator after it."""
        estimator = self.resolved(learner)[0].estimator
        lengths = [scaled_steps(learner.steps, multiple) for multiple in self.lengths]
        branches = sorted(set(lengths))  # one program for each length, of which one runs
        # The key of a number that no lifetime has.
        drawn = jax.random.randint(jax.random.fold_in(key, self.batch_size), (), 0, len(lengths))
        of_length = [
            partial(self._batch, learner.with_steps(n), pool, estimator, state.iterate.theta, key) for n in branches
        ]
        branch = jnp.array([branches.index(n) for n in lengths])[drawn]
        return jax.lax.switch(branch, of_length, state.step, state.estimator)

    def _batch(
        self, learner: Learner, pool: Any, estimator: Estimator, theta: Theta, key: PRNGKey, step: Integer, states: Any
    ) -> tuple[Estimate, Any]:
        """Estimates and states of the estimator for lifetimes of one length [lifetimes, …]."""
        scale = learner.theta_scale()

        def one_lifetime(number: Integer, state: Any) -> tuple[Estimate, Any]:
            task, lifetime_key = draw_lifetime(learner, pool, self.train_tasks, self.batch_size, step, number, key)
            estimate, after = estimator.estimate(learner, theta, task, state, lifetime_key)
            return estimate._replace(gradient=_times(scale, estimate.gradient)), after

        initial = jax.eval_shape(
            lambda key: learner.init(theta, key, learner.tasks.sample(key, *numbered(pool, 0)))[1], key
        )
        chunk_size = gradient_chunk_size(estimator, learner, initial)
        return batch_lifetimes(one_lifetime, chunk_size)(jnp.arange(self.batch_size), states)

    def _next(self, scale: Theta, state: GradientState, mean: Estimate) -> Iterate:
        """Iterate after a step of the optimiser, shortened by the rollback."""
        theta, optimizer = state.iterate
        scaled = jax.tree.map(jnp.divide, theta, scale)
        updates, optimizer = self._transform(state.step).update(mean.gradient, optimizer, scaled)
        step = jax.tree.map(lambda leaf: state.rollback.scale * leaf, _times(scale, updates))
        return Iterate(optax.apply_updates(theta, step), optimizer)

    def _idle(self, learner: Learner, pool: Any, theta: Theta, key: PRNGKey) -> BatchSummary:
        """Summary of lifetimes under θ = 0, where most rules change nothing; learned initial weights are those of θ."""

        def batch(pool: Any, zero: Theta, key: PRNGKey) -> Float[Array, " lifetimes"]:
            def one_lifetime(number: Integer) -> Float[Array, ""]:
                first = jnp.zeros((), int)
                task, lifetime_key = draw_lifetime(learner, pool, self.train_tasks, self.batch_size, first, number, key)
                return lifetime_loss(learner, zero, task, lifetime_key)[0]

            return batch_lifetimes(one_lifetime, self.batch_size)(jnp.arange(self.batch_size))

        losses = sharded_jit()(batch)(pool, with_scaled_rule(theta, jnp.zeros(())), key)
        none = jnp.zeros(())
        return BatchSummary(jnp.mean(losses), standard_error(losses, jnp.isfinite(losses)), none, none)

    def _transform(self, step: Integer = 0) -> optax.GradientTransformation:
        """The Optax transformation at a meta-step; rejected steps count for schedules, too."""
        rate = self.learning_rate
        rate = make_schedule(rate, self.steps)(step) if isinstance(rate, Schedule) else rate
        return optax.chain(optax.clip_by_global_norm(self.clip), make_transform(self.name, rate, self.arguments))


def scaled_steps(steps: int, share: float) -> int:
    """Length of a lifetime that is a multiple of another: at least one step."""
    return max(round(share * steps), 1)


def _times(scale: Theta, tree: Theta) -> Theta:
    return jax.tree.map(jnp.multiply, scale, tree)
