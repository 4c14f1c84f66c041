"""Keys of a run: one integer seed, divided into a named stream for each purpose."""

from enum import IntEnum

import jax
import jax.numpy as jnp

from metarule.types import Integer, PRNGKey

__all__ = ["Purpose", "run_key", "stream"]


class Purpose(IntEnum):
    """Purposes of random numbers. Reproducibility depends on the values: never change one."""

    SPLIT = 0
    THETA = 1
    OPTIMIZER = 2
    META_STEPS = 3
    MONITOR = 4
    TUNING = 5
    HELD_OUT = 6
    PHENOMENA = 7
    PRUNING = 8
    STRUCTURES = 9
    EVALUATION = 10
    ADAPTATION = 11
    CONTRIBUTIONS = 12
    VALIDATION = 13
    SIMULATION = 14
    EXPLANATION = 15


def run_key(seed: Integer) -> PRNGKey:
    """Key of a seed: threefry2x32 with the words (0, seed), for any settings of JAX.

    Args:
        seed: from 0 to 2³² − 1; it may be traced.

    Returns:
        The key; with JAX's defaults it equals `jax.random.key(seed)`.

    Raises:
        ValueError: a setting of JAX that changes the numbers drawn from a key.
    """
    if not jax.threefry_partitionable.value:
        raise ValueError(
            "jax_threefry_partitionable = False: JAX would draw other random numbers from the same seed; allowed: True"
        )
    return jax.random.wrap_key_data(jnp.array([0, seed], jnp.uint32), impl="threefry2x32")


def stream(key: PRNGKey, purpose: Purpose) -> PRNGKey:
    """Key for one purpose."""
    return jax.random.fold_in(key, purpose)
