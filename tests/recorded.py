"""Small recordings that tests share, and networks for them."""

import math

import numpy as np
from msgspec.structs import replace

from metarule import Feedforward, InnerLoop, Lifetime, Polynomial
from metarule.recordings import Recordings

LINEAR = Feedforward(hidden=(), output="identity", bias=False, feedback="zero")
SIGMOID = replace(LINEAR, output="sigmoid")


def save(folder, animals):
    """Write the arrays of animals, one file each, and return their pattern."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, arrays in enumerate(animals):
        np.savez(folder / f"animal-{number}.npz", **{name: one for name, one in arrays.items() if one is not None})
    return str(folder / "*.npz")


def as_arrays(animal):
    """Arrays of an `Animal`, as in a file."""
    arrays = animal._asdict()
    for name in ("weights", "initial_weights"):
        for number, one in arrays.pop(name).items():
            arrays[f"{name}_{number}" if number else name] = one
    return {name: one for name, one in arrays.items() if name != "name" and one is not None}


def learner_on(folder, animals, rule, circuit=LINEAR, inner_loop=None, **fields):
    """A learner that should do what animals did, without a bound of weights."""
    tasks = Recordings(**{"files": save(folder, animals), "test_animals": 0} | fields)
    options = {"steps": tasks.longest, "weight_bound": math.inf, "online_loss_weight": 1.0} | (inner_loop or {})
    rule = rule if isinstance(rule, Polynomial) else Polynomial(terms=rule)
    return Lifetime(rule=rule, circuit=circuit, tasks=tasks, inner_loop=InnerLoop(**options))
