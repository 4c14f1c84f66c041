"""Gradient descent on θ: the mean of the θ-gradients of many lifetimes, handed to Optax."""

import math
from functools import partial
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from immutabledict import immutabledict
from jaxtyping import Array, Bool, Float, Int
from msgspec import Meta
from msgspec.structs import replace

from metarule.config.schema import Checked
from metarule.estimators import AnyEstimator, Auto, Reverse
from metarule.estimators.chunk_size import chunk_size
from metarule.lifetime.learner import LONGEST
from metarule.lifetime.unroll import lifetime_loss
from metarule.meta.rollback import Place, Rollback, RollbackState, Seen
from metarule.meta.training_tasks import TrainTasks, draw_lifetime
from metarule.meta.transforms import Arguments, Schedule, make_schedule, make_transform
from metarule.parallel.batching import batch_lifetimes
from metarule.parallel.devices import sharded_jit
from metarule.types import Estimate, Estimator, Info, Integer, Learner, Metrics, Phase, PRNGKey, Theta

__all__ = ["Gradient", "GradientState", "robust_mean", "standard_error"]


class GradientState(NamedTuple):
    """What gradient descent carries from one meta-step to the next.

    Attributes:
        step: meta-steps taken.
        place: θ, and the state of the Optax transformation.
        estimator: state of the estimator, a leading axis over the tasks of a meta-step.
        guard: what is remembered to take a bad step back.
    """

    step: Int[Array, ""]
    place: Place
    estimator: Any
    rollback: RollbackState


