"""Steps of θ after which lives diverge are taken back, and shorter ones are tried."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from msgspec import Meta, Struct

from metarule.types import Theta

__all__ = ["Guard", "Guarded", "Place", "Seen"]

# A step that is taken back halves those that follow, down to the shortest; each that goes well lengthens them again.
_SHORTER, _LONGER, _SHORTEST = 0.5, 2 ** (1 / 8), 2.0**-10
# On the way back to 0 each θ is this much of the last, and so many under which lives go well are tried: where something
# was good before it is near, where nothing was it may be decades away.
_NEAR, _NEAR_TRIED = 0.7, 4
_FAR, _FAR_TRIED = 0.25, 8
# What is typical is a moving average over about this many meta-steps.
_MEMORY = 10


class Place(NamedTuple):
    """Where an optimiser is.

    Attributes:
        theta: θ.
        optimizer: state of the Optax transformation there.
    """

    theta: Theta
    optimizer: Any


class Seen(NamedTuple):
    """What is seen of the lives of a meta-step.

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


class Guarded(NamedTuple):
    """What a guard remembers.

    Attributes:
        good: the last place that was good; the first one until there is another.
        proven: whether there was one.
        strikes: how often in a row it went badly, or others were tried on the way back; 1 before anything went well.
        scale: length of steps, as a share of what the optimiser asks for.
        tried: θ on the way back towards 0 under which lives went well.
        best: lowest meta-loss under these.
        best_strikes: strikes at which it was seen.
        typical: moving average of the meta-loss that falls with it, and rises by losses that jumped alone.
        spread: moving average of how far meta-losses are from it; the standard error of the first one at first.
    """

    good: Place
    proven: Bool[Array, ""]
    strikes: Int[Array, ""]
    scale: Float[Array, ""]
    tried: Int[Array, ""]
    best: Float[Array, ""]
    best_strikes: Int[Array, ""]
    typical: Float[Array, ""]
    spread: Float[Array, ""]


class Guard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take a step back if under the θ that it led to lives diverge, most are of no use, or the meta-loss jumps.

    θ is bad where   lives that diverged ≥ diverged · lives   or   lives of no use ≥ useless · lives
                     or   loss > typical + jump · spread
    good:  θ ← θ + scale · step;  scale ← min(1, 2^(1/8) · scale)
    bad:   θ ← last good θ;       scale ← scale / 2

    Where lives diverge or are of no use under the last good θ, too, it sits at the edge of chaos, where gradients are
    mostly noise, and from which shorter steps do not lead away. It is led back towards 0, where a rule does nothing and
    every life is finite: θ ← 0.7·θ until four were tried under which lives go well, and training goes on from the best
    of these. Where nothing was good yet, it is θ ← θ/4, and eight.

    A life diverged if its loss or gradient is not finite. It is of no use if it diverged, or if its gradient is exactly
    zero though it has a loss, as when all weights sit at their bounds. What is judged are the training lives of the
    next meta-step, so that a judgement costs nothing and test tasks decide nothing.

    Attributes:
        diverged: share of lives that diverged where a step is taken back; with 1 that is all of them.
        useless: share of lives of no use where it is.
        jump: how far above its typical value the meta-loss is where it is, in spreads. A loss that stays higher becomes
            the typical one, so that nothing is taken back for ever.

    References:
        Levenberg 1944, Marquardt 1963 (a step that fails is taken back and the next is shorter).
    """

    diverged: Annotated[
        float, Meta(gt=0, le=1, description="share of lives that are not finite where a step is taken back")
    ] = 0.05
    useless: Annotated[
        float, Meta(gt=0, le=1, description="share of lives not finite or without gradient where it is, too")
    ] = 0.5
    jump: Annotated[
        float, Meta(gt=0, description="spreads by which the meta-loss is above its typical value where it is, too")
    ] = 8.0

    def init(self, place: Place) -> Guarded:
        """What is remembered before the first meta-step."""
        one, none = jnp.ones((), int), jnp.zeros((), int)
        infinite, unknown = jnp.full((), jnp.inf, float), jnp.full((), jnp.nan, float)
        return Guarded(place, jnp.zeros((), bool), one, jnp.ones(()), none, infinite, one, unknown, unknown)

    def move(self, guarded: Guarded, here: Place, there: Place, seen: Seen) -> tuple[Place, Guarded, Bool[Array, ""]]:
        """Go on, or go back.

        Args:
            guarded: what is remembered.
            here: where θ is.
            there: where the optimiser would have it next, its step already as long as `scale` says.
            seen: of the lives here.

        Returns:
            (the next place, what is remembered there, whether the step that led here was taken back).
        """
        of_use = (seen.diverged < self.diverged) & (seen.useless < self.useless)
        on_the_way = guarded.strikes > 1
        tried = guarded.tried + (on_the_way & of_use)
        better = on_the_way & of_use & (seen.loss < guarded.best)
        best_strikes = jnp.where(better, guarded.strikes - 1, guarded.best_strikes)
        arrived = tried >= jnp.where(guarded.proven, _NEAR_TRIED, _FAR_TRIED)
        led = (on_the_way | ~of_use) & ~arrived
        jumped = ~led & ~arrived & (seen.loss > guarded.typical + self.jump * guarded.spread)
        bad = led | arrived | jumped
        power = jnp.where(led, guarded.strikes, jnp.where(arrived, best_strikes, 0))
        smaller = jnp.where(guarded.proven, _NEAR, _FAR) ** power
        theta = jax.tree.map(lambda leaf: leaf * smaller.astype(leaf.dtype), guarded.good.theta)
        back = guarded.good._replace(theta=theta)
        shorter = jnp.where(jumped | (guarded.strikes == 0), _SHORTER, 1.0)
        after = Guarded(
            good=_either(arrived, back, _either(bad, guarded.good, here)),
            proven=guarded.proven | ~led,
            strikes=jnp.where(led, guarded.strikes + 1, jnp.where(jumped, guarded.strikes, 0)),
            scale=jnp.clip(jnp.where(bad, shorter, _LONGER) * guarded.scale, _SHORTEST, 1.0),
            tried=jnp.where(led, tried, 0),
            best=jnp.where(led, jnp.where(better, seen.loss, guarded.best), jnp.inf),
            best_strikes=best_strikes,
            typical=guarded.typical,
            spread=guarded.spread,
        )
        return _either(bad, back, there), _either(led, after, self._with_loss(after, seen, jumped)), bad

    def _with_loss(self, guarded: Guarded, seen: Seen, jumped: Bool[Array, ""]) -> Guarded:
        """Take a meta-loss into account; one that is far out counts as less far, for it may be the only one.

        What is typical rises by losses that jumped alone: else it would creep up with θ.
        """
        first = jnp.isnan(guarded.typical)
        typical, spread = jnp.where(first, seen.loss, guarded.typical), jnp.where(first, seen.error, guarded.spread)
        margin = 0.5 * self.jump * spread
        apart = jnp.clip(seen.loss - typical, -margin, margin)
        moved = typical + apart / _MEMORY
        return guarded._replace(
            typical=jnp.where(jumped, moved, jnp.minimum(typical, moved)),
            spread=spread + (jnp.abs(apart) - spread) / _MEMORY,
        )


def _either(first: Bool[Array, ""], one: Any, other: Any) -> Any:
    return jax.tree.map(lambda one, other: jnp.where(first, one, other), one, other)
