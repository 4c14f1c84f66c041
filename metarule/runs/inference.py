"""Results of an inference from recordings: report, tables and figures, resumed where it was stopped."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metarule.analysis.readback import read_back
from metarule.config.toml import ConfigError
from metarule.inference.evaluation import evaluate_rule
from metarule.inference.models import FIXED, INFERRED
from metarule.inference.predictions import observations, predictions
from metarule.inference.problem import Problem, make_problem
from metarule.inference.recalling import Arrays, Recall
from metarule.inference.report import Inferred, infer_rule, shared_unknowns_from
from metarule.parallel.devices import single_device
from metarule.prng import Purpose, run_key, stream
from metarule.recordings.likelihood import GAUSSIAN
from metarule.rules.mlp import MLP
from metarule.runs import figures
from metarule.runs.directory import FIGURES, INFERENCE
from metarule.runs.experiment import Experiment
from metarule.runs.files import whole_file, write_json
from metarule.runs.stopping import StopRequest
from metarule.runs.theta_files import load_theta, theta_meaning, write_theta
from metarule.runs.training import Trained

__all__ = ["evaluate_animals", "in_double_precision", "score_of", "write_inference"]

# Animals whose trajectories are drawn, and trials over which choices are averaged there.
_DRAWN, _TRIALS = 4, 15
_NORMAL = 1.96


@contextmanager
def in_double_precision() -> Iterator[None]:
    """Compute in float64 on one device: the programs of fits are small, and their matrices ill-conditioned."""
    with jax.enable_x64(True), single_device():
        yield


@figures.drawn_last()
def write_inference(
    experiment: Experiment, path: Path, trained: Trained, stop: StopRequest, say: Callable[[str], None]
) -> dict[str, Any]:
    """Infer the rule from what was fitted, and write θ and the summary, then figures.

    Args:
        experiment: an experiment on recordings.
        path: directory of the run.
        trained: outcome of the fit of all terms.
        stop: checked between the parts, which are kept.
        say: receives a line about each part.

    Raises:
        Stopped: on request.
    """
    began = time.perf_counter()
    with in_double_precision():
        split, lifetime, seed = experiment.split, experiment.lifetime, experiment.seed
        recall = _recall(path / INFERENCE / str(trained.steps), stop, trained.steps)
        found = infer_rule(
            lifetime, split, trained.theta, experiment.optimizer, experiment.inference, seed, say, recall
        )
        report = dict(found.report)
        if isinstance(lifetime.rule, MLP):
            key = stream(run_key(seed), Purpose.PRUNING)
            back = read_back(lifetime, found.theta, split, key)
            report["readback"] = {"equation": back.equation, "r2": back.r2}
        write_theta(path, lifetime, found.theta)
        metric, score = score_of(report)
        rows = {"mean": score, "low": None, "high": None}
        summary = {
            "seed": seed,
            "steps": trained.steps,
            "theta": lifetime.describe(found.theta),
            "equation": report["equation"],
            "inference": report,
            "held_out": {"metric": metric, "of": report["held_out"], "learned": rows, "baselines": {}},
            "seconds": trained.seconds | {"inference": time.perf_counter() - began},
        }
        summary["seconds"]["total"] = sum(summary["seconds"].values())
        write_json(path / "summary.json", summary)
        draw_inference(path, found, report)
    return summary


def evaluate_animals(experiment: Experiment, path: Path, report: Mapping[str, Any], is_new: bool) -> dict[str, Any]:
    """Evaluate an inferred rule on held-out animals, or on all animals of other files.

    Args:
        experiment: of the run, with the files of the animals.
        path: directory of the run, whose θ is read in double precision.
        report: report of the run, with the fitted noise and unknowns.
        is_new: whether the files are others than those of the run.
    """
    with in_double_precision():
        problem = make_problem(experiment.lifetime, experiment.split, experiment.optimizer)
        if is_new:
            problem = problem._replace(is_fitted=np.zeros(len(problem.is_fitted), bool))
        noise = {name: report["models"][name]["noise"] for name in (INFERRED, FIXED)}
        unknowns = shared_unknowns_from(experiment.tasks, report["unknowns"])
        lifetime = experiment.lifetime
        theta = load_theta(path, lifetime.init_theta(run_key(0)), theta_meaning(lifetime))
        return evaluate_rule(problem, theta, unknowns, noise)


def score_of(report: Mapping[str, Any]) -> tuple[str, float | None]:
    """Name and value of the score to quote: R² of activity, the deviance of choices, or R² of weights."""
    if "activity" in report["r2"]:
        return "R² activity", report["r2"]["activity"]
    if report["deviance_explained"] is not None:
        return "deviance explained", report["deviance_explained"]
    return "R² weights", report["r2"].get("weights")


def draw_inference(path: Path, found: Inferred, report: Mapping[str, Any]) -> None:
    """Draw coefficients, models, the spectrum of θ, and observed and simulated trajectories of some animals."""
    folder, caption = path / FIGURES, figures.inference_caption(report, figures.run_name(path))
    figures.draw_inferred_coefficients(folder / "coefficients.png", report, caption)
    figures.draw_models(folder / "models.png", report, caption)
    if "identified" in report:
        figures.draw_spectrum(folder / "identified.png", report, caption)
    problem, point = found.problem, found.fitted.iterate.point
    predicted = jax.device_get(predictions(problem.learner, problem.animals, point))
    observed = jax.device_get(observations(problem.learner, problem.animals))
    kind = next(kind for kind in ("activity", "choices", "weights") if kind in observed)
    noise = report["noise"].get(kind, 0.0)
    examples = [_example(problem, number, kind, predicted[kind], observed[kind], noise) for number in _drawn(problem)]
    figures.draw_trajectories(folder / "trajectories.png", examples, caption)
    if kind in problem.kinds:
        residuals = _residuals(kind, predicted[kind][problem.scored], observed[kind][problem.scored], noise)
        figures.draw_residuals(folder / "residuals.png", residuals, caption)


def _drawn(problem: Problem) -> list[int]:
    return np.flatnonzero(problem.scored)[:_DRAWN].tolist()


def _example(problem: Problem, number: int, kind: str, predicted: Any, observed: Any, noise: float) -> dict[str, Any]:
    """Trajectory of the first entry that was observed in an animal, with a 95 % band of what may be observed."""
    tasks, steps = problem.learner.tasks, int(problem.animals.length[number])
    entry = int(np.argmax(np.isfinite(observed[number]).any(axis=0)))
    simulated, recorded = predicted[number, :steps, entry], observed[number, :steps, entry]
    width: Any = _NORMAL * noise
    if kind == "choices":
        width = _NORMAL * np.sqrt(_running_mean(simulated * (1 - simulated)) / _TRIALS)
        simulated = _running_mean(simulated)
    neuron = tasks.neurons[entry] if tasks.neurons and kind == "activity" else entry
    names = {
        "activity": f"activity of neuron {neuron}",
        "choices": f"P(choice = 1), mean of {_TRIALS} trials",
        "weights": f"weight {entry}",
    }
    animal = tasks.animals[int(problem.animals.number[number])].name
    band = {"low": simulated - width, "high": simulated + width}
    if kind == "choices":
        band = {name: np.clip(end, 0, 1) for name, end in band.items()}
    return {"animal": animal, "of": names[kind], "observed": recorded, "simulated": simulated} | band


def _running_mean(values: Any) -> Any:
    """Mean over the trials around each one; fewer at the ends."""
    window = np.ones(min(_TRIALS, len(values)))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _residuals(kind: str, predicted: Any, observed: Any, noise: float) -> dict[str, Any]:
    """Standardised residuals; those of choices are randomised quantiles.

    References:
        Dunn, Smyth 1996 (randomised quantile residuals).
    """
    if kind in GAUSSIAN:
        residual = (observed - predicted) / max(noise, np.finfo(float).tiny)
    else:
        from scipy.special import ndtri

        share = np.random.default_rng(0).uniform(size=observed.shape)
        quantile = np.where(observed > 0.5, 1 - predicted * share, (1 - predicted) * share)
        residual = np.where(np.isnan(observed), np.nan, ndtri(np.clip(quantile, 1e-12, 1 - 1e-12)))
    one, other = residual[:, :-1], residual[:, 1:]
    pairs = np.isfinite(one) & np.isfinite(other)
    has_spread = pairs.sum() > 2 and one[pairs].std() > 0 and other[pairs].std() > 0
    lag = float(np.corrcoef(one[pairs], other[pairs])[0, 1]) if has_spread else None
    return {"residual": residual[np.isfinite(residual)], "of": kind, "lag1": lag}


def _recall(folder: Path, stop: StopRequest, steps: int) -> Recall:
    """Recall parts of a report from the folder of a number of steps, where each is stored once it is computed."""

    def recall(name: str, compute: Callable[[], Arrays]) -> Arrays:
        file = folder / f"{name}.npz"
        if file.exists():
            try:
                with np.load(file) as stored:
                    return dict(stored)
            except Exception as error:  # damaged files raise many kinds
                raise ConfigError(f"{file}: damaged: {type(error).__name__}; remove it, and resume") from error
        stop.answer(steps)
        arrays: Mapping[str, Any] = {key: np.asarray(value) for key, value in compute().items()}
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as opened:
            np.savez(opened, **arrays)
        return arrays

    return recall
