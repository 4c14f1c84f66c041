"""Experiments from which rules are inferred, and what is measured of the inferred rules."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from immutabledict import immutabledict

from benchmarks.recorded import Case, linear, reinforce, simulated, truth, zero
from metarule.inference.identifiability import identify
from metarule.inference.predictions import explained, predictions
from metarule.inference.problem import Fitted, Problem
from metarule.inference.selection import select
from metarule.inference.uncertainty import laplace_intervals
from metarule.recordings.animals import Animal

__all__ = ["CHOICE", "TESTS", "Found", "Measure", "Setting", "found", "oja"]

_RATE, _TERMS = 0.02, 27
_OJA = {"pre*post": _RATE, "post^2*weight": -_RATE}
_REWARDED = {"pre*neuromodulator": 1.0}
_REINFORCE, _STEP, _START = "pre*modulator*neuromodulator", 0.1, -2.0


class Found(NamedTuple):
    """Findings of an experiment.

    Attributes:
        problem: the recordings.
        fitted: the fit.
        terms: numbers of the terms of the rule, which are the first directions of the fit.
        true: true coefficients of all candidates.
        scale: in which errors are counted.
    """

    problem: Problem
    fitted: Fitted
    terms: Sequence[int]
    true: Any
    scale: float


class Measure(NamedTuple):
    """Measure of an inferred rule.

    Attributes:
        what: its name.
        of: its value in an experiment.
        target: least and largest value, or None.
        over: what is made of the values of all seeds.
        note: on its value.
    """

    what: str
    of: Callable[[Found], float]
    target: tuple[float | None, float | None] = (None, None)
    over: Literal["worst", "mean", "median"] = "worst"
    note: str = ""


class Setting(NamedTuple):
    """Setting of a test: experiments and what is measured.

    Attributes:
        case: the experiments.
        measures: what is measured of each.
        is_selected: whether terms are selected; else all are fitted.
        repeated: factor of the number of seeds.
    """

    case: Case
    measures: tuple[Measure, ...]
    is_selected: bool = False
    repeated: int = 1


def found(problem: Problem, case: Case, is_selected: bool) -> Found:
    """Infer the rule of an experiment from θ = 0, with all terms or with selected ones."""
    true = truth(problem, case.rule)
    if is_selected:
        selection = select(problem, zero(problem))
        return Found(problem, selection.fitted, selection.terms, true, case.scale)
    fitted = problem.fit(zero(problem), np.eye(problem.size))
    return Found(problem, fitted, range(len(problem.terms)), true, case.scale)


# --- Cases


def oja(animals: int, tasks: Mapping[str, Any] = immutabledict(), output: str = "identity", **settings: Any) -> Case:
    """Animals that learn by Oja's rule at a rate of .02, and 27 candidate terms."""
    circuit = linear(output)
    given = {"steps": 50, "inputs": 5, "outputs": 3} | settings
    recorded = simulated(_OJA, circuit, animals=animals, **given)
    terms = ("taylor(pre, post, weight; 2)",)
    return Case(recorded, _OJA, terms, _RATE, circuit, {"test_animals": 0} | dict(tasks))


def _choice(rule: Mapping[str, float]) -> Case:
    """Animals that choose, and 81 candidate terms; noise on the inputs makes pre and pre² differ."""
    circuit = linear("sigmoid")
    settings = {"animals": 25, "steps": 240, "inputs": 2, "outputs": 1, "environment": "odours", "input_noise": 0.2}
    recorded = simulated(rule, circuit, **settings, reward="centred", record=("choices", "weights"))
    terms = ("taylor(pre, post, weight, neuromodulator; 2)",)
    return Case(recorded, rule, terms, 1.0, circuit, {"fit": ("choices",), "reward": "centred", "test_animals": 5})


