"""Checks of the numbers in recordings, alone and of all animals together."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from metarule.config.toml import ConfigError
from metarule.recordings.animals import Animal
from metarule.recordings.shapes import OBSERVED, axes_of, projection_of

__all__ = ["Recording", "check_together", "present_steps", "to_animal"]

# Numbers up to this size, as in a config, have squares and sums in single precision.
_MOST = 1e18
# Sessions are counted in 32 bits.
_LAST_SESSION = 2**31 - 1


class Recording(NamedTuple):
    """Arrays of one animal, as a file holds them.

    Attributes:
        name: name of the animal.
        arrays: numbers by name of the array.
        place: place of a step in the file, from its number.
    """

    name: str
    arrays: Mapping[str, np.ndarray]
    place: Callable[[int], str] = "step {} (from 0)".format


class _Allowed(NamedTuple):
    """Numbers that an array may hold: a test of each, and its description."""

    test: Callable[[np.ndarray], np.ndarray]
    description: str


_NUMBER = _Allowed(lambda values: np.abs(values) <= _MOST, f"numbers up to {_MOST:g} in size")
_OR_NAN = _Allowed(lambda values: ~(np.abs(values) > _MOST), f"{_NUMBER.description}, or NaN (not observed)")
_SWITCH = _Allowed(lambda values: (values == 0) | (values == 1), "0 or 1")
_CHOICE = _Allowed(lambda values: _SWITCH.test(values) | np.isnan(values), "0, 1 or NaN (not observed)")
_SESSION = _Allowed(
    lambda values: (np.abs(values) <= _LAST_SESSION) & (np.floor(values) == values), "whole numbers of 32 bits"
)
_ALLOWED = {
    **{"inputs": _NUMBER, "targets": _NUMBER, "initial_weights": _NUMBER},
    **{"activity": _OR_NAN, "weights": _OR_NAN, "rewards": _OR_NAN, "choices": _CHOICE},
    **{"present": _SWITCH, "plastic": _SWITCH, "session": _SESSION},
}


def present_steps(recording: Recording) -> Recording:
    """Leave out the steps at which an animal was not present.

    Returns:
        The recording without array `present`.

    Raises:
        ConfigError: values of `present` other than 0 and 1, or no step that is left.
    """
    arrays = dict(recording.arrays)
    present = arrays.pop("present", None)
    if present is None:
        return recording
    _check(recording, "present")
    (steps,) = np.nonzero(present)
    if not steps.size:
        raise ConfigError("array 'present' is 0 at all steps; allowed: at least one step with 1")
    if steps.size < present.size:
        arrays = {name: values[steps] if "steps" in axes_of(name) else values for name, values in arrays.items()}
    return Recording(recording.name, arrays, lambda step: recording.place(int(steps[step])))


def to_animal(recording: Recording) -> Animal:
    """Check the numbers of a recording, of which all steps are present.

    Returns:
        The animal, with arrays that cannot be written.

    Raises:
        ConfigError: naming the array, the value, its step and what is allowed.
    """
    for name in recording.arrays:
        _check(recording, name)
    observed = [values for name, values in recording.arrays.items() if projection_of(name)[0] in OBSERVED]
    if all(np.isnan(values).all() for values in observed):
        raise ConfigError("nothing is observed; allowed: at least one number in activity, weights or choices")
    arrays = {name: _unwritable(name, values) for name, values in recording.arrays.items()}
    return Animal(
        name=recording.name,
        inputs=arrays["inputs"],
        activity=arrays.get("activity"),
        weights=_projections(arrays, "weights"),
        choices=arrays.get("choices"),
        rewards=arrays.get("rewards"),
        targets=arrays.get("targets"),
        plastic=arrays.get("plastic"),
        session=arrays.get("session"),
        initial_weights=_projections(arrays, "initial_weights"),
    )


def check_together(recordings: Sequence[Recording]) -> None:
    """Refuse animals that differ in their arrays or numbers of neurons, and neurons that no animal shows.

    Raises:
        ConfigError: naming the animals, or the neuron.
    """
    first, seen = recordings[0], 0
    for other in recordings:
        if missing := sorted(first.arrays.keys() ^ other.arrays.keys()):
            has, lacks = (first, other) if missing[0] in first.arrays else (other, first)
            raise ConfigError(
                f"array '{missing[0]}': animal '{has.name}' has it and animal '{lacks.name}' does not; "
                "allowed: the same arrays in all animals"
            )
        for name, values in other.arrays.items():
            for axis, here, there in zip(axes_of(name), first.arrays[name].shape, values.shape, strict=True):
                if axis != "steps" and here != there:
                    raise ConfigError(
                        f"array '{name}': animal '{first.name}' has {here} {axis} and animal '{other.name}' has "
                        f"{there}; allowed: the same number in all animals"
                    )
        if "activity" in other.arrays:
            seen = seen + np.sum(~np.isnan(other.arrays["activity"]), axis=0)
    for neuron in np.flatnonzero(np.equal(seen, 0)) if "activity" in first.arrays else ():
        raise ConfigError(
            f"array 'activity[:, {neuron}]': neuron {neuron} (from 0) was never observed in any animal; leave its "
            "column out, and name the other neurons with tasks.neurons"
        )


def _check(recording: Recording, name: str) -> None:
    values, allowed = recording.arrays[name], _ALLOWED[projection_of(name)[0]]
    wrong = ~allowed.test(values)
    if not wrong.any():
        return
    index = [int(one) for one in np.argwhere(wrong)[0]]
    value, place = values[tuple(index)], ""
    if "steps" in axes_of(name):
        place = f" at {recording.place(index[0])}"
    inner = [":" if place and not axis else str(one) for axis, one in enumerate(index)]
    label = f"{name}[{', '.join(inner)}]" if len(inner) > 1 else name
    raise ConfigError(f"array '{label}': {value:g}{place}; allowed: {allowed.description}")


def _unwritable(name: str, values: np.ndarray) -> np.ndarray:
    """Array of an animal, which users of a cached animal share."""
    values = values.astype(np.int64 if name == "session" else float, copy=False)
    values.setflags(write=False)
    return values


def _projections(arrays: Mapping[str, np.ndarray], base: str) -> Mapping[int, np.ndarray]:
    """Arrays of one kind by the number of their projection."""
    numbered = {name: projection_of(name) for name in arrays}
    return MappingProxyType({number: arrays[name] for name, (one, number) in numbered.items() if one == base})
