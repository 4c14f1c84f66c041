"""Arrays of recordings: their names, and checks of their shapes before memory is taken."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from metarule.config.arrays import Declared
from metarule.config.messages import did_you_mean
from metarule.config.toml import ConfigError

__all__ = ["AXES", "LARGEST", "OBSERVED", "Room", "axes_of", "check_names", "check_shapes", "is_stacked", "not_found"]
__all__ += ["projection_of"]

# Bytes of all arrays, of eight bytes a number, and of the largest file that is read whole.
LARGEST = 2**30

# Axes of each array, by name.
AXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "inputs": ("steps", "inputs"),
        "activity": ("steps", "neurons"),
        "weights": ("steps", "pre neurons", "post neurons"),
        "choices": ("steps",),
        "rewards": ("steps",),
        "targets": ("steps", "outputs"),
        "present": ("steps",),
        "session": ("steps",),
        "plastic": ("steps",),
        "initial_weights": ("pre neurons", "post neurons"),
    }
)
# Arrays that a network is compared with.
OBSERVED = ("activity", "weights", "choices")
# Names that a message lists, at most.
_LISTED = 20


class Room(NamedTuple):
    """Sizes that files may still have.

    Attributes:
        numbers: in all arrays.
        steps: of all animals.
    """

    numbers: int = LARGEST // 8
    steps: int = 10_000_000


def projection_of(name: str) -> tuple[str, int]:
    """Array and number of the projection of a name: `weights_2` is ("weights", 2), `choices` is ("choices", 0)."""
    match = re.fullmatch("(weights|initial_weights)_([1-9][0-9]{0,3})", name)
    return (match[1], int(match[2])) if match else (name, 0)


def axes_of(name: str) -> tuple[str, ...]:
    """Axes of an array, such as `weights_2`, in the file of one animal."""
    return AXES[projection_of(name)[0]]


def is_stacked(arrays: Mapping[str, Declared]) -> bool:
    """True if arrays have a first axis of animals."""
    return len(arrays["inputs"][0]) == len(AXES["inputs"]) + 1


def not_found(array: str, wanted: str, allowed: Sequence[str]) -> ConfigError:
    """Error about an entry of `columns` that names nothing in a file."""
    listed = ", ".join(allowed[:_LISTED]) + (", …" if len(allowed) > _LISTED else "")
    return ConfigError(f"columns.{array} = '{wanted}' is not in it; allowed: {listed}{did_you_mean(wanted, allowed)}")


def check_names(names: Iterable[str]) -> None:
    """Refuse names of arrays that are unknown, or are not sufficient together.

    Raises:
        ConfigError: naming the array and what is allowed.
    """
    given = {projection_of(name)[0]: name for name in names}
    for base, name in given.items():
        if base not in AXES:
            raise ConfigError(f"array '{name}' is unknown; allowed: {', '.join(AXES)}{did_you_mean(name, AXES)}")
    if "inputs" not in given:
        raise ConfigError(f"array 'inputs' is missing; found: {', '.join(given.values()) or 'none'}")
    if not given.keys() & set(OBSERVED):
        raise ConfigError(f"no array of observations; allowed: at least one of {', '.join(OBSERVED)}")
    if "rewards" in given and "choices" not in given:
        raise ConfigError("array 'rewards' has no meaning without array 'choices'; allowed: both, or no rewards")


def check_shapes(arrays: Mapping[str, Declared], room: Room) -> None:
    """Refuse arrays of a file that do not fit together, or are too large.

    Args:
        arrays: shape and type by name; of one animal, or with a first axis of animals each.
        room: sizes that they may have.

    Raises:
        ConfigError: naming the array, its shape and what is allowed.
    """
    check_names(arrays)
    stacked = is_stacked(arrays)
    lengths: dict[tuple[str, int], tuple[str, int]] = {}
    for name in ("inputs", *(name for name in arrays if name != "inputs")):
        (shape, kind), (_, number) = arrays[name], projection_of(name)
        if kind.kind not in "fiub":
            raise ConfigError(f"array '{name}' holds {kind}; allowed: real numbers")
        for axis, length in zip(_axes(name, len(shape), stacked), shape, strict=True):
            if length < 1:
                raise ConfigError(f"array '{name}' has shape {shape}; allowed: at least one along each axis")
            key = (axis, number if axis.endswith("neurons") else 0)
            other, expected = lengths.setdefault(key, (name, length))
            if length != expected:
                raise ConfigError(
                    f"array '{name}' has {length} {axis}, array '{other}' has {expected}; allowed: the same number"
                )
    numbers = sum(math.prod(shape) * max(1, kind.itemsize // 8) for shape, kind in arrays.values())
    if numbers > room.numbers:
        raise ConfigError(f"{numbers} numbers in its arrays; allowed: up to {Room().numbers} in all files")
    if (steps := math.prod(arrays["inputs"][0][:-1])) > room.steps:
        raise ConfigError(f"{steps} steps; allowed: up to {Room().steps} in all files")


def _axes(name: str, count: int, stacked: bool) -> tuple[str, ...]:
    """Axes of an array that has `count` of them; animals may share initial weights."""
    axes = axes_of(name)
    allowed = [("animals", *axes)] if stacked else [axes]
    if name == "inputs":
        allowed = [axes, ("animals", *axes)]
    elif stacked and "steps" not in axes:
        allowed.append(axes)
    for one in allowed:
        if len(one) == count:
            return one
    listed = " or ".join(f"[{', '.join(one)}]" for one in allowed)
    raise ConfigError(f"array '{name}' has {count} {'axis' if count == 1 else 'axes'}; allowed: {listed}")
