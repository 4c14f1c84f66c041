"""Inference of a rule from recordings, from a fit with all terms to the report."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarule.inference.identifiability import Identified, identify
from metarule.inference.models import ALL_TERMS, INFERRED, Model, compared_models, known_sets, models_report, of_fit
from metarule.inference.problem import Fitted, Problem, make_problem
from metarule.inference.recalling import Recall, compute_anew
from metarule.inference.recovery import recover
from metarule.inference.selection import Selection, select
from metarule.inference.settings import Inference
from metarule.inference.uncertainty import Ends, bootstrap_intervals, laplace_intervals, profile_intervals
from metarule.meta.fits import unflatten
from metarule.recordings.likelihood import GAUSSIAN
from metarule.recordings.tasks import Readout, SharedUnknowns
from metarule.rules.lifting import local_variables
from metarule.rules.mlp import MLP
from metarule.rules.polynomial import Polynomial
from metarule.types import Split, Theta

__all__ = ["Inferred", "infer_rule", "shared_unknowns_from"]

# Coefficients below this share of the parameter scale are 0 under a Laplace prior.
_ZERO = 1e-3
# Ratio of the largest coefficient to the parameter scale beyond which the scale is a poor one.
_POOR_SCALE = 30.0
# Parameters of an MLP up to which Gauss–Newton steps follow gradient descent.
_SMALL = 300
# Difference of the BIC beyond which a model is better with strong evidence (Kass, Raftery 1995).
_STRONG = 10.0
# Animals below which bootstrap intervals are too short.
_FEW = 10


class Inferred(NamedTuple):
    """An inferred rule.

    Attributes:
        theta: θ, with 0 for coefficients that were not selected.
        problem: the recordings.
        fitted: the fit of the selected coefficients.
        report: numbers for the summary.
    """

    theta: Theta
    problem: Problem
    fitted: Fitted
    report: dict[str, Any]


def infer_rule(
    learner: Any,
    split: Split,
    theta: Theta,
    optimizer: Any,
    settings: Inference,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    recall: Recall = compute_anew,
) -> Inferred:
    """Infer a rule: select its terms, fit them, and report how sure they are and what the rule is compared with.

    Args:
        learner: a learner on recordings.
        split: animals that are fitted and animals that are held out, which may be the same.
        theta: θ with all terms, as fitted by the optimiser, or the θ of an MLP.
        optimizer: the optimiser; a Gauss–Newton one gives its settings to all further fits.
        settings: of the report.
        seed: of bootstrap and recovery.
        say: receives a line about each part of the work.
        recall: recalls what a stopped inference has computed.
    """
    problem = make_problem(learner, split, optimizer)
    # Through numpy, because gradient descent leaves θ on several devices.
    start = problem.start(jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), float), theta))
    if start.own.shape[1]:
        alone = problem.fit_each([start], [np.zeros((1, problem.size))], fits=max(len(problem.terms), 1))
        start = alone[0].iterate.point
    size = len(problem.terms) or problem.scale.size
    empty = start._replace(shared=jnp.asarray(start.shared).at[:size].set(0.0))
    selection, everything = _selected(problem, start, empty, settings, say, recall)
    fitted, numbers = selection.fitted, list(selection.terms)
    models = {INFERRED: of_fit(problem, fitted)}
    if everything is not None and len(numbers) < len(problem.terms):
        models[ALL_TERMS] = of_fit(problem, everything)
    for name, model in compared_models(problem, split, optimizer, empty, settings.models):
        say(f"compared with: {name}")
        models[name] = model
    identified = None
    if problem.terms:
        at_end = problem.fit(fitted.iterate.point, np.eye(problem.size), steps=1)
        identified = identify(problem, at_end._replace(variance=fitted.variance))
    report = _report(problem, selection, models, identified)
    report["coefficients"] = _coefficients(problem, fitted, numbers, settings, seed)
    if settings.recover and numbers:

        def progress(number: int) -> None:
            say(f"recovery: {number + 1} of {settings.recover} experiments")

        report["recovery"] = recover(problem, fitted, numbers, settings.recover, seed, progress, recall)
    report["warnings"] = _warnings(problem, selection, models, report)
    if settings.terms == "all" and start.own.shape[1]:
        reason = "initial weights that are fitted may encode what came later"
        report["warnings"].append(f"{reason}: coefficients of all terms are then biased; allowed: terms = selected")
    return Inferred(problem.theta(fitted.shared), problem, fitted, report)


def _selected(
    problem: Problem, start: Any, empty: Any, settings: Inference, say: Callable[[str], None], recall: Recall
) -> tuple[Selection, Fitted | None]:
    """Selected terms, and the fit with all terms; a small MLP is fitted further, a larger one is only evaluated."""
    if not problem.terms:
        is_small = problem.size <= _SMALL
        say("fitting the MLP further by Gauss–Newton" if is_small else "evaluating the MLP")
        directions = np.eye(problem.size) if is_small else problem.directions(())
        return Selection((), problem.fit(start, directions), ()), None
    say(f"fitting all {len(problem.terms)} terms")
    everything = problem.fit(start, np.eye(problem.size))
    terms = tuple(range(len(problem.terms)))
    if settings.terms == "all":
        return Selection(terms, everything, ()), everything
    if np.any(np.asarray(problem.settings.penalty.l1)):
        shrunk = problem.fit_each([start], [np.eye(problem.size)], l1=True)[0]
        sizes = np.abs(shrunk.shared[: len(terms)]) / problem.scale[: len(terms)]
        left = tuple(np.flatnonzero(sizes > _ZERO).tolist())
        point = shrunk.iterate.point
        is_kept = np.isin(np.arange(problem.size), left) | (np.arange(problem.size) >= len(terms))
        chosen = point._replace(shared=jnp.where(is_kept, point.shared, 0.0))
        return Selection(left, problem.fit(chosen, problem.directions(left)), ()), everything
    known = known_sets(problem)
    selection = select(problem, empty, lambda trial: say(f"{trial.step}: {trial.term}"), recall, everything, known)
    longer = problem.fit(selection.fitted.iterate.point, np.eye(problem.size))
    return selection, min(everything, longer, key=lambda one: float(np.nan_to_num(one.iterate.objective, nan=np.inf)))


def _coefficients(
    problem: Problem, fitted: Fitted, numbers: list[int], settings: Inference, seed: int
) -> dict[str, dict[str, Any]]:
    """Estimate, intervals and scale of each selected coefficient by term."""
    if not numbers:
        return {}
    ends: dict[str, Ends] = {"laplace": laplace_intervals(problem, fitted, numbers)}
    if settings.bootstrap and problem.is_fitted.sum() > 1:
        ends["bootstrap"] = bootstrap_intervals(problem, fitted, numbers, settings.bootstrap, seed)
    if settings.profile:
        ends["profile"] = profile_intervals(problem, fitted, numbers)

    def pair(name: str, place: int) -> list[float | None] | None:
        return [_finite(ends[name].low[place]), _finite(ends[name].high[place])] if name in ends else None

    coefficients = {}
    for place, number in enumerate(numbers):
        low, high = pair("laplace", place) or (None, None)
        coefficients[problem.terms[number]] = {
            "estimate": float(fitted.shared[number]),
            "low": low,
            "high": high,
            "scale": float(problem.scale[number]),
            "bootstrap": pair("bootstrap", place),
            "profile": pair("profile", place),
        }
    return coefficients


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _report(
    problem: Problem, selection: Selection, models: dict[str, Model], identified: Identified | None
) -> dict[str, Any]:
    """The parts of the report that need no further fits."""
    fitted, rule = selection.fitted, problem.learner.rule
    counts = dict(zip(problem.kinds, np.asarray(fitted.iterate.curvature.observations).sum(axis=0), strict=True))
    noise = dict(zip(problem.kinds, np.sqrt(fitted.variance), strict=True))
    theta = problem.theta(fitted.shared)
    kinds: dict[type, str] = {Polynomial: "polynomial", MLP: "mlp"}
    report = {
        "animals": {"fitted": int(problem.is_fitted.sum()), "held_out": int((~problem.is_fitted).sum())},
        "observations": {kind: int(count) for kind, count in counts.items()},
        "selected": [problem.terms[number] for number in selection.terms],
        "terms": len(problem.terms),
        "rule": kinds.get(type(rule), type(rule).__name__),
        "equation": problem.learner.equation(theta),
        "noise": {kind: float(one) for kind, one in noise.items() if kind in GAUSSIAN},
        **models[INFERRED].explained,
        "held_out": "animals that were fitted" if problem.is_fitted.all() else "held-out animals",
        "models": models_report(problem, models),
        "selection": [trial._asdict() for trial in selection.trials],
        "initial_weights": _initial_weights(problem, fitted),
        "unknowns": _shared_unknowns(problem, fitted),
    }
    return report | ({"identified": identified._asdict()} if identified else {})


def _initial_weights(problem: Problem, fitted: Fitted) -> str:
    """Where initial weights are from; those that were not recorded are 0 if they are not fitted."""
    if fitted.iterate.point.own.shape[1]:
        return "fitted"
    return "zero" if problem.learner.tasks.initial == "zero" else "known"


def _shared_unknowns(problem: Problem, fitted: Fitted) -> dict[str, Any]:
    """Fitted readout and decay of the average reward."""
    _, shared = unflatten(problem.learner, jnp.asarray(fitted.shared))
    named: dict[str, Any] = {}
    if shared.readout is not None:
        named["readout"] = {"offset": float(shared.readout.offset), "gains": np.asarray(shared.readout.gains).tolist()}
    if shared.reward_logit is not None:
        named["reward_decay"] = float(jax.nn.sigmoid(shared.reward_logit))
    return named


def shared_unknowns_from(tasks: Any, named: Mapping[str, Any]) -> Any:
    """Shared unknowns of a task family with the values of a report, `unknowns`."""
    first, readout, logit = tasks.shared_unknowns(), None, None
    if first.readout is not None:
        readout = Readout(jnp.asarray(named["readout"]["offset"]), jnp.asarray(named["readout"]["gains"]))
    if first.reward_logit is not None:
        logit = jax.scipy.special.logit(jnp.asarray(named["reward_decay"]))
    return SharedUnknowns(readout, logit)


def _is_wide(one: Mapping[str, Any]) -> bool:
    return bool(one["low"] is None or one["high"] is None or one["high"] - one["low"] > abs(one["estimate"]))


def _misses_choices(problem: Problem) -> bool:
    """True if the rule reads the modulator at steps whose choice was not observed."""
    animals, learner = problem.animals, problem.learner
    if animals.choices is None or "modulator" not in local_variables(learner.rule):
        return False
    is_real = np.arange(animals.choices.shape[1]) < np.asarray(animals.length)[:, None]
    is_plastic = is_real & (np.asarray(animals.plastic) > 0)
    return learner.tasks.animals[0].targets is None and bool(np.isnan(animals.choices)[is_plastic].any())


def _warnings(problem: Problem, selection: Selection, models: dict[str, Model], report: dict[str, Any]) -> list[str]:
    """Reasons to doubt the result."""
    warnings = list[str]()
    if problem.terms and not bool(selection.fitted.iterate.done):
        warnings.append("the fit has not converged; set optimizer.steps higher")
    wide = [term for term, one in report["coefficients"].items() if _is_wide(one)]
    if wide:
        warnings.append(f"intervals are wider than the estimates of {', '.join(wide)}")
    if _misses_choices(problem):
        remedy = "set plastic to 0 there if nothing was learned"
        warnings.append(f"choices are missing, for which the modulator is ½ − P(choice = 1): {remedy}")
    largest = max((abs(one["estimate"]) / one["scale"] for one in report["coefficients"].values()), default=1.0)
    if not 1 / _POOR_SCALE <= largest <= _POOR_SCALE:
        size = f"{largest:.2g} times the parameter scale"
        warnings.append(f"the largest coefficient is {size}, by which directions are judged; set rule.hebbian_scale")
    bic = {name: one["bic"] for name, one in report["models"].items() if np.isfinite(one["bic"])}
    best = min(bic, key=bic.__getitem__, default=INFERRED)
    if bic.get(INFERRED, np.inf) - bic.get(best, np.inf) > _STRONG:
        better = f"its BIC is {bic[best]:.1f}, that of the inferred rule {bic.get(INFERRED, np.inf):.1f}"
        warnings.append(f"{best} explains the recordings better with its number of parameters: {better}")
    for name, model in models.items():
        gain = (model.log_likelihood - models[INFERRED].log_likelihood)[problem.scored]
        if gain.size > 1 and gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(gain.size) and not problem.is_fitted.all():
            what = "all terms together predict" if name == ALL_TERMS else f"model '{name}' predicts"
            warnings.append(f"{what} held-out animals better than the inferred rule")
    if problem.is_fitted.all():
        warnings.append("no animal is held out: models are compared on the animals that they were fitted to")
    if problem.is_fitted.sum() < _FEW and any(one["bootstrap"] for one in report["coefficients"].values()):
        warnings.append(f"{int(problem.is_fitted.sum())} animals are few: bootstrap intervals are too short")
    if report["selected"] == [] and problem.terms:
        warnings.append("no term is worth its coefficient: fixed weights explain the recordings as well")
    return warnings
