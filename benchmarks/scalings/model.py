"""What a meta-step costs: starting operations, computing, moving numbers, and telling other devices.

seconds = steps · (start · kernels · blocks + compute · flops · share + move · traffic · share) + tell(bytes)

share = ⌈lives / devices⌉ is what a device lives, in blocks = ⌈share / chunk_size⌉ one after the other. Kernels, flops and
traffic are those of one step of one lifetime with its derivative, as the compiler counts them. Prices of a CPU are
fitted to meta-steps that were timed, and tell is a line through two messages that were timed. Those of an accelerator
come from its data sheet, and what follows from them is a prediction.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

__all__ = ["H100", "Prices", "fitted", "seconds", "telling"]


class Prices(NamedTuple):
    """Seconds that things take.

    Attributes:
        start: of an operation.
        compute: of a floating-point operation.
        move: of a byte between processor and memory.
        tell_start: of a message between devices.
        tell: of a byte in it.
        chunk_size: lives that are lived side by side, whatever there are; None for as many as the probe says.
    """

    start: float
    compute: float
    move: float
    tell_start: float = 0.0
    tell: float = 0.0
    chunk_size: int | None = None


# NVIDIA H100 SXM5 by its data sheet: 67 TFLOP/s in float32, 3.35 TB/s of HBM3, 900 GB/s of NVLink in both directions.
# A kernel that XLA starts from its while loop takes some 4 µs, and a small all-gather among eight some 20 µs.
H100 = Prices(4e-6, 1 / 67e12, 1 / 3.35e12, 20e-6, 1 / 450e9, chunk_size=2**20)


def seconds(prices: Prices, said: Mapping[str, Any], devices: int, lifetimes: int | None = None) -> float:
    """Time of a meta-step.

    Args:
        prices: of the devices.
        said: by a probe.
        devices: that share the lifetimes.
        lives: of the meta-step; None for as many as the probe says.

    Returns:
        Seconds.
    """
    count = said["lives"] if lifetimes is None else lifetimes
    own = prices[:3] @ np.array(_amounts(said, devices, count, prices.chunk_size or said["chunk_size"]))
    size = said["bytes"] * count / said["lives"]
    return float(own) + (prices.tell_start + prices.tell * size if devices > 1 else 0.0)


def fitted(cases: Sequence[tuple[Mapping[str, Any], float]]) -> Prices:
    """Prices of one device that make the model come closest, each case by its share.

    Args:
        cases: what a probe says, and the seconds of its meta-step on one device.

    Returns:
        The prices, none of them negative.
    """
    amounts = np.array([_amounts(said, 1, said["lives"], said["chunk_size"]) for said, _ in cases])
    found, _ = nnls(amounts / np.array([[taken] for _, taken in cases]), np.ones(len(cases)))
    return Prices(*found.tolist())


def telling(prices: Prices, said: Mapping[str, Any]) -> Prices:
    """The same with what messages between the devices of a probe take, from one that is short and one that is long."""
    (few, many), (short, long) = said["gathered"], said["gather_seconds"]
    each = max((long - short) / (many - few), 0.0)
    return prices._replace(tell=each, tell_start=max(short - each * few, 0.0))


def _amounts(said: Mapping[str, Any], devices: int, lifetimes: int, chunk_size: int) -> tuple[float, float, float]:
    share = -(-lifetimes // devices)
    blocks = -(-share // min(chunk_size, share))
    each = (said["kernels"] * blocks, said["flops"] * share, said["traffic"] * share)
    return tuple(said["steps"] * amount for amount in each)
