"""Log of where time loops run, and why."""

import logging
from functools import lru_cache

__all__ = ["LOG", "warn"]

LOG = logging.getLogger("metarule.kernels")


@lru_cache(maxsize=64)
def warn(reason: str) -> None:
    """Warn once that a small loop, which could be faster, is left to XLA."""
    LOG.warning("a small time loop is left to XLA, which is slower: there is no kernel for %s", reason)
