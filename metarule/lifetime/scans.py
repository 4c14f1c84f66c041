"""Scans: ways to differentiate the time loop. Each is called like `lax.scan`, `(body, carry, xs) → (carry, ys)`."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.kernels import compiled_scan, in_segments

__all__ = ["Invertible", "Plain", "Remat", "Segmented", "divisor", "loop"]

Body = Callable[[Any, Any], tuple[Any, Any]]

# A GPU takes a microsecond for each kernel of a step, however small it is; unrolled steps share kernels. On an H100
# four steps take .6 of the time; eight compile twice as long for a tenth more at most.
_UNROLL = {"gpu": 4}


def loop(body: Body, carry: Any, xs: Any, reverse: bool = False) -> tuple[Any, Any]:
    """Run `lax.scan`: as one operation where the body is small, or else unrolled as is best for the backend."""
    compiled = None if reverse else compiled_scan(body, carry, xs)
    return compiled or _scan(body, carry, xs, reverse)


def _scan(body: Body, carry: Any, xs: Any, reverse: bool = False) -> tuple[Any, Any]:
    return jax.lax.scan(body, carry, xs, reverse=reverse, unroll=_UNROLL.get(jax.default_backend(), 1))


class Plain(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="plain"):
    """Store every intermediate of every step for the backward pass, as `lax.scan` does.

    Memory O(T · intermediates), one forward pass. Use it for short lifetimes.
    """

    def __call__(self, body: Body, carry: Any, xs: Any) -> tuple[Any, Any]:
        """Run `body` over the leading axis of `xs`."""
        return loop(body, carry, xs)


class Remat(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="remat"):
    """Store the state of each step, and recompute the step in the backward pass.

    Memory O(T · state), two forward passes. Use it unless the weights of T steps do not fit into memory.
    """

    def __call__(self, body: Body, carry: Any, xs: Any) -> tuple[Any, Any]:
        """Run `body` over the leading axis of `xs`."""
        return compiled_scan(body, carry, xs) or _scan(jax.checkpoint(body, prevent_cse=False), carry, xs)


class Invertible(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="invertible"):
    """Store the local variables of each step, and reconstruct the weights in the backward pass.

    Memory O(T · neurons + √T · weights); with many weights faster than storing them, because it saves memory traffic.
    Steps are inverted in reverse mode if Δw is affine in the weight and synapses have no memory, as in the rules of
    seven and of sixteen terms, and if the weights of all steps of a lifetime take 4 MiB or more. If weights occur in Δw
    with presynaptic variables only, as in the rule of seven terms, and there are many inputs, chunks of steps are
    computed as matrix products. Any other loop is run as by `Remat`.

    The gradient is exact but for one case: a weight that is clipped at its bound by less than rounding, in a segment
    that it ends away from the bound, is taken for one that was not clipped. In a contrived case that put the gradient
    off by 5 %; `Remat` and `Segmented` are exact there, too.
    """

    def __call__(self, body: Body, carry: Any, xs: Any) -> tuple[Any, Any]:
        """Run `body` over the leading axis of `xs`."""
        return Remat()(body, carry, xs)


class Segmented(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="segmented"):
    """Store the state at the start of each segment, and recompute the segment in the backward pass.

    stored at once, with L levels: (L + 1) · T^(1/(L+1)) states, as 2·√T with one level and 3·∛T with two

    Memory O(T^(1/(L+1)) · state), L + 2 forward passes. Use it where `Remat` does not fit: one level for some
    thousand steps, two for T ≥ 10,000.

    Steps that do not fill a segment are run last as a shorter segment, which costs compile time, because it is another
    loop. `root` chooses a length that divides T, unless none near the best does.

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

        def segment(carry: Any, xs: Any) -> tuple[Any, Any]:
            return inner(body, carry, xs)

        return in_segments(segment, size, carry, xs)

    def segment(self, length: int) -> int:
        """Steps of an outermost segment of a loop of some length."""
        if self.every != "root":
            return self.every
        best = max(1, round(length ** (self.levels / (self.levels + 1))))
        return divisor(length, best) or best


def divisor(length: int, best: int) -> int:
    """Divisor of a length that is nearest to a number, from half of it to twice; 0 if there is none."""
    near = [size for size in range((best + 1) // 2, min(2 * best, length) + 1) if length % size == 0]
    return min(near, key=lambda size: abs(size - best), default=0)
