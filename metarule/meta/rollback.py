"""Rollback of meta-steps that make lifetimes diverge."""

import math
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.lifetime.initial import with_scaled_rule
from metarule.lifetime.unroll import either
from metarule.types import Theta

__all__ = ["BatchSummary", "Iterate", "Rollback", "RollbackState"]

# A rejected step halves the next ones, down to the shortest; each accepted step lengthens them again.
_SHORTER, _LONGER, _SHORTEST = 0.5, 2 ** (1 / 8), 2.0**-10
# Factor by which a useless θ shrinks, and number of useful θ that are tried: from the initial θ, and from a later one,
# which shrinks by at most so many factors.
_FAR, _FAR_TRIED = 0.25, 8
_NEAR, _NEAR_TRIED, _NEAR_MOST = 0.7, 4, 16
# Averages run over about this many meta-steps; the spread of meta-losses is at least this share of the typical one.
_MEMORY, _MIN_SPREAD = 10, 1e-3


class Iterate(NamedTuple):
    """θ, and the state of the Optax transformation that belongs to it."""

    theta: Theta
    optimizer: Any


class BatchSummary(NamedTuple):
    """Summary of the lifetimes of a meta-step.

    Attributes:
        loss: mean meta-loss of the finite lifetimes.
        error: its standard error.
        diverged: share of lifetimes that diverged.
        useless: share of lifetimes without a useful gradient.
    """

    loss: Float[Array, ""]
    error: Float[Array, ""]
    diverged: Float[Array, ""]
    useless: Float[Array, ""]


class Typical(NamedTuple):
    """Typical meta-loss; NaN before the first one.

    Attributes:
        loss: moving average that follows decreases of the meta-loss, and does not creep up.
        spread: moving average of the change from one meta-step to the next; at first the standard error of the first.
        last: the last meta-loss.
    """

    loss: Float[Array, ""]
    spread: Float[Array, ""]
    last: Float[Array, ""]


class Shrinkage(NamedTuple):
    """Search for a useful θ between a useless θ and 0.

    Attributes:
        factors: number of factors by which the present θ is smaller than that one; -1 after a search in vain, until
            lifetimes are useful again.
        tried: number of useful θ so far.
        best: lowest meta-loss among them.
        best_factors: number of factors of that θ.
    """

    factors: Int[Array, ""]
    tried: Int[Array, ""]
    best: Float[Array, ""]
    best_factors: Int[Array, ""]


class RollbackState(NamedTuple):
    """State of a rollback.

    Attributes:
        good: the last good iterate; the initial one until there is one.
        proven: true once there was a good iterate.
        returned: true if θ has just been rolled back.
        scale: length of steps, as a share of the optimiser's.
        typical: the typical meta-loss.
        shrinkage: search for a useful θ.
    """

    good: Iterate
    proven: Bool[Array, ""]
    returned: Bool[Array, ""]
    scale: Float[Array, ""]
    typical: Typical
    shrinkage: Shrinkage


