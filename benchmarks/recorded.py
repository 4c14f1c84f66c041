"""Simulated experiments from which rules are inferred, one a seed, all fitted by the same compiled programs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarule import Feedforward, InnerLoop, Lifetime, Polynomial
from metarule.inference.predictions import predictions
from metarule.inference.problem import Fitted, Problem, make_problem
from metarule.meta.gauss_newton import GaussNewton
from metarule.meta.levenberg import Point
from metarule.recordings.animals import Animal
from metarule.recordings.family import Recordings
from metarule.recordings.npz import arrays_of
from metarule.recordings.settings import Simulation
from metarule.recordings.simulation import SimulationExperiment, simulate

__all__ = ["Case", "changes", "linear", "problems", "reinforce", "simulated", "truth", "write_recordings", "zero"]


# Weights of simulated animals have no bound.
_UNBOUNDED = 1e9


class Case(NamedTuple):
    """A kind of experiment, and the rules that are fitted to it.

    Attributes:
        animals: recordings of an experiment by its seed.
        rule: true coefficients by term, named as the candidates.
        terms: candidate terms.
        scale: parameter scale of Hebb's term.
        circuit: of animals and learner.
        tasks: fields of `Recordings`.
    """

    animals: Callable[[int], Sequence[Animal]]
    rule: Mapping[str, float]
    terms: tuple[str, ...]
    scale: float
    circuit: Feedforward
    tasks: Mapping[str, Any]


def linear(output: Any = "identity", bias: bool = False) -> Feedforward:
    """Network without hidden layers."""
    return Feedforward(hidden=(), output=output, bias=bias, feedback="zero")


def simulated(rule: Mapping[str, float], circuit: Feedforward, **settings: Any) -> Callable[[int], Sequence[Animal]]:
    """Experiments of `metarule simulate` by their seeds."""

    def animals(seed: int) -> Sequence[Animal]:
        learnt = Polynomial(terms=tuple(rule), initial=dict(rule))
        return simulate(
            SimulationExperiment(seed=seed, rule=learnt, circuit=circuit, simulation=Simulation(**settings))
        )

    return animals


def reinforce(rate: float, animals: int, steps: int, weight: float) -> Callable[[int], Sequence[Animal]]:
    """Experiments by their seeds in which animals learn by REINFORCE to tell positive from negative stimuli.

    P(choice = 1) = σ(w·[stimulus; 1]),  Δw = rate·[stimulus; 1]·(choice − P)·R

    The stimulus is N(0, 1); R is 1 if the choice is that of [stimulus > 0], else 0.

    Args:
        rate: of learning.
        animals: their number.
        steps: trials of each.
        weight: initial weight of the stimulus; that of the bias is 0.

    References:
        Liu, Geadah, Pillow 2025; Williams 1992 (REINFORCE).
    """

    def simulate(seed: int) -> Sequence[Animal]:
        rng = np.random.default_rng(seed)
        stimuli, draws = rng.normal(size=(animals, steps)), rng.uniform(size=(animals, steps))
        pre = np.stack([stimuli, np.ones_like(stimuli)], axis=2)
        weights = np.zeros((animals, steps + 1, 2))
        weights[:, 0, 0] = weight
        choices = np.zeros((animals, steps))
        for t in range(steps):
            p = 1 / (1 + np.exp(-np.sum(pre[:, t] * weights[:, t], axis=1)))
            choices[:, t] = draws[:, t] < p
            reward = choices[:, t] == (stimuli[:, t] > 0)
            weights[:, t + 1] = weights[:, t] + rate * pre[:, t] * ((choices[:, t] - p) * reward)[:, None]
        rewards = (choices == (stimuli > 0)).astype(float)
        return [
            Animal(
                name=f"animal-{n:04d}",
                inputs=stimuli[n, :, None],
                weights={0: weights[n, :-1, :, None]},
                choices=choices[n],
                rewards=rewards[n],
            )
            for n in range(animals)
        ]

    return simulate


def write_recordings(folder: Path, animals: Sequence[Animal]) -> str:
    """Write a file an animal; returns the pattern of the files."""
    folder.mkdir(parents=True)
    for animal in animals:
        np.savez(folder / f"{animal.name}.npz", **arrays_of(animal))
    return f"{folder}/*.npz"


def problems(case: Case, seeds: Iterable[int]) -> Iterator[Problem]:
    """Problems of fitting the experiments of some seeds.

    All have the learner of the first, so that they share its compiled programs, and the animals of their own seed, some
    of which are held out by that seed.
    """
    first: Problem | None = None
    with TemporaryDirectory() as temporary:
        for seed in seeds:
            files = write_recordings(Path(temporary, str(seed)), case.animals(seed))
            tasks = Recordings(files=files, **case.tasks)
            loop = InnerLoop(steps=tasks.longest, online_loss_weight=1.0, weight_bound=_UNBOUNDED)
            rule = Polynomial(terms=case.terms, hebbian_scale=case.scale)
            learner = Lifetime(rule=rule, circuit=case.circuit, tasks=tasks, inner_loop=loop)
            problem = make_problem(learner, tasks.split(seed), GaussNewton())
            first = first or problem
            yield first._replace(animals=problem.animals)


def truth(problem: Problem, rule: Mapping[str, float]) -> Any:
    """True coefficient of each candidate term [terms]."""
    assert set(rule) <= set(problem.terms)
    return np.array([rule.get(name, 0.0) for name in problem.terms])


def zero(problem: Problem) -> Point:
    """Point in which all coefficients are 0."""
    learner = problem.learner
    return problem.start(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), learner.theta_scale()))


def changes(problem: Problem, fitted: Fitted) -> tuple[Any, Any]:
    """Predicted and true changes of weights in each step [animals, steps − 1, synapses]."""
    predicted = jax.device_get(predictions(problem.learner, problem.animals, fitted.iterate.point))["weights"]
    recorded = np.concatenate([np.asarray(one) for one in problem.animals.weights], axis=-1)
    return np.diff(predicted, axis=1), np.diff(recorded.reshape(predicted.shape), axis=1)