def _reinforce(off: float | None) -> Case:
    """Animals that learn by REINFORCE, and 16 terms; initial weights are fitted, or assumed, off by some amount."""
    animals = reinforce(rate=_STEP, animals=20, steps=500, weight=_START)

    def assumed(seed: int) -> list[Animal]:
        wrong = {0: np.array([[_START + (off or 0.0)], [0.0]])}
        return [animal._replace(initial_weights=wrong) for animal in animals(seed)]

    terms = ("taylor(pre, weight, modulator, neuromodulator; 1)",)
    tasks = {"fit": ("choices",), "initial": "fitted" if off is None else "known", "test_animals": 0}
    return Case(assumed, {_REINFORCE: _STEP}, terms, _STEP, linear("sigmoid", bias=True), tasks)


# --- Measures


def _error(one: Found, of: Callable[[Any], Any] = np.ones_like) -> float:
    """Largest error of some coefficients, in the parameter scale."""
    errors = np.abs(one.fitted.shared[: len(one.true)] - one.true)
    return float(errors[of(one.true).astype(bool)].max() / one.scale)


def _covered(one: Found) -> Any:
    """Whether the interval of each fitted coefficient holds the truth."""
    low, high = laplace_intervals(one.problem, one.fitted, list(one.terms))
    true = one.true[list(one.terms)]
    return (low <= true) & (true <= high)


def _of_terms(one: Found) -> float:
    held = _covered(one)
    return float(held.mean()) if held.size else 0.0


def _is_exact(one: Found) -> float:
    return float(set(one.terms) == set(np.flatnonzero(one.true)))


def _coefficient(one: Found, term: str) -> float:
    return float(one.fitted.shared[one.problem.terms.index(term)])


def _holds(one: Found, term: str) -> float:
    """1 if a term was selected and its interval holds the truth."""
    number = one.problem.terms.index(term)
    return float(number in one.terms and _covered(one)[list(one.terms).index(number)])


def _explained(one: Found, shared: Any = None) -> dict[str, Any]:
    point = one.fitted.iterate.point
    if shared is not None:
        point = point._replace(shared=shared)
    return explained(one.problem, jax.device_get(predictions(one.problem.learner, one.problem.animals, point)))


def _r2(one: Found, kind: str) -> float:
    return _explained(one)["r2"][kind]


def _deviance(one: Found) -> float:
    """Share of the deviance of held-out choices that is explained."""
    return _explained(one)["deviance_explained"]


def _from_true_rule(one: Found) -> float:
    """Difference of the explained deviance from that of the true rule."""
    return abs(_deviance(one) - _explained(one, one.true)["deviance_explained"])


def _determined(one: Found) -> float:
    return float(identify(one.problem, one.fitted).directions)


def _is_not_identified(one: Found) -> float:
    identified = identify(one.problem, one.fitted)
    return float(identified.verdict == "not identified" and len(identified.loose) > 0)


def _changes(one: Found) -> float:
    """Root mean square of predicted minus true Δw, over animals, steps and synapses."""
    predicted = jax.device_get(predictions(one.problem.learner, one.problem.animals, one.fitted.iterate.point))
    true = np.asarray(one.problem.animals.weights[0]).reshape(predicted["weights"].shape)
    return float(np.sqrt(np.mean(np.diff(predicted["weights"] - true, axis=1) ** 2)))


# --- Tests


def _exact(case: Case, most: float | None, over: Literal["worst", "median"] = "worst") -> Setting:
    return Setting(case, (Measure("largest error of 27 coefficients / rate", _error, (None, most), over),))


def _large(neurons: tuple[int, ...]) -> Setting:
    tasks = {"fit": ("activity",), "neurons": neurons, "outputs": 20}
    settings: dict[str, Any] = {"inputs": 100, "outputs": 20, "activity_noise": 1.0}
    measures = (
        Measure("R² of weights", partial(_r2, kind="weights"), (0.99, None)),
        Measure("coefficients of 27 in their interval", lambda one: _covered(one).sum(), (24, None), "mean"),
        Measure("R² of activity", partial(_r2, kind="activity"), over="mean"),
    )
    return Setting(oja(20, tasks, neurons=neurons, record=("activity", "weights"), **settings), measures)


