"""Small recordings that tests share, and networks for them."""

import math
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from metarule import Feedforward, InnerLoop, Lifetime, Polynomial
from metarule.recordings import Recordings

LINEAR = Feedforward(hidden=(), output="identity", bias=False, feedback="zero")
SIGMOID = replace(LINEAR, output="sigmoid")
STEPS, INPUTS = 9, 3
TERMS = ("pre*post", "post^2*weight", "weight")
REWARDED = (*TERMS, "pre*neuromodulator")


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


def recording(outputs=2, steps=STEPS, seed=0, choices=False, **others):
    """Arrays of an animal that did anything, with gaps."""
    draw = np.random.default_rng(seed)
    arrays = {"inputs": draw.normal(size=(steps, INPUTS)), "initial_weights": draw.normal(size=(INPUTS, outputs)) / 2}
    arrays["activity"] = np.where(draw.random((steps, outputs)) < 0.3, np.nan, draw.normal(size=(steps, outputs)))
    arrays["weights"] = np.where(draw.random((steps, INPUTS, outputs)) < 0.8, np.nan, 0.5)
    if choices:
        arrays["choices"] = np.where(draw.random(steps) < 0.2, np.nan, draw.integers(0, 2, steps))
        arrays["rewards"] = np.where(draw.random(steps) < 0.2, np.nan, draw.integers(0, 2, steps))
    return {name: one for name, one in (arrays | others).items() if one is not None}


class Values(NamedTuple):
    """Values of all unknowns of one animal."""

    theta: np.ndarray
    weights: np.ndarray
    offset: float | None = None
    gains: np.ndarray | None = None
    logit: float | None = None


def predictions(arrays, values, output):
    """What a network of one projection does: activity, weights and P(choice = 1) of each step, one row each."""
    weights, average, rows = values.weights, 0.0, []
    decay = 0.0 if values.logit is None else 1 / (1 + np.exp(-values.logit))
    for t, pre in enumerate(arrays["inputs"]):
        potential = pre @ weights
        post = potential if output == "identity" else 1 / (1 + np.exp(-potential))
        p = post[0] if values.gains is None else 1 / (1 + np.exp(-values.offset - values.gains @ post))
        rows.append({"activity": post, "weights": weights.reshape(-1), "choices": np.array([p])})
        change = values.theta[0] * np.outer(pre, post) + values.theta[1] * post**2 * weights + values.theta[2] * weights
        reward = arrays["rewards"][t] if "rewards" in arrays else np.nan
        if not np.isnan(reward):
            third = reward if values.logit is None else reward - average
            average = decay * average + (1 - decay) * reward
            change = change + values.theta[3] * third * pre[:, None]
        weights = weights + change * (arrays["plastic"][t] if "plastic" in arrays else 1)
    return {kind: np.stack([row[kind] for row in rows]) for kind in rows[0]}
