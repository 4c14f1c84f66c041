"""Steps of θ after which lifetimes go badly are taken back, and shorter ones are tried."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.types import LOGITS, Theta

__all__ = ["Place", "Rollback", "RollbackState", "Seen"]

# A step that is taken back halves those that follow, down to the shortest; each that goes well lengthens them again.
_SHORTER, _LONGER, _SHORTEST = 0.5, 2 ** (1 / 8), 2.0**-10
# On the way towards 0 each θ is this much of the last, and so many under which lifetimes are of use are tried: where
# something was good before it is near, where nothing was it may be decades away.
_NEAR, _NEAR_TRIED = 0.7, 4
_FAR, _FAR_TRIED = 0.25, 8
# Averages go over about this many meta-steps, and the spread of meta-losses is at least this share of what is typical.
_MEMORY, _LEAST = 10, 1e-3


class Place(NamedTuple):
    """Where an optimiser is.

    Attributes:
        theta: θ.
        optimizer: state of the Optax transformation there.
    """

    theta: Theta
    optimizer: Any


class Seen(NamedTuple):
    """What is seen of the lifetimes of a meta-step.

    Attributes:
        loss: mean meta-loss of those that were finite.
        error: its standard error.
        diverged: share that was not finite.
        useless: share that was of no use.
    """

    loss: Float[Array, ""]
    error: Float[Array, ""]
    diverged: Float[Array, ""]
    useless: Float[Array, ""]


class Retreat(NamedTuple):
    """The way from a place at which lifetimes are of no use towards 0.

    Attributes:
        factors: by how many factors the θ that is tried now is smaller.
        tried: θ on the way under which lifetimes were of use.
        best: lowest meta-loss under these.
        best_factors: by how many factors the θ was smaller under which it was seen.
    """

    factors: Int[Array, ""]
    tried: Int[Array, ""]
    best: Float[Array, ""]
    best_factors: Int[Array, ""]


class Typical(NamedTuple):
    """What meta-losses are like; NaN before there was one.

    Attributes:
        loss: moving average that falls with meta-losses, and does not creep up with them.
        spread: moving average of how much they change from one to the next; the standard error of the first at first.
        last: the last one.
    """

    loss: Float[Array, ""]
    spread: Float[Array, ""]
    last: Float[Array, ""]


class RollbackState(NamedTuple):
    """What a guard remembers.

    Attributes:
        good: the last place that was good; the first one until there is another.
        proven: whether there was one.
        returned: whether θ was just taken back to the last good place.
        scale: length of steps, as a share of what the optimiser asks for.
        typical: what meta-losses are like.
        retreat: the way towards 0, where θ is on it.
    """

    good: Place
    proven: Bool[Array, ""]
    returned: Bool[Array, ""]
    scale: Float[Array, ""]
    typical: Typical
    retreat: Retreat


class Rollback(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take a step back if under the θ that it led to lives diverge, most are of no use, or the meta-loss jumps.

    θ is bad where   lives that diverged ≥ diverged · lives   or   lives of no use ≥ useless · lives
                     or   loss > typical + jump · max(spread, standard error)
    good:  θ ← θ + scale · step;  scale ← min(1, 2^(1/8) · scale)
    bad:   θ ← last good θ;       scale ← scale / 2

    Where lives diverge or are of no use under the last good θ, too, it sits at the edge of chaos, where gradients are
    mostly noise, and from which shorter steps do not lead away. It is led towards 0, where most rules do nothing:
    θ ← 0.7·θ until four were tried under which lifetimes are of use, and training goes on from the best of these. Where
    nothing was good yet, it is θ ← θ/4, and eight. Decays stay as they are. Before anything was good, the typical
    meta-loss is what doing nothing costs, and lifetimes under a θ that is far worse are of no use, either.

    A life diverged if its loss or gradient is not finite. It is of no use if it diverged, or if its gradient is exactly
    zero though it has a loss, as when all weights sit at their bounds. What is judged are the training lifetimes of the
    next meta-step, so that a judgement costs nothing and test tasks decide nothing.

    Attributes:
        diverged: share of lifetimes that diverged where a step is taken back; with 1 that is all of them.
        useless: share of lifetimes of no use where it is.
        jump: how far above its typical value the meta-loss is where it is, in spreads. One that is as high under the
            last good θ, too, is the typical one from then on.

    References:
        Levenberg 1944, Marquardt 1963 (a step that fails is taken back and the next is shorter).
    """

    diverged: Annotated[
        float, Meta(gt=0, le=1, description="share of lifetimes that are not finite where a step is taken back")
    ] = 0.05
    useless: Annotated[
        float, Meta(gt=0, le=1, description="share of lifetimes not finite or without gradient where it is, too")
    ] = 0.5
    jump: Annotated[
        float,
        Meta(
            gt=0,
            description="spreads by which the meta-loss is above its typical value where it is, too",
            extra={"infinite": True},
        ),
    ] = 5.0

    def init(self, place: Place, idle: Seen | None = None) -> RollbackState:
        """What is remembered before the first meta-step.

        Args:
            place: where training is begun.
            idle: what is seen of lifetimes under θ = 0; None where their meta-loss cannot be compared.

        Returns:
            It.
        """
        typical = _unknown() if idle is None else _first(idle.loss, idle.error)
        return RollbackState(place, jnp.zeros((), bool), jnp.zeros((), bool), jnp.ones(()), typical, _no_retreat())

    def move(
        self, rollback_state: RollbackState, here: Place, there: Place, seen: Seen
    ) -> tuple[Place, RollbackState, Bool[Array, ""]]:
        """Go on, or go back.

        Args:
            rollback_state: what is remembered.
            here: where θ is.
            there: where the optimiser would have it next, its step already as long as `scale` says.
            seen: of the lifetimes here.

        Returns:
            (the next place, what is remembered there, whether the step that led here was taken back).
        """
        far_out = seen.loss > rollback_state.typical.loss + self.jump * jnp.maximum(
            _spread(rollback_state.typical), seen.error
        )
        of_use = (seen.diverged < self.diverged) & (seen.useless < self.useless) & (rollback_state.proven | ~far_out)
        retreat = _tried(rollback_state.retreat, seen, of_use)
        retreating = rollback_state.retreat.factors > 0
        arrived = retreat.tried >= jnp.where(rollback_state.proven, _NEAR_TRIED, _FAR_TRIED)
        bad = retreating | ~of_use | (far_out & ~rollback_state.returned)
        again = ~of_use & (rollback_state.returned | ~rollback_state.proven)
        on = (there, self._on(rollback_state, here, seen, far_out))
        back = _either(retreating | again, self._further(rollback_state, retreat), self._back(rollback_state))
        back = _either(arrived, self._arrived(rollback_state, retreat, seen), back)
        return *_either(bad, back, on), bad

    def anew(self, rollback_state: RollbackState, now: Bool[Array, ""]) -> RollbackState:
        """Forget what meta-losses were like, as where lifetimes get longer, if that is now."""
        return rollback_state._replace(typical=_either(now, _unknown(), rollback_state.typical))

    def _on(self, rollback_state: RollbackState, here: Place, seen: Seen, far_out: Bool[Array, ""]) -> RollbackState:
        """Here it is good; a loss that is far out all the same is that of the good θ itself."""
        new = far_out | ~rollback_state.proven | jnp.isnan(rollback_state.typical.loss)
        known = _either(new, _first(seen.loss, seen.error), rollback_state.typical)
        moved = known.loss + (seen.loss - known.loss) / _MEMORY
        changed = jnp.abs(seen.loss - known.last)
        return rollback_state._replace(
            good=here,
            proven=jnp.ones((), bool),
            returned=jnp.zeros((), bool),
            scale=jnp.minimum(1.0, _LONGER * rollback_state.scale),
            typical=Typical(
                jnp.minimum(known.loss, moved), known.spread + (changed - known.spread) / _MEMORY, seen.loss
            ),
        )

    def _back(self, rollback_state: RollbackState) -> tuple[Place, RollbackState]:
        """To the last good place, with shorter steps."""
        scale = jnp.maximum(_SHORTER * rollback_state.scale, _SHORTEST)
        return rollback_state.good, rollback_state._replace(returned=jnp.ones((), bool), scale=scale)

    def _further(self, rollback_state: RollbackState, retreat: Retreat) -> tuple[Place, RollbackState]:
        """A factor further towards 0 from the last good place."""
        onward = retreat._replace(factors=retreat.factors + 1)
        return _smaller(rollback_state, onward.factors), rollback_state._replace(retreat=onward)

    def _arrived(self, rollback_state: RollbackState, retreat: Retreat, seen: Seen) -> tuple[Place, RollbackState]:
        """At the best place of the way, from which training goes on."""
        place = _smaller(rollback_state, retreat.best_factors)
        return place, rollback_state._replace(
            good=place,
            proven=jnp.ones((), bool),
            returned=jnp.zeros((), bool),
            typical=_first(retreat.best, seen.error),
            retreat=_no_retreat(),
        )