def _weak(noise: float) -> Setting:
    note = "" if noise >= 1e-3 else "partly: over half of the directions are determined, and the others named"
    measures = (
        Measure("R² of activity", partial(_r2, kind="activity"), (0.99, None)),
        Measure("share that is not identified, with loose directions", _is_not_identified, (1.0, None), "mean", note),
        Measure("directions of 27 that are determined", _determined, over="mean"),
        Measure("largest error of 27 coefficients / rate", _error, over="median"),
    )
    return Setting(oja(20, steps=10, input_scale=0.1, activity_noise=noise), measures)


def _foraging(rule: Mapping[str, float], repeated: int) -> Setting:
    measures = [
        Measure("share with exactly the true terms", _is_exact, (1.0, None), "mean"),
        Measure("R² of weights, held out", partial(_r2, kind="weights"), (0.99, None), "median"),
        Measure("deviance explained, held out", _deviance, over="mean"),
        Measure("its distance from that of the true rule", _from_true_rule, (None, 0.01)),
        Measure("intervals of selected terms with the truth", _of_terms, (0.9, None), "mean"),
    ]
    for term in rule:
        measures.append(Measure(f"coefficient of {term}", partial(_coefficient, term=term), over="mean"))
        measures.append(Measure(f"share with {term} in its interval", partial(_holds, term=term), over="mean"))
    return Setting(_choice(rule), tuple(measures), is_selected=True, repeated=repeated)


def _reinforced(off: float | None) -> Setting:
    target = (None, 0.013 if off is None else None)
    measures = (
        Measure("RMSE of Δw", _changes, target, note="over animals, steps and synapses; the sd of Δw is .024"),
        Measure("share with exactly the true terms", _is_exact, over="mean"),
        Measure(f"coefficient of {_REINFORCE}", partial(_coefficient, term=_REINFORCE), over="mean"),
        Measure("intervals of selected terms with the truth", _of_terms, over="mean"),
    )
    return Setting(_reinforce(off), measures, is_selected=True)


CHOICE = _choice(_REWARDED)
_NOISY = oja(50, activity_noise=0.1)
_HIDDEN: Mapping[str, Any] = {"initial_weights": "hidden"}
TESTS = {
    "oja": _exact(oja(20), 0.001),
    "noise": Setting(
        _NOISY,
        (
            Measure("largest error of the 2 true terms / rate", partial(_error, of=np.abs), (None, 0.03), "mean"),
            Measure("largest error of the 25 others / rate", partial(_error, of=np.logical_not), (None, 0.1), "mean"),
            Measure("coefficients of 27 in their interval", lambda one: _covered(one).sum(), (24, None), "mean"),
        ),
        repeated=2,
    ),
    "noise, selected": Setting(
        _NOISY,
        (
            Measure("share with exactly the true terms", _is_exact, (1.0, None), "mean"),
            Measure("intervals of selected terms with the truth", _of_terms, (0.9, 0.99), "mean"),
        ),
        is_selected=True,
        repeated=5,
    ),
    "sigmoid": _exact(oja(50, output="sigmoid", inputs=10, outputs=10), 0.01),
    "half observed": _exact(oja(20, {"neurons": (0, 1, 2, 3), "outputs": 8}, outputs=8, neurons=(0, 1, 2, 3)), 0.001),
    "100-20, noise 1": _large(()),
    "100-20, half observed": _large(tuple(range(10))),
    "weak inputs": _weak(1e-3),
    "weak inputs, less noise": _weak(1e-4),
    "unknown weights": _exact(oja(20, **_HIDDEN), 0.001),
    "weights taken for 0": _exact(oja(20, {"initial": "zero"}, **_HIDDEN), None, "median"),
    "choices": _foraging(_REWARDED, repeated=2),
    "choices and decay": _foraging(_REWARDED | {"weight": -0.05}, repeated=1),
    "REINFORCE, fitted weights": _reinforced(None),
    **{f"REINFORCE, weights off by {off:g}": _reinforced(off) for off in (0.5, 1.0, 2.0)},
}
