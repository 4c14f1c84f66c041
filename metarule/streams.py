"""One integer seed decides everything: the key of a run, parted by what random numbers are for."""

from enum import IntEnum

import jax

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


def run_key(seed: Integer) -> PRNGKey:
    """Key of the run of a seed."""
    return jax.random.key(seed)


def stream(key: PRNGKey, purpose: Purpose) -> PRNGKey:
    """The part of a key that serves one purpose."""
    return jax.random.fold_in(key, purpose)
