"""Models that an inferred rule is compared with: rules by name, all terms, fixed weights, and means."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from msgspec.structs import replace

from metarule.analysis.explanation import is_possible
from metarule.analysis.statistics import interval
from metarule.inference.predictions import explained, mean_of, observations, predictions
from metarule.inference.problem import Fitted, Problem, fresh_state, make_problem
from metarule.meta.fits import floors
from metarule.meta.levenberg import variances
from metarule.prng import run_key
from metarule.recordings.likelihood import GAUSSIAN, fit_of
from metarule.rules.polynomial import Polynomial
from metarule.rules.presets import RULES, TRACES
from metarule.rules.terms import parse
from metarule.types import Split

__all__ = ["ALL_TERMS", "FIXED", "INFERRED", "Model", "compared_models", "known_sets", "models_report", "of_fit"]

INFERRED, ALL_TERMS, FIXED, NULL, KNOWN_START = (
    "inferred rule",
    "all terms",
    "fixed weights",
    "null",
    "initial weights 0",
)


class Model(NamedTuple):
    """A model of the recordings.

    Attributes:
        log_likelihood: of each animal [animals].
        parameters: number of fitted numbers.
        explained: share of the held-out recordings that it explains, as from `explained`.
        noise: standard deviation under which its fit is most likely, by Gaussian kind; empty for means.
    """

    log_likelihood: Float[np.ndarray, " animals"]
    parameters: int
    explained: dict[str, Any]
    noise: Mapping[str, float] = MappingProxyType({})


def of_fit(problem: Problem, fitted: Fitted) -> Model:
    """Model of a fit."""
    predicted = jax.device_get(predictions(problem.learner, problem.animals, fitted.iterate.point))
    weights, floor = problem.is_fitted.astype(float), np.asarray(floors(problem.learner))
    deviations = np.sqrt(np.asarray(variances(problem.kinds, fitted.iterate.curvature, weights, floor)))
    noise = {kind: float(one) for kind, one in zip(problem.kinds, deviations, strict=True) if kind in GAUSSIAN}
    return Model(fitted.log_likelihood, fitted.parameters, explained(problem, predicted), noise)


def compared_models(
    problem: Problem, split: Split, optimizer: Any, start: Any, names: Iterable[str]
) -> Iterator[tuple[str, Model]]:
    """Models to compare with, one after another: means, fixed weights, and rules by name.

    Args:
        problem: the recordings.
        split: the animals.
        optimizer: settings of the fits.
        start: point in which all coefficients are 0.
        names: rules by name; empty for all whose local variables the recordings have.
    """
    yield NULL, _null(problem)
    fixed = problem.fit_each([start], [problem.directions(())], fits=max(len(problem.terms), 1))[0]
    yield FIXED, of_fit(problem, fixed._replace(parameters=fixed.parameters - _fixed_size(problem)))
    if start.own.shape[1] and _count_projections(problem) == 1:  # in deep networks, weights of 0 would stay 0
        tasks = replace(problem.learner.tasks, initial="zero")
        yield KNOWN_START, _fitted_anew(replace(problem.learner, tasks=tasks), split, optimizer)
    names = tuple(names) or tuple(name for name in RULES if name != "anti_hebb")  # Hebb with a coefficient below 0
    inside = {name: _direction(problem, name) for name in names}
    directions = {name: one for name, one in inside.items() if one is not None}
    yield from _named(problem, start, directions)
    outside = tuple(name for name in names if name not in directions and is_possible(problem.learner, name))
    if outside:
        rule = Polynomial(terms=outside, hebbian_scale=_scale(problem))
        other = make_problem(replace(problem.learner, rule=rule), split, optimizer)
        theta = jax.tree.map(jnp.asarray, other.learner.init_theta(run_key(0)))
        yield from _named(other, other.start(theta), *_parameters(other, outside))


def known_sets(problem: Problem) -> list[tuple[int, ...]]:
    """Numbers of the terms of each rule by name that the terms of the inferred rule include."""
    directions = [_direction(problem, name) for name in RULES]
    return [tuple(np.flatnonzero(one).tolist()) for one in directions if one is not None]


def _named(problem: Problem, start: Any, directions: dict[str, Any], decays: int = 0) -> Iterator[tuple[str, Model]]:
    """Models that move in some directions and in those of unknowns that are no parameters of rules."""
    if directions:
        rows = [np.concatenate([np.atleast_2d(one), problem.nuisance[decays:]]) for one in directions.values()]
        fits = problem.fit_each([start] * len(rows), rows, fits=max(len(problem.terms), len(rows)))
        yield from ((name, of_fit(problem, fitted)) for name, fitted in zip(directions, fits, strict=True))


def _parameters(problem: Problem, names: tuple[str, ...]) -> tuple[dict[str, Any], int]:
    """Directions of the parameters of rules by name, of each θ that projections have, and the number of all decays."""
    numbers = problem.theta(np.arange(problem.size, dtype=float))
    coefficients, decays = numbers, np.zeros(0)
    if isinstance(numbers, Mapping):
        coefficients, decays = numbers["coefficients"], numbers["logit_decay"]
    traces = sorted({trace for name in names for trace in TRACES.get(name, {})})
    rows, directions = np.eye(problem.size), dict[str, Any]()
    for place, name in enumerate(names):
        of_traces = [decays[..., traces.index(trace)] for trace in TRACES.get(name, {})]
        used = np.concatenate([np.ravel(one) for one in (coefficients[..., place], *of_traces)])
        directions[name] = rows[used.astype(int)]
    return directions, int(np.size(decays))


def models_report(problem: Problem, models: dict[str, Model]) -> dict[str, Any]:
    """Models by name, with log-likelihoods, criteria and the paired difference to the inferred rule an animal."""
    reference, report = models[INFERRED], {}
    observed = jax.device_get(observations(problem.learner, problem.animals))
    used = [np.isfinite(observed[kind][problem.is_fitted]).sum() for kind in problem.kinds]
    for name, model in models.items():
        fitted = float(model.log_likelihood[problem.is_fitted].sum())
        difference = interval((reference.log_likelihood - model.log_likelihood)[problem.scored])
        report[name] = {
            "log_likelihood": float(model.log_likelihood[problem.scored].sum()),
            "aic": 2 * model.parameters - 2 * fitted,
            "bic": model.parameters * float(np.log(sum(used))) - 2 * fitted,
            "parameters": model.parameters,
            **model.explained,
            "noise": dict(model.noise),
            "difference": None if name == INFERRED else difference._asdict(),
        }
    return report


def _fixed_size(problem: Problem) -> int:
    """Numbers of θ that a fit without directions counts: those of an MLP."""
    return 0 if problem.terms else int(problem.scale.size)


def _count_projections(problem: Problem) -> int:
    first = jax.tree.map(lambda leaf: leaf[0], problem.animals)
    return len(jax.eval_shape(lambda: fresh_state(problem.learner, first)).weights)


def _fitted_anew(learner: Any, split: Split, optimizer: Any) -> Model:
    """Model of another learner, whose θ is fitted from 0."""
    other = make_problem(learner, split, optimizer)
    start = other.start(jax.tree.map(lambda leaf: 0 * leaf, learner.init_theta(run_key(0))))
    return of_fit(other, other.fit(start, np.eye(other.size)))


def _scale(problem: Problem) -> float:
    rule = problem.learner.rule
    return rule.hebbian_scale if isinstance(rule, Polynomial) else 0.1


def _direction(problem: Problem, name: str) -> Any:
    """Coefficients of a rule by name in the terms of the inferred one; None if these do not have it."""
    rule = problem.learner.rule
    if name in TRACES or problem.learner.theta_groups or not isinstance(rule, Polynomial) or rule.traces:
        return None
    direction, terms = np.zeros(problem.size), [parse(term) for term in problem.terms if term not in RULES]
    if len(terms) < len(problem.terms) or any(len(term) > 1 for term in terms):
        return None
    powers = [term[0].powers for term in terms]
    for scale, wanted in parse(RULES[name]):
        if wanted not in powers:
            return None
        direction[powers.index(wanted)] = scale / terms[powers.index(wanted)][0].scale
    return direction


def _null(problem: Problem) -> Model:
    """Means of the fitted animals, of each neuron and synapse, with their variance; the mean choice."""
    observed = jax.device_get(observations(problem.learner, problem.animals))
    likelihood, parameters, predicted = np.zeros(len(problem.is_fitted)), 0, dict[str, Any]()
    for kind, values in observed.items():
        fitted = values[problem.is_fitted]
        mean = mean_of(fitted)
        predicted[kind] = np.broadcast_to(mean, values.shape)
        if kind not in problem.kinds:
            continue
        parameters += mean.size
        if kind in GAUSSIAN:
            variance = max(float(np.nanmean((fitted - mean) ** 2)), np.finfo(float).tiny)
            loss = (values - mean) ** 2 / (2 * variance) + np.log(2 * np.pi * variance) / 2
            parameters += 1
        else:
            fit = fit_of("choices", jnp.asarray(predicted[kind]), jnp.asarray(values))
            loss = np.where(fit.observed, fit.loss, np.nan)
        likelihood -= np.nansum(loss, axis=(1, 2))
    return Model(likelihood, parameters, explained(problem, predicted))