class Rollback(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reject a step if lifetimes diverge, most gradients are zero, or the meta-loss jumps under the θ that it led to.

    θ is bad if     diverged lifetimes ≥ diverged · lifetimes   or   useless lifetimes ≥ useless · lifetimes
                    or   loss > typical + jump · max(spread, standard error)
    good:  θ ← θ + scale · step;  scale ← min(1, 2^(1/8) · scale)
    bad:   θ ← last good θ;       scale ← scale / 2

    If lifetimes diverge or are useless under the last good θ, too, it is at the edge of chaos, from where shorter steps
    do not lead away: θ ← 0.7 θ until four θ with useful lifetimes were tried, and training continues at the best of
    these, or at the last good θ if sixteen factors do not suffice. For the initial θ it is θ ← θ/4 until eight were
    tried. Decays, learned initial weights, the length of steps and the state of the optimiser stay those of the good θ.
    At the start the typical meta-loss is that of θ = 0, with the same initial weights, and until there is a good θ,
    lifetimes under a θ that is far worse count as useless.

    Where meta-losses are not comparable, as with several lengths of lifetime, the jump is infinite. The meta-step after
    a rollback is then always accepted, as its lifetimes may be longer.

    A lifetime diverged if its loss or gradient is not finite. It is useless if it diverged, or if its gradient is
    exactly zero though it has a loss, as when all weights are at their bounds. The training lifetimes of the next
    meta-step decide, so that the decision costs nothing and test tasks decide nothing.

    Attributes:
        diverged: share of diverged lifetimes from which a step is rejected.
        useless: share of useless lifetimes from which a step is rejected.
        jump: increase of the meta-loss over its typical value, in spreads, from which a step is rejected. A meta-loss
            that is as high under the last good θ becomes the typical one. With ∞ no jumps are counted, and good θ do
            not shrink.

    References:
        Levenberg 1944, Marquardt 1963 (a failed step is rejected and the next one is shorter).
    """

    diverged: Annotated[float, Meta(gt=0, le=1)] = 0.05
    useless: Annotated[float, Meta(gt=0, le=1)] = 0.5
    jump: Annotated[float, Meta(gt=0, extra={"infinite": True})] = 5.0

    def init(self, iterate: Iterate, idle: BatchSummary | None = None) -> RollbackState:
        """State before the first meta-step.

        `idle` summarises lifetimes under θ = 0, and is None where meta-losses are not comparable.
        """
        typical = _unknown() if idle is None else _first(idle)
        no = jnp.zeros((), bool)
        return RollbackState(iterate, no, no, jnp.ones(()), typical, _no_shrinkage())

    def move(
        self, state: RollbackState, present: Iterate, proposed: Iterate, batch: BatchSummary
    ) -> tuple[Iterate, RollbackState, Bool[Array, ""]]:
        """Accept the next step, or reject the last one.

        Args:
            state: state of the rollback.
            present: the present iterate.
            proposed: the next iterate of the optimiser, after a step shortened by `scale`.
            batch: lifetimes under the present θ.

        Returns:
            (next iterate, state, whether the step that led to the present θ was rejected).
        """
        typical = state.typical
        spread = jnp.maximum(typical.spread, _MIN_SPREAD * jnp.abs(typical.loss))
        jumped = batch.loss > typical.loss + self.jump * jnp.maximum(spread, batch.error)
        useful = (batch.diverged < self.diverged) & (batch.useless < self.useless) & (state.proven | ~jumped)
        shrinkage = _record(state.shrinkage, batch, useful)
        edge = state.returned & (state.shrinkage.factors == 0) & math.isfinite(self.jump)
        shrinks = (state.shrinkage.factors > 0) | ~useful & (edge | ~state.proven)
        bad = shrinks | ~state.returned & (~useful | jumped)
        accepted = (proposed, _accept(state, present, batch, jumped, useful))
        enough = shrinkage.tried >= jnp.where(state.proven, _NEAR_TRIED, _FAR_TRIED)
        enough |= state.proven & (shrinkage.factors >= _NEAR_MOST)
        started = either(enough, _start(state, shrinkage, batch), _shrink(state, shrinkage))
        rejected = either(shrinks, started, _reject(state))
        return *either(bad, rejected, accepted), bad

    def forget_typical(self, state: RollbackState, now: Bool[Array, ""]) -> RollbackState:
        """Forget the typical meta-loss and those of smaller θ, as where lifetimes get longer, if that is now."""
        shrinkage = either(now, _no_shrinkage()._replace(factors=state.shrinkage.factors), state.shrinkage)
        return state._replace(typical=either(now, _unknown(), state.typical), shrinkage=shrinkage)


def _accept(
    state: RollbackState, present: Iterate, batch: BatchSummary, jumped: Bool[Array, ""], useful: Bool[Array, ""]
) -> RollbackState:
    """Store the present iterate; a jumped meta-loss of the good θ itself becomes the typical one."""
    new = jumped | ~state.proven | jnp.isnan(state.typical.loss)
    known = either(new, _first(batch), state.typical)
    average = known.loss + (batch.loss - known.loss) / _MEMORY
    spread = known.spread + (jnp.abs(batch.loss - known.last) - known.spread) / _MEMORY
    good = state._replace(
        good=present,
        proven=jnp.ones((), bool),
        scale=jnp.minimum(1.0, _LONGER * state.scale),
        typical=Typical(jnp.minimum(known.loss, average), spread, batch.loss),
        shrinkage=_no_shrinkage(),
    )
    return either(useful, good, state)._replace(returned=jnp.zeros((), bool))


def _reject(state: RollbackState) -> tuple[Iterate, RollbackState]:
    """Return to the last good iterate, with shorter steps."""
    scale = jnp.maximum(_SHORTER * state.scale, _SHORTEST)
    return state.good, state._replace(returned=jnp.ones((), bool), scale=scale)


def _shrink(state: RollbackState, shrinkage: Shrinkage) -> tuple[Iterate, RollbackState]:
    """Move a useless θ one factor towards 0."""
    shrinkage = shrinkage._replace(factors=shrinkage.factors + 1)
    return _smaller(state, shrinkage.factors), state._replace(shrinkage=shrinkage)


def _start(state: RollbackState, shrinkage: Shrinkage, batch: BatchSummary) -> tuple[Iterate, RollbackState]:
    """Begin or continue training at the best of the smaller θ; at the last good θ if none was useful."""
    iterate, found = _smaller(state, shrinkage.best_factors), shrinkage.tried > 0
    return iterate, RollbackState(
        good=iterate,
        proven=jnp.ones((), bool),
        returned=~found,
        scale=state.scale,
        typical=either(found, _first(batch._replace(loss=shrinkage.best)), state.typical),
        shrinkage=_no_shrinkage()._replace(factors=jnp.where(found, 0, -1)),
    )


def _first(batch: BatchSummary) -> Typical:
    return Typical(batch.loss, batch.error, batch.loss)


def _unknown() -> Typical:
    return Typical(*[jnp.full((), jnp.nan, float)] * 3)


def _no_shrinkage() -> Shrinkage:
    none = jnp.zeros((), int)
    return Shrinkage(none, none, jnp.full((), jnp.inf, float), none)


def _record(shrinkage: Shrinkage, batch: BatchSummary, useful: Bool[Array, ""]) -> Shrinkage:
    """Count the present θ, if it is a smaller one and its lifetimes are useful."""
    counts = useful & (shrinkage.factors > 0)
    better = counts & (batch.loss < shrinkage.best)
    return shrinkage._replace(
        tried=shrinkage.tried + counts,
        best=jnp.where(better, batch.loss, shrinkage.best),
        best_factors=jnp.where(better, shrinkage.factors, shrinkage.best_factors),
    )


def _smaller(state: RollbackState, factors: Int[Array, ""]) -> Iterate:
    """The last good iterate with a rule that is smaller by some factors."""
    share = jnp.where(state.proven, _NEAR, _FAR) ** factors
    return state.good._replace(theta=with_scaled_rule(state.good.theta, share))
