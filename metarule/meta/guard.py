"""Steps of θ after which lives diverge are taken back, and shorter ones are tried."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from msgspec import Meta, Struct

from metarule.types import Theta

__all__ = ["Guard", "Guarded", "Place"]

# What is typical is the mean over about this many meta-steps.
_MEMORY = 10
# A step that is taken back halves those that follow, down to the shortest; each that goes well lengthens them again.
_SHORTER, _LONGER, _SHORTEST = 0.5, 2 ** (1 / 8), 2.0**-10
# On the way back to 0 each θ is this much of the last, and so many under which lives are of use are tried.
_RETREAT, _TRIED = 0.25, 8


class Place(NamedTuple):
    """Where an optimiser is.

    Attributes:
        theta: θ.
        optimizer: state of the Optax transformation there.
    """

    theta: Theta
    optimizer: Any


class Guarded(NamedTuple):
    """What a guard remembers.

    Attributes:
        good: the last place that was good; the first one until there is another.
        strikes: how often in a row the lives were of no use, or others were tried on the way back; 1 before anything
            went well.
        scale: length of steps, as a share of what the optimiser asks for.
        typical: share of lives that diverges in any case; NaN before anything went well.
        tried: θ on the way back towards 0 under which lives were of use.
        best: lowest meta-loss under these.
        best_strikes: strikes at which it was seen.
    """

    good: Place
    strikes: Int[Array, ""]
    scale: Float[Array, ""]
    typical: Float[Array, ""]
    tried: Int[Array, ""]
    best: Float[Array, ""]
    best_strikes: Int[Array, ""]


class Guard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take a step back if more lives diverge under the θ that it led to, or most are of no use.

    θ is bad where   lives of no use ≥ unusable · lives   or   lives that diverged > (typical + jump) · lives
    good:  θ ← θ + scale · step;  scale ← min(1, 2^(1/8) · scale)
    bad:   θ ← last good θ;       scale ← scale / 2

    The typical share is the first, falls with those that are good, and rises slowly by those that are bad, for where
    even short steps are of no help more must be borne.

    Where the lives under a θ that was good are of no use when it is tried again, or those under the θ that training
    was begun at, it is led back towards 0, where a rule does nothing and every life is finite: θ ← θ/4, until eight
    were tried under which lives are of use. Training goes on from the best of these.

    A life diverged if its loss or gradient is not finite. It is of no use if it diverged, or if its gradient is exactly
    zero though it has a loss, as when all weights sit at their bounds. What is judged are the training lives of the
    next meta-step, so that a judgement costs nothing and test tasks decide nothing.

    Attributes:
        unusable: share of lives of no use where a step is taken back; with 1 that is all of them.
        jump: how far above what was typical the share of lives that diverge may be; with 1 it may be anything.

    References:
        Levenberg 1944, Marquardt 1963 (a step that fails is taken back and the next is shorter).
    """

    unusable: Annotated[float, Meta(gt=0, le=1, description="share of lives of no use where a step is taken back")] = (
        0.5
    )
    jump: Annotated[float, Meta(gt=0, le=1, description="rise of the share of lives that diverge where it is, too")] = (
        0.05
    )

    def init(self, place: Place) -> Guarded:
        """What is remembered before the first meta-step."""
        one, unknown, infinite = jnp.ones((), int), jnp.full((), jnp.nan, float), jnp.full((), jnp.inf, float)
        return Guarded(place, one, jnp.ones(()), unknown, jnp.zeros((), int), infinite, one)

    def move(
        self,
        guarded: Guarded,
        here: Place,
        there: Place,
        loss: Float[Array, ""],
        diverged: Float[Array, ""],
        useless: Float[Array, ""],
    ) -> tuple[Place, Guarded, Bool[Array, ""]]:
        """Go on, or go back.

        Args:
            guarded: what is remembered.
            here: where θ is.
            there: where the optimiser would have it next, its step already as long as `scale` says.
            loss: mean meta-loss of the lives here that were finite.
            diverged: share of the lives here that were not finite.
            useless: share of the lives here that were of no use.

        Returns:
            (the next place, what is remembered there, whether the step that led here was taken back).
        """
        of_no_use, on_the_way = useless >= self.unusable, guarded.strikes > 1
        tried = guarded.tried + (on_the_way & ~of_no_use)
        better = on_the_way & ~of_no_use & (loss < guarded.best)
        best_strikes = jnp.where(better, guarded.strikes - 1, guarded.best_strikes)
        arrived = tried >= _TRIED
        led = (of_no_use | on_the_way) & ~arrived
        bad = led | arrived | (diverged > guarded.typical + self.jump)
        quarters = jnp.where(led, guarded.strikes, jnp.where(arrived, best_strikes, 0))
        back = guarded.good._replace(theta=jax.tree.map(lambda leaf: leaf * _RETREAT**quarters, guarded.good.theta))
        proven = jnp.isfinite(guarded.typical)
        scale = jnp.where(bad, jnp.where(proven, _SHORTER, 1.0), _LONGER) * guarded.scale
        # What is typical rises only by steps that were taken back, so that it does not creep up with θ, and no step is
        # taken back for ever.
        moved = guarded.typical + jnp.minimum(diverged - guarded.typical, self.jump) / _MEMORY
        typical = jnp.where(bad, moved, jnp.minimum(guarded.typical, moved))
        after = Guarded(
            good=_either(arrived, back, _either(bad, guarded.good, here)),
            strikes=jnp.where(led, guarded.strikes + 1, jnp.where(arrived | ~bad, 0, guarded.strikes)),
            scale=jnp.clip(scale, _SHORTEST, 1.0),
            typical=jnp.where(proven, typical, jnp.where(bad, jnp.nan, diverged)),
            tried=jnp.where(led, tried, 0),
            best=jnp.where(led, jnp.where(better, loss, guarded.best), jnp.inf),
            best_strikes=best_strikes,
        )
        return _either(bad, back, there), after, bad


def _either(first: Bool[Array, ""], one: Any, other: Any) -> Any:
    return jax.tree.map(lambda one, other: jnp.where(first, one, other), one, other)
