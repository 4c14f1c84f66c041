"""What a network computes with whole weight matrices, written as XLA runs it fastest forwards and backwards.

Reductions are matrix products, which CPUs do several times faster than sums of elementwise products, but for tiny
matrices, where a call costs more than what it computes. Outer products are broadcast, so that they melt into the
elementwise update of the weights, where a thin matrix product would be an array of its own.
"""

from jaxtyping import Array, Float

__all__ = ["outer_sum"]

# Synapses up to which a projection is tiny.
_TINY = 128


def outer_sum(left: Float[Array, "k pre"], right: Float[Array, "k post"]) -> Float[Array, "pre post"]:
    """A sum of few outer products, Σₖ leftₖ ⊗ rightₖ.

    Each is written as a matrix product over an axis of one: forwards XLA makes it a broadcast, and its derivatives are
    matrix products where those of a broadcast would be sums.

    Args:
        left: vectors on the side of pre.
        right: vectors on the side of post.

    Returns:
        The sum.
    """
    tiny = left.shape[1] * right.shape[1] <= _TINY
    pairs = ((one[:, None], other[None, :]) for one, other in zip(left, right, strict=True))
    products = [one * other if tiny else one @ other for one, other in pairs]
    return sum(products[1:], start=products[0])