def _spread(typical: Typical) -> Float[Array, ""]:
    return jnp.maximum(typical.spread, _LEAST * jnp.abs(typical.loss))


def _first(loss: Float[Array, ""], error: Float[Array, ""]) -> Typical:
    return Typical(loss, error, loss)


def _unknown() -> Typical:
    return Typical(*[jnp.full((), jnp.nan, float)] * 3)


def _no_retreat() -> Retreat:
    none = jnp.zeros((), int)
    return Retreat(none, none, jnp.full((), jnp.inf, float), none)


def _tried(retreat: Retreat, seen: Seen, of_use: Bool[Array, ""]) -> Retreat:
    """The way, with what is seen at the place on it."""
    counts = of_use & (retreat.factors > 0)
    better = counts & (seen.loss < retreat.best)
    return retreat._replace(
        tried=retreat.tried + counts,
        best=jnp.where(better, seen.loss, retreat.best),
        best_factors=jnp.where(better, retreat.factors, retreat.best_factors),
    )


def _smaller(rollback_state: RollbackState, factors: Int[Array, ""]) -> Place:
    """The last good place with a θ that is smaller by some factors."""
    share = jnp.where(rollback_state.proven, _NEAR, _FAR) ** factors

    def shrink(path: Any, leaf: Float[Array, "..."]) -> Float[Array, "..."]:
        return leaf if LOGITS in path else leaf * share.astype(leaf.dtype)

    return rollback_state.good._replace(theta=jax.tree.map_with_path(shrink, rollback_state.good.theta))


def _either(first: Bool[Array, ""], one: Any, other: Any) -> Any:
    return jax.tree.map(lambda one, other: jnp.where(first, one, other), one, other)
