"""Recordings as tasks: arrays of one animal, or of all animals along a leading axis, padded to the longest one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from metarule.recordings.animals import Animal

__all__ = ["Readout", "RecordedTask", "SharedUnknowns", "Unknowns", "stack"]


class Readout(NamedTuple):
    """Readout of choices: P(choice = 1) = σ(offset + gains · output)."""

    offset: Float[Array, "*animals"]
    gains: Float[Array, "*animals outputs"]


class Unknowns(NamedTuple):
    """Arrays of a task that are fitted with θ; None where they are not.

    Attributes:
        initial: initial weights that are not known, by projection.
        readout: readout of choices.
        third: third factor of each step, where the decay of the average reward is fitted.
    """

    initial: tuple[Float[Array, "*animals _ _"] | None, ...]
    readout: Readout | None
    third: Float[Array, "*animals steps"] | None


class SharedUnknowns(NamedTuple):
    """Unknowns that all animals share; None where they are not fitted.

    Attributes:
        readout: readout of choices.
        reward_logit: logit of the decay of the average reward.
    """

    readout: Readout | None
    reward_logit: Float[Array, ""] | None


class RecordedTask(NamedTuple):
    """Recording of one animal, padded; NaN is "not observed".

    Attributes:
        number: number of the animal.
        length: steps of the recording; the others are padded.
        inputs: activity of the input neurons.
        target: wanted activity of the output neurons: the choice, a recorded target, or 0.
        activity: activity of the recorded neurons.
        weights: weights before each step by projection; None where they were not recorded.
        choices: 0 or 1.
        rewards: rewards; NaN where none was given.
        plastic: 1 where synapses are plastic.
        restart: 1 at the first step of each session but the first.
        unknowns: what is not recorded but assumed or fitted.
    """

    number: Int[Array, "*animals"]
    length: Int[Array, "*animals"]
    inputs: Float[Array, "*animals steps inputs"]
    target: Float[Array, "*animals steps outputs"]
    activity: Float[Array, "*animals steps neurons"] | None
    weights: tuple[Float[Array, "*animals steps _ _"] | None, ...]
    choices: Float[Array, "*animals steps"] | None
    rewards: Float[Array, "*animals steps"] | None
    plastic: Float[Array, "*animals steps"]
    restart: Float[Array, "*animals steps"] | None
    unknowns: Unknowns


def stack(animals: Sequence[Animal], outputs: int) -> RecordedTask:
    """Stack the recordings of animals, without unknowns but the initial weights that are known.

    Args:
        animals: with the same arrays, as from `read_recordings`.
        outputs: number of output neurons.
    """
    # Arrays of numpy stand for those of JAX until the animals are split.
    lengths: Any = np.array([len(animal.inputs) for animal in animals])
    steps, first = lengths.max(), animals[0]

    def padded(arrays: Sequence[Any], filler: float) -> Any:
        shape = (len(arrays), steps, *arrays[0].shape[1:])
        whole = np.full(shape, filler)
        for row, array in zip(whole, arrays, strict=True):
            row[: len(array)] = array
        return whole

    def optional(name: str) -> Any:
        arrays = [getattr(animal, name) for animal in animals]
        return None if arrays[0] is None else padded(arrays, np.nan)

    by_projection = tuple(
        padded([animal.weights[number] for animal in animals], np.nan) if number in first.weights else None
        for number in range(max(first.weights, default=-1) + 1)
    )
    choices = optional("choices")
    target: Any = np.zeros((len(animals), steps, outputs))
    if first.targets is not None:
        target = np.nan_to_num(optional("targets"))
    elif choices is not None:
        # Of a choice that was not observed, the modulator is ½ − P(choice = 1).
        target = np.broadcast_to(np.nan_to_num(choices, nan=0.5)[..., None], target.shape).copy()
    gates = [np.ones(len(animal.inputs)) if animal.plastic is None else animal.plastic for animal in animals]
    numbers: Any = np.arange(len(animals))
    return RecordedTask(
        number=numbers,
        length=lengths,
        inputs=padded([animal.inputs for animal in animals], 0.0),
        target=target,
        activity=optional("activity"),
        weights=by_projection,
        choices=choices,
        rewards=optional("rewards"),
        plastic=padded(gates, 0.0),
        restart=None if first.session is None else padded([_restarts(animal.session) for animal in animals], 0.0),
        unknowns=Unknowns(_initial(animals), None, None),
    )


def _restarts(session: Any) -> np.ndarray:
    """1 where the session differs from that of the step before."""
    return (np.diff(session, prepend=session[:1]) != 0).astype(float)


def _initial(animals: Sequence[Animal]) -> tuple[Any, ...]:
    """Initial weights by projection: as given, or those before the first step; None where they are not known."""
    known = list[dict[int, np.ndarray]]()
    for animal in animals:
        recorded = {number: weights[0] for number, weights in animal.weights.items()}
        known.append({k: w for k, w in (recorded | dict(animal.initial_weights)).items() if np.isfinite(w).all()})
    numbers = range(max((number for one in known for number in one), default=-1) + 1)
    return tuple(
        np.stack([one[number] for one in known]) if all(number in one for one in known) else None for number in numbers
    )
