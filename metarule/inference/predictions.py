"""Predictions of fitted networks, and how much of the recordings they explain."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from metarule.inference.problem import Problem
from metarule.lifetime.scans import loop
from metarule.meta.curvature import network_of
from metarule.meta.fits import own_unknowns, unflatten
from metarule.meta.levenberg import Point
from metarule.prng import run_key
from metarule.recordings.likelihood import GAUSSIAN, by_kind, fit_of
from metarule.recordings.tasks import RecordedTask
from metarule.types import Integer

__all__ = ["deviance_explained", "explained", "mean_of", "observations", "predictions", "r_squared"]


@partial(jax.jit, static_argnames="learner")
def predictions(learner: Any, animals: RecordedTask, point: Point) -> dict[str, Array]:
    """Predictions for each animal and step by kind [animals, steps, …], under some values of the unknowns."""
    theta, shared = unflatten(learner, point.shared)

    def one(own: Array, task: RecordedTask) -> dict[str, Array]:
        context, state = network_of(learner, theta, shared, own_unknowns(learner, theta, task, own), task)

        def step(state: Any, t: Integer) -> tuple[Any, dict[str, Array]]:
            after, response = learner.step(theta, context, state, learner.stimulus(context, t))
            return after, by_kind(learner.tasks.predict(context.task, state.weights, response))

        return loop(step, state, jnp.arange(learner.steps))[1]

    return jax.vmap(one)(point.own, animals)


@partial(jax.jit, static_argnames="learner")
def observations(learner: Any, animals: RecordedTask) -> dict[str, Array]:
    """Recorded values for each animal and step by kind [animals, steps, …]; NaN is "not observed"."""

    def one(task: RecordedTask) -> dict[str, Array]:
        ts = jnp.arange(learner.steps)
        stimuli = jax.vmap(lambda t: learner.tasks.stimulus(task, t, run_key(0)))(ts)
        return by_kind(stimuli.observed, axes=1)

    return jax.vmap(one)(animals)


def explained(problem: Problem, predicted: dict[str, Any]) -> dict[str, Any]:
    """Share of held-out recordings that predictions explain: `r2` by Gaussian kind, and `deviance_explained`."""
    observed = jax.device_get(observations(problem.learner, problem.animals))
    report: dict[str, Any] = {"r2": {}, "deviance_explained": None}
    for kind, values in observed.items():
        scored = values[problem.scored]
        fitted = values[problem.is_fitted] if problem.is_fitted.any() else scored
        if kind in GAUSSIAN:
            report["r2"][kind] = r_squared(predicted[kind][problem.scored], scored, fitted)
        else:
            report["deviance_explained"] = deviance_explained(predicted[kind][problem.scored], scored, fitted)
    return report


def r_squared(predicted: Any, observed: Any, fitted: Any) -> float | None:
    """1 − Σ (prediction − observation)² / Σ (mean − observation)², with the mean of each entry over fitted animals.

    Sums are over what was observed; a prediction that is NaN there makes it NaN.
    """
    total = np.nansum((observed - mean_of(fitted)) ** 2)
    left = np.sum(np.where(np.isnan(observed), 0.0, predicted - observed) ** 2)
    return float(1 - left / total) if total > 0 else None


def mean_of(observed: Any) -> Any:
    """Mean of each entry over animals and steps [animals, steps, entries]; 0 where it was never observed."""
    return np.nansum(observed, axis=(0, 1)) / np.maximum(np.isfinite(observed).sum(axis=(0, 1)), 1)


def deviance_explained(predicted: Any, observed: Any, fitted: Any) -> float | None:
    """1 − deviance / deviance of the mean choice of the fitted animals."""
    mean = np.broadcast_to(mean_of(fitted), observed.shape)
    predictions = jnp.asarray(predicted), jnp.asarray(mean)
    left, whole = (float(jnp.sum(fit_of("choices", one, jnp.asarray(observed)).loss)) for one in predictions)
    return 1 - left / whole if whole > 0 else None
