"""How the time loop is differentiated: each scan is called as `lax.scan` is, `(body, carry, xs) → (carry, ys)`."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from msgspec import Meta

from metarule.config.schema import Checked

__all__ = ["Invertible", "Plain", "Remat", "Segmented", "divisor", "loop"]

Body = Callable[[Any, Any], tuple[Any, Any]]

# A GPU takes a microsecond for each kernel of a step, however small it is: steps in a row share some.
# On an H100 four of them take .6 of the time; with eight, compiling takes twice as long for a tenth more at most.
_IN_A_ROW = {"gpu": 4}


def loop(body: Body, carry: Any, xs: Any, reverse: bool = False) -> tuple[Any, Any]:
    """`lax.scan`, with as many steps in each round of the loop as is best where it runs."""
    return jax.lax.scan(body, carry, xs, reverse=reverse, unroll=_IN_A_ROW.get(jax.default_backend(), 1))


class Plain(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="plain"):
    """`lax.scan` as it is: every intermediate of every step is kept for the backward pass.

    Memory O(T · intermediates), one forward pass. Pick it for short lifetimes.
    """

    def __call__(self, body: Body, carry: Any, xs: Any) -> tuple[Any, Any]:
        """Run `body` over the leading axis of `xs`."""
        return loop(body, carry, xs)


class Remat(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="remat"):
    """Keep the carry of each step alone, and recompute the step in the backward pass.

    Memory O(T · carry), two forward passes. Pick it unless the weights of T steps do not fit into memory.
    """

    def __call__(self, body: Body, carry: Any, xs: Any) -> tuple[Any, Any]:
        """Run `body` over the leading axis of `xs`."""
        return loop(jax.checkpoint(body, prevent_cse=False), carry, xs)


class Invertible(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="rebuilt"):
    """Keep the vectors of each step alone, and rebuild the weights before it from those after it, or do without them.

    Memory O(T · neurons + √T · weights); where weights are many, faster than keeping them, for it spares memory. It
    takes steps that can be undone: reverse mode does so where Δw is affine in the weight and synapses remember
    nothing, as in the rules of seven and of sixteen terms, and where the weights of all steps of a lifetime would
    take 4 MiB or more. Where weights occur in Δw with pre alone, as in the rule of seven terms, and there are many
    inputs, chunks of steps are lived as products of matrices. Any other loop is run as by `Remat`.

    The gradient is exact but for one corner: where a weight is clipped at its bound by less than rounding, in a segment
    that it ends away from the bound, it is taken for one that moved freely. In a contrived case that put the gradient
    off by 5 %; `Remat` and `Segmented` are exact there, too.
    """

    def __call__(self, body: Body, carry: Any, xs: Any) -> tuple[Any, Any]:
        """Run `body` over the leading axis of `xs`."""
        return Remat()(body, carry, xs)


class Segmented(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="segmented"):
    """Keep the carry at the start of each segment alone, and live the segment again in the backward pass.

    kept at once, with L levels: (L + 1) · T^(1/(L+1)) carries, as 2·√T with one level and 3·∛T with two

    Memory O(T^(1/(L+1)) · carry), L + 2 forward passes. Pick it where `Remat` does not fit: one level for some
    thousand steps, two for T ≥ 10,000.

    A remainder, steps that fill no whole segment, is lived last as a shorter segment of its own, which costs compile
    time, for it is another loop. Segments that are left to us are of a length that divides T, unless none does
    that is near to the best.

    Attributes:
        every: steps in a segment, or `root` for what makes memory smallest.
        levels: depth of nested segments: 1 for segments of steps, 2 for segments of segments, and so on; memory grows
            with T^(1/(levels + 1)).

    References:
        Griewank 1992 (logarithmic growth by nested segments); Chen et al. 2016 (√T).
    """

    every: Annotated[int, Meta(ge=1, le=10_000_000)] | Literal["root"] = "root"
    levels: Annotated[int, Meta(ge=1, le=8)] = 1

    def __call__(self, body: Body, carry: Any, xs: Any) -> tuple[Any, Any]:
        """Run `body` over the leading axis of `xs`."""
        length = jax.tree.leaves(xs)[0].shape[0]
        size = min(self.segment(length), length)
        inner = Remat() if self.levels == 1 else Segmented(levels=self.levels - 1)
        whole = length // size * size

        def segment(carry: Any, xs: Any) -> tuple[Any, Any]:
            return inner(body, carry, xs)

        cut = jax.tree.map(lambda leaf: leaf[:whole].reshape(whole // size, size, *leaf.shape[1:]), xs)
        carry, ys = jax.lax.scan(jax.checkpoint(segment, prevent_cse=False), carry, cut)
        ys = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), ys)
        if whole == length:
            return carry, ys
        carry, rest = segment(carry, jax.tree.map(lambda leaf: leaf[whole:], xs))
        return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), ys, rest)

    def segment(self, length: int) -> int:
        """Steps in each outermost segment of a loop of some length."""
        if self.every != "root":
            return self.every
        best = max(1, round(length ** (self.levels / (self.levels + 1))))
        return divisor(length, best) or best


def divisor(length: int, best: int) -> int:
    """The divisor of a length that is nearest to a number, of those from half of it to twice; 0 if there is none."""
    near = [size for size in range((best + 1) // 2, min(2 * best, length) + 1) if length % size == 0]
    return min(near, key=lambda size: abs(size - best), default=0)