class Gradient(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="gradient"):
    """Move θ by the mean of the θ-gradients of several lifetimes, each on a task and a fresh network of its own.

    gᵢ = u ∘ ∂lossᵢ/∂θ,  g = 1/N Σᵢ clip(gᵢ),  θ ← θ + scale · u ∘ Optax(clip(g))

    u are the units of θ, so that a step is as large as each number of θ asks for.
    Lifetimes whose loss or gradient is not finite are left out of the mean and counted. A step that turns out badly is
    taken back by the guard, which then shortens those that follow by `scale`.

    Attributes:
        steps: meta-steps of a whole run.
        batch_size: N, lives a meta-step.
        train_tasks: how many training tasks there are: `all` that the training pool holds, drawn at random, or a
            number, and then these alone are met, in turn; a finite pool that holds fewer starts again.
        estimator: how the θ-gradient of one lifetime is found.
        name: optimiser of Optax.
        learning_rate: a number, or a schedule of Optax.
        arguments: other arguments of the optimiser.
        lifetime_clip: largest norm of the gradient of one lifetime.
        clip: largest norm of their mean.
        guard: when a step is taken back.
        curriculum: length of the lifetimes in each part of the run, as a share of a whole lifetime; the parts have as many
            meta-steps. A rule that was learned on short lifetimes seldom makes long ones chaotic.
        lengths: multiples of a lifetime, of which each meta-step draws one for all of its lifetimes, with equal
            chances: log-uniform where they are a geometric series, and one given twice is drawn twice as often. A rule
            that was learned at one length often fails at longer ones. A longer lifetime takes more time and counts by
            its length, so that baselines are tuned with as many steps. With several lengths the guard does not
            judge jumps of the meta-loss, and runs that are vmapped compute every length at every meta-step.

    Raises:
        ValueError: an optimiser that Optax does not have, or arguments that it does not take; other lengths for an
            estimator whose lifetimes go on from one meta-step to the next.

    References:
        S. Bengio, Y. Bengio, J. Cloutier, J. Gecsei, "On the Optimization of a Synaptic Learning Rule", 1992: the
        cycle of one network a task and the mean of their gradients.
    """

    OBSERVES: ClassVar[tuple[str, ...]] = ("gradient_norm", "median_task_norm", "largest_task_norm")

    steps: Annotated[int, Meta(ge=1, le=1_000_000_000, description="meta-steps of a whole run")] = 600
    batch_size: Annotated[int, Meta(ge=1, le=1_000_000, description="lives a meta-step, each on a task of its own")] = (
        64
    )
    train_tasks: TrainTasks = "all"
    estimator: Annotated[AnyEstimator, Meta(description="how the theta-gradient of one lifetime is found")] = Reverse()
    name: Annotated[str, Meta(description="optimiser of Optax")] = "adam"
    learning_rate: Annotated[
        Annotated[float, Meta(gt=0)] | Schedule, Meta(description="a number, or a schedule of Optax")
    ] = 3e-3
    arguments: Annotated[Arguments, Meta(description="other arguments of the optimiser")] = immutabledict()
    lifetime_clip: Annotated[float, Meta(gt=0, description="largest norm of the gradient of one lifetime")] = 1.0
    clip: Annotated[float, Meta(gt=0, description="largest norm of their mean")] = 1.0
    rollback: Annotated[Rollback, Meta(description="when a step is taken back")] = Rollback()
    curriculum: Annotated[
        tuple[Annotated[float, Meta(gt=0, le=1)], ...],
        Meta(min_length=1, description="length of lifetimes in each part of the run, as shares of a whole lifetime"),
    ] = (1.0,)
    lengths: Annotated[
        tuple[Annotated[float, Meta(gt=0, le=1000)], ...],
        Meta(min_length=1, max_length=16, description="multiples of a lifetime, one drawn for each meta-step"),
    ] = (1.0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lengths != (1.0,) and not self.estimator.whole:
            raise ValueError(
                f"lengths = {list(self.lengths)}: lifetimes go on from one meta-step to the next here; allowed: [1.0], "
                "or an estimator of whole lifetimes"
            )

        def made(step: Integer) -> Integer:
            self._transform(step)
            return step

        # Refuses what Optax does not take, and computes nothing: each operation of a schedule would be compiled.
        jax.eval_shape(made, jax.ShapeDtypeStruct((), "int32"))

    @property
    def lifetimes(self) -> int:
        """Lifetimes that a whole run costs, at most; counted as in `spent`."""
        return self.spent(self.steps)

    def spent(self, steps: int) -> int:
        """Lifetimes that so many meta-steps cost, at most; a longer one counts by its length, which is the expected."""
        longer = sum(self.lengths) / len(self.lengths)
        return math.ceil(steps * self.batch_size * self.estimator.lifetimes * longer)

    def phases(self, learner: Learner) -> tuple[Phase, ...]:
        """Who lives, part by part of a run.

        Args:
            learner: who lives whole lifetimes.

        Returns:
            The stages, in order; the last ends with the run.

        Raises:
            ValueError: lives that are too short for the tasks, or too long.
        """
        phases = [_scaled(learner.steps, share) for share in self.curriculum]
        shortest = _scaled(min(phases), min(self.lengths))
        longest = _scaled(max(phases), max(self.lengths))
        field = "curriculum" if self.lengths == (1.0,) else "lengths"
        given = f"optimizer.{field} = {list(getattr(self, field))}"
        if shortest < learner.tasks.min_steps:
            raise ValueError(
                f"{given}: its shortest lives have {shortest} steps; these tasks need at least "
                f"{learner.tasks.min_steps}"
            )
        if longest > LONGEST:
            raise ValueError(f"{given}: its longest lives have {longest} steps; allowed: up to {LONGEST}")
        return tuple(
            Phase(learner.with_steps(length), self, end) for length, end in zip(phases, self._ends, strict=True)
        )

    @property
    def comparable(self) -> bool:
        """Meta-losses can be compared where all are of whole lifetimes of one length."""
        return self.curriculum == (1.0,) and self._compares

    @property
    def _compares(self) -> bool:
        """Whether meta-losses of one part of the curriculum can be compared."""
        return len(self.lengths) == 1 and self.estimator.whole

    def decided(self, learner: Learner, runs: int = 1) -> tuple["Gradient", str]:
        """The same with a named way to the θ-gradient, and why where that was left open.

        Args:
            learner: who lives.
            runs: how many runs share the memory.

        Returns:
            (optimiser, reason in one line, empty where the estimator was named).
        """
        if not isinstance(self.estimator, Auto):
            return self, ""
        longest = _scaled(learner.steps, max(self.lengths))
        estimator, reason = self.estimator.choose(learner.with_steps(longest), self.batch_size * runs)
        return replace(self, estimator=estimator), f"gradient by {reason}"

    def remedies(self, learner: Learner) -> tuple[str, ...]:
        """What a person may try where too many lifetimes come to nothing."""
        shorter = "shorter lifetimes at first, --optimizer.curriculum '[0.1, 1.0]'"
        possible = self.curriculum == (1.0,) and 0.1 * learner.steps >= learner.tasks.min_steps
        return ("a smaller learning rate", shorter) if possible else ("a smaller learning rate",)

    def init(self, learner: Learner, pool: Any, theta: Theta, key: PRNGKey) -> GradientState:
        """State before the first meta-step.

        Args:
            learner: who lives.
            pool: training tasks.
            theta: initial θ.
            key: decides whatever the estimator draws, and the lifetimes that tell what doing nothing costs.

        Returns:
            The state.
        """
        estimator = self.decided(learner)[0].estimator
        states = jax.vmap(lambda key: estimator.init(learner, theta, key))(jax.random.split(key, self.batch_size))
        place = Place(theta, self._transform().init(theta))
        idle = self._idle(learner, pool, theta, key) if self._compares else None
        return GradientState(jnp.zeros((), int), place, states, self.rollback.init(place, idle))

    def step(self, learner: Learner, pool: Any, state: GradientState, key: PRNGKey) -> tuple[GradientState, Info]:
        """One meta-step.

        Args:
            learner: who lives.
            pool: training tasks.
            state: state before.
            key: the same at every meta-step; the number of the step is folded in here.

        Returns:
            State after, and what was observed.
        """
        step_key, theta_scale, here = jax.random.fold_in(key, state.step), learner.theta_scale(), state.place
        estimator = self.decided(learner)[0].estimator

        lengths = [_scaled(learner.steps, multiple) for multiple in self.lengths]
        branches = sorted(set(lengths))  # one program for each length, of which one alone runs
        # The key of a number that no lifetime has.
        drawn = jax.random.randint(jax.random.fold_in(step_key, self.batch_size), (), 0, len(lengths))
        unroll = [partial(self._live, learner.with_steps(n), pool, estimator, here.theta, step_key) for n in branches]
        branch = jnp.array([branches.index(n) for n in lengths])[drawn]
        estimates, states = jax.lax.switch(branch, unroll, state.step, state.estimator)
        mean, finite, norms = robust_mean(estimates, self.lifetime_clip)
        in_units = jax.tree.map(jnp.divide, here.theta, theta_scale)
        updates, optimizer = self._transform(state.step).update(mean.gradient, here.optimizer, in_units)
        step = jax.tree.map(lambda leaf: state.rollback.scale * leaf, _times(theta_scale, updates))
        there = Place(optax.apply_updates(here.theta, step), optimizer)
        # A window of a lifetime that has no loss rightly has no gradient.
        zero = finite & (norms == 0) & (estimates.loss != 0)
        diverged, useless = (jnp.mean(lifetimes.astype(norms.dtype)) for lifetimes in (~finite, ~finite | zero))
        seen = Seen(mean.loss, standard_error(estimates.loss, finite), diverged, useless)
        rollback = self.rollback if self._compares else replace(self.rollback, jump=math.inf)
        longer = jnp.any(state.step == jnp.array(self._ends))
        place, rollback_state, rejected = rollback.move(rollback.anew(state.rollback, longer), here, there, seen)
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
            theta=place.theta,
        )
        return GradientState(state.step + 1, place, states, rollback_state), info

    def theta(self, state: GradientState) -> Theta:
        """θ of a state; the last one that was good, where others are tried on the way towards 0."""
        retreating = state.rollback.retreat.factors > 0
        return jax.tree.map(
            lambda good, now: jnp.where(retreating, good, now), state.rollback.good.theta, state.place.theta
        )

    def moved(self, state: GradientState, theta: Theta) -> GradientState:
        """A state before the first meta-step with another θ."""
        place = Place(theta, self._transform().init(theta))
        return state._replace(place=place, rollback=state.rollback._replace(good=place))

    def _live(
        self, learner: Learner, pool: Any, estimator: Estimator, theta: Theta, key: PRNGKey, step: Integer, states: Any
    ) -> tuple[Estimate, Any]:
        """Estimates and states of the estimator after a meta-step of lifetimes of one length, a leading axis each."""
        theta_scale = learner.theta_scale()

        def one_lifetime(number: Integer, state: Any) -> tuple[Estimate, Any]:
            task, lifetime_key = draw_lifetime(learner, pool, self.train_tasks, self.batch_size, step, number, key)
            estimate, after = estimator.estimate(learner, theta, task, state, lifetime_key)
            return estimate._replace(gradient=_times(theta_scale, estimate.gradient)), after

        first = jax.eval_shape(lambda key: learner.init(key, learner.tasks.sample(key, pool, 0))[1], key)
        return batch_lifetimes(one_lifetime, chunk_size(estimator, learner, first))(jnp.arange(self.batch_size), states)

    def _idle(self, learner: Learner, pool: Any, theta: Theta, key: PRNGKey) -> Seen:
        """What is seen of lifetimes under θ = 0, where most rules do nothing."""

        def lifetimes(pool: Any, nothing: Theta, key: PRNGKey) -> Float[Array, " tasks"]:
            def one_lifetime(number: Integer) -> Float[Array, ""]:
                task, lifetime_key = draw_lifetime(
                    learner, pool, self.train_tasks, self.batch_size, jnp.zeros((), int), number, key
                )
                return lifetime_loss(learner, nothing, task, lifetime_key)[0]

            return batch_lifetimes(one_lifetime, self.batch_size)(jnp.arange(self.batch_size))

        losses = sharded_jit()(lifetimes)(pool, jax.tree.map(jnp.zeros_like, theta), key)
        finite = jnp.isfinite(losses)
        none = jnp.zeros(())
        return Seen(jnp.mean(losses), standard_error(losses, finite), none, none)

    @property
    def _ends(self) -> list[int]:
        """The first meta-step after each part of the curriculum."""
        parts = len(self.curriculum)
        return [(number + 1) * self.steps // parts for number in range(parts)]

    def _transform(self, step: Integer = 0) -> optax.GradientTransformation:
        """The transformation at a meta-step: schedules go by meta-steps, those that are taken back included."""
        rate = self.learning_rate
        rate = make_schedule(rate, self.steps)(step) if isinstance(rate, Schedule) else rate
        return optax.chain(optax.clip_by_global_norm(self.clip), make_transform(self.name, rate, self.arguments))


def _scaled(steps: int, share: float) -> int:
    return max(round(share * steps), 1)


def _times(theta_scale: Theta, tree: Theta) -> Theta:
    return jax.tree.map(jnp.multiply, theta_scale, tree)


def robust_mean(estimates: Estimate, clip: float) -> tuple[Estimate, Array, Float[Array, " tasks"]]:
    """Mean over lifetimes, each gradient clipped, without the lifetimes whose loss or gradient is not finite.

    g = Σᵢ∈F gᵢ·min(1, clip/‖gᵢ‖) / |F|,  F = lives that are finite

    Args:
        estimates: with a leading axis [tasks].
        clip: largest norm of one gradient.

    Returns:
        (mean estimate, which lifetimes are finite [tasks], norms before clipping [tasks]). With no finite life the loss
        is NaN and the gradient 0.
    """
    norms = jax.vmap(optax.tree.norm)(estimates.gradient)
    finite = jnp.isfinite(norms) & jnp.isfinite(estimates.loss)
    count = jnp.sum(finite)
    scale = jnp.where(finite, jnp.minimum(1.0, clip / jnp.maximum(norms, jnp.finfo(norms.dtype).tiny)), 0.0)

    def gradient_mean(leaf: Float[Array, "tasks ..."]) -> Float[Array, "..."]:
        kept = jnp.where(finite.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0.0)
        return jnp.tensordot(scale, kept, axes=1) / jnp.maximum(count, 1)

    def mean(values: Float[Array, " tasks"]) -> Float[Array, ""]:
        return jnp.sum(jnp.where(finite, values, 0.0)) / count

    metrics: Metrics = jax.tree.map(mean, estimates.metrics)
    return Estimate(mean(estimates.loss), jax.tree.map(gradient_mean, estimates.gradient), metrics), finite, norms


def standard_error(losses: Float[Array, " tasks"], finite: Bool[Array, " tasks"]) -> Float[Array, ""]:
    """Standard error of the mean of the losses that are finite; as large as that mean where there is one alone."""
    count = jnp.sum(finite)
    mean = jnp.sum(jnp.where(finite, losses, 0.0)) / count
    squares = jnp.sum(jnp.where(finite, (losses - mean) ** 2, 0.0))
    return jnp.where(count > 1, jnp.sqrt(squares / (count * jnp.maximum(count - 1, 1))), jnp.abs(mean))
