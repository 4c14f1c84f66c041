"""Checks that recordings, the fields of their family and the network fit together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from metarule.recordings.animals import Animal
from metarule.recordings.arrays import arrays_of

if TYPE_CHECKING:
    from metarule.recordings.family import Recordings

__all__ = ["check_fields", "check_network"]


def check_fields(family: "Recordings") -> None:
    """Refuse fields of a family that its recordings do not allow.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """
    first, count, kinds = family.animals[0], len(family.animals), family.kinds
    share = family.test_animals
    if share >= 1 and (not float(share).is_integer() or share >= count):
        raise ValueError(f"test_animals = {share:g}; allowed: a share below 1, or a number below {count}, the animals")
    for kind in family.fit:
        if kind not in kinds:
            raise ValueError(f"fit: '{kind}' were not recorded; allowed: {', '.join(kinds)}")
    if len(set(family.fit)) < len(family.fit):
        raise ValueError(f"fit = {list(family.fit)}; allowed: each kind once")
    if family.readout == "fitted" and first.choices is None:
        raise ValueError("readout = 'fitted': no choices were recorded; allowed: fixed")
    if first.choices is not None and family.readout == "fixed" and family.outputs != 1:
        raise ValueError(
            f"outputs = {family.outputs}: allowed: 1, whose activity is P(choice = 1), or readout = fitted"
        )
    if family.reward == "centred" and first.rewards is None:
        raise ValueError("reward = 'centred': no rewards were recorded; allowed: raw")
    if family.reward_decay == "fitted" and family.reward == "raw":
        raise ValueError("reward_decay = 'fitted': allowed with reward = centred")
    _check_neurons(family)


def _check_neurons(family: "Recordings") -> None:
    first, neurons, outputs = family.animals[0], family.neurons, family.outputs
    if first.targets is not None and first.targets.shape[1] != outputs:
        raise ValueError(f"outputs = {outputs}: the recorded targets have {first.targets.shape[1]} neurons")
    if first.activity is None:
        if neurons:
            raise ValueError(f"neurons = {list(neurons)}: no activity was recorded; leave it out")
        return
    width = first.activity.shape[1]
    if neurons and (len(set(neurons)) < len(neurons) or len(neurons) != width):
        raise ValueError(f"neurons = {list(neurons)}; allowed: {width} distinct numbers, one a column of activity")
    if family.population == "all":
        return
    if max(neurons, default=0) >= outputs:
        raise ValueError(f"neurons: {max(neurons)} is beyond the last of {outputs} output neurons")
    if width > outputs:
        raise ValueError(f"outputs = {outputs}: activity has {width} columns; allowed: {width} or more")
    if not neurons and width != outputs:
        raise ValueError(f"outputs = {outputs}: activity has {width} columns; name their neurons, neurons = [0, …]")


def check_network(
    family: "Recordings", weights: Sequence[Any], activity: Sequence[Any], variables: Sequence[str]
) -> None:
    """Refuse a network that does not fit the recordings; arguments and errors as of `Recordings.check`."""
    first = family.animals[0]
    _check_weights(first, weights)
    if first.activity is not None and family.population == "all":
        count, width = sum(one.shape[-1] for one in activity), first.activity.shape[1]
        if max(family.neurons, default=width - 1) >= count or (not family.neurons and width != count):
            raise ValueError(f"files: activity has {width} columns, and the circuit {count} neurons but the inputs")
    known = {number for number, one in enumerate(arrays_of(family).unknowns.initial) if one is not None}
    if family.initial == "known" and (missing := [n for n in range(len(weights)) if n not in known]):
        raise ValueError(
            f"initial = 'known': those of projection {missing[0]} were not recorded; allowed: zero, fitted"
        )
    if "modulator" in variables and first.targets is None and first.choices is None:
        raise ValueError(
            "rule: it reads the modulator, which is target − output; neither targets nor choices were recorded"
        )
    if "neuromodulator" in variables and first.rewards is None:
        raise ValueError("rule: it reads the neuromodulator, which is the reward; no rewards were recorded")


def _check_weights(first: Animal, weights: Sequence[Any]) -> None:
    for name, given in (("weights", first.weights), ("initial_weights", first.initial_weights)):
        if (last := max(given, default=0)) >= len(weights):
            allowed = f"allowed: numbers below {len(weights)}, the projections of the circuit"
            raise ValueError(f"files: {name} of projection {last}; {allowed}")
        for number, recorded in given.items():
            shapes = recorded.shape[-2:], weights[number].shape
            if shapes[0] != shapes[1]:
                sizes = [" × ".join(map(str, shape)) for shape in shapes]
                raise ValueError(
                    f"files: {name} of projection {number} are {sizes[0]} in the recordings, and {sizes[1]} in the "
                    "circuit, in which a bias neuron has a row"
                )
