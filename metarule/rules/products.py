"""Operations on weight matrices, in the form that XLA runs fastest forwards and backwards.

Reductions are matrix products, which CPUs compute several times faster than sums of elementwise products, except for
tiny matrices, where the overhead of a call dominates. Outer products are broadcast, so that XLA fuses them with the
update of the weights instead of storing a matrix product.
"""

from jaxtyping import Array, Float

__all__ = ["outer_sum"]

# Largest number of synapses of a tiny projection.
_TINY = 128


def outer_sum(left: Float[Array, "k pre"], right: Float[Array, "k post"]) -> Float[Array, "pre post"]:
    """A sum of few outer products, Σₖ leftₖ ⊗ rightₖ.

    Each is written as a matrix product over an axis of size 1. XLA compiles it to a broadcast, and its derivatives are
    matrix products, whereas those of a broadcast would be sums.

    Args:
        left: pre-side vectors.
        right: post-side vectors.

    Returns:
        The sum.
    """
    tiny = left.shape[1] * right.shape[1] <= _TINY
    pairs = ((one[:, None], other[None, :]) for one, other in zip(left, right, strict=True))
    products = [one * other if tiny else one @ other for one, other in pairs]
    return sum(products[1:], start=products[0])
