"""Memory of each estimator of the θ-gradient: `python -m benchmarks.memory [--quick] [--json FILE]`."""

import sys
from typing import Annotated, Any

import jax
import numpy as np
from msgspec import Meta, Struct

import metarule as mr
from benchmarks import program
from benchmarks.speeds.library import Given
from benchmarks.timing import Program, clocked, compiled
from metarule.prng import run_key
from metarule.protocols import Estimator, Learner
from metarule.sweeps.rows import write_rows
from metarule.types import PRNGKey

__all__ = ["Options", "difference", "learner", "main", "measured"]

_USAGE = """\
Print the temporary memory of the theta-gradients of a meta-step (a 64-32-10 network, the rule of seven terms) by
estimator and length of lifetime, as the compiler reports it, and the largest difference of exact estimators from
forward mode in float64, as a share of the largest number, with the seconds of the gradients that are compared. All
lengths take some minutes on two cores, most of them for the comparison of gradients.

--quick                            lifetimes of 10,000 steps only, gradients not compared: under a minute
"""
# The cost of a window or a pair does not depend on the lifetime.
_WINDOW, _PAIRS = 100, 8
# Gradients are compared where they fit, so that a small machine can make the table.
_BUDGET_GIB = 2
_BUDGET = _BUDGET_GIB * 2**30

ESTIMATORS: dict[str, Estimator] = {
    "plain": mr.Reverse(scan=mr.Plain()),
    "remat": mr.Reverse(scan=mr.Remat()),
    "invertible": mr.Reverse(scan=mr.Invertible()),
    "segmented": mr.Reverse(scan=mr.Segmented()),
    "segmented twice": mr.Reverse(scan=mr.Segmented(levels=2)),
    "forward": mr.Forward(),
    "truncated": mr.Truncated(window=_WINDOW),
    "evolution": mr.Evolution(pairs=_PAIRS),
    "persistent": mr.Persistent(window=_WINDOW, pairs=_PAIRS),
}

_Steps = Annotated[int, Meta(ge=1, le=10_000_000)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Measurements.

    Attributes:
        steps: lengths of lifetime.
        lifetimes: lifetimes of a meta-step.
        compared: lifetimes on which gradients are compared; 0 for none.
        json: file for the rows of the table; none if empty.
    """

    steps: Annotated[tuple[_Steps, ...], Meta(min_length=1)] = (100, 1000, 10_000, 100_000)
    lifetimes: Annotated[int, Meta(ge=1, le=100_000)] = 32
    compared: Annotated[int, Meta(ge=0, le=1000)] = 1
    json: str = ""


def learner(steps: int) -> mr.Lifetime:
    """Lifetime whose θ learns a little and is not chaotic, so that gradients of long lifetimes can be compared."""
    return mr.Lifetime(
        rule=mr.Polynomial(terms=("seven",), initial={"pre*modulator": 0.02}),
        circuit=mr.Feedforward(hidden=(32,)),
        tasks=Given(inputs=64, outputs=10, count=64),
        inner_loop=mr.InnerLoop(steps=steps),
    )


def difference(one: Any, other: Any) -> float:
    """Largest difference of two gradients, as a share of the largest number of the second."""
    first, second = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return float(np.abs(first - second).max() / np.abs(second).max())


def measured(options: Options, steps: int) -> list[dict[str, Any]]:
    """Measure all estimators at one length of lifetime; values that are not measured are None."""
    lifetime, rows, expected = learner(steps), [], None
    for name, estimator in reversed(ESTIMATORS.items()):  # forward mode before those that are compared with it
        gradients = _compiled(estimator, lifetime, options.lifetimes)
        row: dict[str, Any] = {"estimator": name, "steps": steps, "lifetimes": options.lifetimes}
        row |= {"temporary_bytes": gradients.temporary_bytes, "compile_seconds": round(gradients.seconds, 2)}
        row |= {"difference": None, "seconds": None}
        if options.compared and isinstance(estimator, (mr.Reverse, mr.Forward)):
            gradient, seconds = _exact(estimator, lifetime, options.compared)
            expected = gradient if name == "forward" else expected
            if gradient is not None:
                row |= {"difference": difference(gradient, expected), "seconds": round(seconds, 2)}
        rows.append(row)
    return rows[::-1]


def _serve(options: Options, flags: list[str]) -> int:
    rows = []
    for steps in options.steps:
        of_length = measured(options, steps)
        print(program.table(of_length, steps=",", temporary_bytes=",", difference=".1e"), end="\n\n", flush=True)
        rows += of_length
    last = max(options.steps)
    fitting = [row["estimator"] for row in rows if row["steps"] == last and row["temporary_bytes"] <= _BUDGET]
    print(f"{last:,} steps, {options.lifetimes} lifetimes, fit into 2 GiB with: {', '.join(fitting) or 'nothing'}\n")
    for steps in options.steps:
        _, reason = mr.Auto(memory_gib=_BUDGET_GIB).choose(learner(steps), options.lifetimes)
        print(f"auto takes {reason}")
    write_rows(options.json, rows)
    return 0


def _compiled(estimator: Estimator, learner: Learner, lifetimes: int) -> Program:
    """Compile the θ-gradients of some lifetimes, without allocating arrays."""

    def gradients(theta: Any, tasks: Any, states: Any, keys: Any) -> Any:
        def one(task: Any, state: Any, key: PRNGKey) -> Any:
            return estimator.estimate(learner, theta, task, state, key)[0].gradient

        return jax.vmap(one)(tasks, states, keys)

    return compiled(gradients, *jax.eval_shape(lambda: _given(estimator, learner, lifetimes)))


def _given(estimator: Estimator, learner: Learner, lifetimes: int) -> tuple[Any, Any, Any, Any]:
    """θ, tasks, states and keys of the first meta-step."""
    key = run_key(0)
    theta, keys, pool = learner.init_theta(key), jax.random.split(key, lifetimes), learner.tasks.split(0).train
    tasks = jax.vmap(lambda key: learner.tasks.sample(key, pool, 0))(keys)
    return theta, tasks, jax.vmap(lambda key: estimator.init(learner, theta, key))(keys), keys


def _exact(estimator: Estimator, learner: Learner, lifetimes: int) -> tuple[Any, float]:
    """Gradients in float64 and their seconds; None where they need too much memory."""
    with jax.enable_x64(True):
        gradients = _compiled(estimator, learner, lifetimes)
        if gradients.temporary_bytes > _BUDGET:
            return None, 0.0
        return clocked(gradients.run, *_given(estimator, learner, lifetimes))


main = program.command(
    "benchmarks.memory", _USAGE, Options, _serve, {"steps": [10_000], "compared": 0}, interrupted="nothing was written"
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
