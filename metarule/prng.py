"""One integer seed decides everything: the key of a run, parted by what random numbers are for."""

from enum import IntEnum

import jax
import jax.numpy as jnp

from metarule.types import Integer, PRNGKey

__all__ = ["Purpose", "run_key", "stream"]


class Purpose(IntEnum):
    """What random numbers are for. The numbers are part of what makes runs reproducible: never change one."""

    SPLIT = 0
    THETA = 1
    OPTIMIZER = 2
    META_STEPS = 3
    WATCH = 4
    TUNING = 5
    HELD_OUT = 6
    PHENOMENA = 7
    PRUNING = 8
    FORMS = 9
    EVALUATION = 10
    ADAPTATION = 11
    CONTRIBUTIONS = 12


def run_key(seed: Integer) -> PRNGKey:
    """Key of a seed: threefry2x32 with the words (0, seed), whatever generator and offset JAX is set to.

    Args:
        seed: between 0 and 2³² − 1; it may be traced.

    Returns:
        The key; by JAX's defaults it is `jax.random.key(seed)`.

    Raises:
        ValueError: JAX is set to draw other numbers from the same key.
    """
    if not jax.threefry_partitionable.value:
        raise ValueError(
            "jax_threefry_partitionable = False: JAX would draw other random numbers from the same seed; allowed: True"
        )
    return jax.random.wrap_key_data(jnp.array([0, seed], jnp.uint32), impl="threefry2x32")


def stream(key: PRNGKey, purpose: Purpose) -> PRNGKey:
    """The part of a key that serves one purpose."""
    return jax.random.fold_in(key, purpose)
