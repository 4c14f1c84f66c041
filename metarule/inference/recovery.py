"""Test of recovery: recordings are simulated from the estimate, and the coefficients are fitted to them anew."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from metarule.inference.problem import Fitted, Problem
from metarule.inference.recalling import Recall, compute_anew
from metarule.inference.uncertainty import laplace_intervals
from metarule.lifetime.scans import loop
from metarule.meta.curvature import network_of
from metarule.meta.fits import own_unknowns, unflatten
from metarule.meta.levenberg import Point
from metarule.prng import run_key
from metarule.recordings.tasks import RecordedTask
from metarule.types import Integer, PRNGKey

__all__ = ["recover", "resimulated"]


def recover(
    problem: Problem,
    fitted: Fitted,
    numbers: list[int],
    repetitions: int,
    seed: int,
    progress: Callable[[int], None] = lambda number: None,
    recall: Recall = compute_anew,
) -> dict[str, Any]:
    """Coverage and bias of coefficients that are fitted to recordings simulated from the estimate.

    The simulated animals have the inputs, rewards, gates, gaps and noise of the recorded ones; choices are drawn anew.

    Args:
        problem: the recordings.
        fitted: fit with the coefficients as directions.
        numbers: numbers of the coefficients.
        repetitions: number of simulated experiments.
        seed: of the noise.
        progress: called with the number of each repetition.
        recall: recalls what a stopped inference has computed.

    Returns:
        Number of repetitions, coverage of the 95 % intervals, and coverage and bias by term.
    """
    truth, deviation = fitted.shared[numbers], np.sqrt(fitted.variance)
    is_chosen = np.isin(np.arange(problem.size), numbers)
    start = fitted.iterate.point._replace(shared=jnp.where(is_chosen, 0.0, fitted.shared))

    def repeat(number: int) -> dict[str, Any]:
        key = jax.random.fold_in(run_key(seed), number)
        noise = dict(zip(problem.kinds, deviation, strict=True))
        animals = resimulated(problem.learner, problem.animals, fitted.iterate.point, noise, key)
        one = problem._replace(animals=animals)
        again = one.fit_each([start], [fitted.directions], fits=1)[0]
        ends = laplace_intervals(one, again, numbers)
        return {"estimate": again.shared[numbers], "low": ends.low, "high": ends.high}

    results = []
    for number in range(repetitions):
        results.append(recall(f"recovery-{number:04d}", partial(repeat, number)))
        progress(number)
    estimates, low, high = (np.stack([one[name] for one in results]) for name in ("estimate", "low", "high"))
    covered = (low <= truth) & (truth <= high)
    bias = estimates.mean(axis=0) - truth
    terms = {
        problem.terms[number]: {"bias": float(bias[place]), "coverage": float(covered[:, place].mean())}
        for place, number in enumerate(numbers)
    }
    return {"repetitions": repetitions, "coverage": float(covered.mean()), "terms": terms}


@partial(jax.jit, static_argnames="learner")
def resimulated(learner: Any, animals: RecordedTask, point: Point, noise: dict[str, Any], key: PRNGKey) -> RecordedTask:
    """Animals in which what was observed is simulated anew from a point.

    Args:
        learner: the learner.
        animals: recorded animals.
        point: values of the unknowns.
        noise: standard deviation of the noise by kind; kinds that are not given have none.
        key: of noise and choices.
    """
    theta, shared = unflatten(learner, point.shared)

    def one(own: Array, task: RecordedTask) -> RecordedTask:
        context, state = network_of(learner, theta, shared, own_unknowns(learner, theta, task, own), task)

        def step(state: Any, at: tuple[Integer, Array]) -> tuple[Any, Any]:
            t, draw = at
            stimulus = learner.stimulus(context, t)
            choice = None
            if task.choices is not None:
                _, response = learner.step(theta, context, state, stimulus)
                p = learner.tasks.predict(context.task, state.weights, response).choice
                choice = (draw < p).astype(stimulus.input.dtype)
                if learner.tasks.animals[0].targets is None:
                    stimulus = stimulus._replace(target=jnp.full_like(stimulus.target, choice))
            after, response = learner.step(theta, context, state, stimulus)
            predicted = learner.tasks.predict(context.task, state.weights, response)
            return after, predicted._replace(choice=choice)

        choice_key, *rest = jax.random.split(jax.random.fold_in(key, task.number), 3)
        draws = jax.random.uniform(choice_key, (learner.steps,))
        predicted = loop(step, state, (jnp.arange(learner.steps), draws))[1]
        keys = dict(zip(("activity", "weights"), rest))

        def noisy(kind: str, simulated: Any, recorded: Any) -> Any:
            noises = noise.get(kind, 0.0) * jax.random.normal(keys[kind], simulated.shape, simulated.dtype)
            return jnp.where(jnp.isnan(recorded[: learner.steps]), jnp.nan, simulated + noises)

        activity, choices, target = task.activity, task.choices, task.target
        if activity is not None:
            activity = noisy("activity", predicted.activity, activity)
        weights = tuple(
            None if recorded is None else noisy("weights", simulated, recorded)
            for simulated, recorded in zip(predicted.weights, task.weights)
        )
        if choices is not None:
            choices = jnp.where(jnp.isnan(choices[: learner.steps]), jnp.nan, predicted.choice)
            if learner.tasks.animals[0].targets is None:
                target = jnp.broadcast_to(jnp.nan_to_num(choices, nan=0.5)[:, None], (learner.steps, target.shape[1]))
        return task._replace(activity=activity, weights=weights, choices=choices, target=target)

    return jax.vmap(one)(point.own, animals)
