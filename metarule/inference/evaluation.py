"""Evaluation of an inferred rule on animals that were not fitted."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarule.analysis.statistics import interval
from metarule.inference.predictions import explained, predictions
from metarule.inference.problem import Problem, log_likelihood
from metarule.meta.fits import floors
from metarule.meta.levenberg import Point, variances
from metarule.recordings.likelihood import GAUSSIAN
from metarule.types import Theta

__all__ = ["evaluate_rule"]


def evaluate_rule(problem: Problem, theta: Theta, shared: Any, noise: dict[str, float]) -> dict[str, Any]:
    """Scores of a rule on all animals of a problem, beside networks whose weights do not change.

    θ, readout, decay and noise are those of the fit; initial weights that are not known are fitted to each animal,
    for the rule as for fixed weights. The noise of fixed weights is that under which these animals are most likely:
    they would be far too unlikely with that of the rule.

    Args:
        problem: the animals.
        theta: θ.
        shared: unknowns that all animals share, as they were fitted.
        noise: standard deviation of the noise by Gaussian kind.

    Returns:
        Log-likelihood by animal, `r2`, `deviance_explained`, and the same for `fixed weights` with the paired
        difference.
    """
    first = problem.start(theta)
    flat = jax.flatten_util.ravel_pytree((jax.tree.map(lambda leaf: jnp.asarray(leaf, float), theta), shared))[0]
    still = np.where(np.arange(problem.size) < problem.scale.size, 0.0, flat)
    inferred = np.array([noise[kind] ** 2 if kind in GAUSSIAN else 1.0 for kind in problem.kinds])
    none, weights = np.zeros((1, problem.size)), np.zeros(len(problem.is_fitted))

    def scores(shared: Any, variance: Any = None) -> dict[str, Any]:
        start = Point(jnp.asarray(shared), first.own)
        fitted = problem.fit_each([start], [none], weights=[weights])[0]
        predicted = jax.device_get(predictions(problem.learner, problem.animals, fitted.iterate.point))
        curvature = fitted.iterate.curvature
        if variance is None:
            variance = np.asarray(variances(problem.kinds, curvature, weights + 1, np.asarray(floors(problem.learner))))
        likelihood = log_likelihood(problem.kinds, curvature, variance, first.own.shape[1])
        return {"log_likelihood": likelihood} | explained(problem, predicted)

    rule, fixed = scores(flat, inferred), scores(still)
    difference = interval(rule["log_likelihood"] - fixed["log_likelihood"])
    names = [problem.learner.tasks.animals[number].name for number in np.asarray(problem.animals.number)]
    return {
        "animals": dict(zip(names, rule["log_likelihood"].tolist(), strict=True)),
        "models": {
            "inferred rule": rule | {"log_likelihood": float(rule["log_likelihood"].sum()), "difference": None},
            "fixed weights": fixed
            | {"log_likelihood": float(fixed["log_likelihood"].sum()), "difference": difference._asdict()},
        },
    }
