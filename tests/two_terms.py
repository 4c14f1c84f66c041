"""Recordings of a rule of two terms, by a plain loop."""

import numpy as np

from metarule import Polynomial

# Δw = 0.1·pre·post − 0.05·weight, among eight terms.
TRUTH = {"weight": -0.05, "pre*post": 0.1}
RULE = Polynomial(terms=("taylor(pre, post, weight; 1)",), hebbian_scale=0.1)
ANIMALS, STEPS, INPUTS, OUTPUTS = 8, 15, 3, 2


def recordings(noise=0.0):
    """Inputs, noisy activity and initial weights of animals."""
    rng = np.random.default_rng(0)
    for _ in range(ANIMALS):
        inputs, initial = rng.normal(size=(STEPS, INPUTS)), rng.normal(size=(INPUTS, OUTPUTS))
        activity, weights = np.zeros((STEPS, OUTPUTS)), initial
        for t, pre in enumerate(inputs):
            activity[t] = pre @ weights
            weights = weights + TRUTH["pre*post"] * np.outer(pre, activity[t]) + TRUTH["weight"] * weights
        observed = activity + noise * rng.normal(size=activity.shape)
        yield {"inputs": inputs, "activity": observed, "initial_weights": initial}
