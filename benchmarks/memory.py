"""Memory of each estimator of the θ-gradient: `python -m benchmarks.memory [--quick] [--json FILE]`."""

import sys
import time
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from benchmarks import program
from benchmarks.speeds.given import Given
from metarule import (
    Auto,
    Evolution,
    Feedforward,
    Forward,
    InnerLoop,
    Invertible,
    Lifetime,
    Persistent,
    Plain,
    Polynomial,
    Remat,
    Reverse,
    Segmented,
    Truncated,
)
from metarule.prng import run_key
from metarule.protocols import Estimator, Learner
from metarule.sweeps.rows import write_rows
from metarule.tasks.losses import CROSS_ENTROPY, ActivatedLoss
from metarule.types import Integer, PRNGKey, Split, Stimulus

__all__ = ["Measured", "Options", "Teachers", "difference", "learner", "main", "measured", "temporary"]

_USAGE = """\
usage: python -m benchmarks.memory [--quick] [--option VALUE ...]

Print the temporary memory of the theta-gradients of a meta-step (a 64-32-10 network, the rule of seven terms) by
estimator and length of lifetime, as the compiler reports it, and the difference of exact estimators from forward mode
in float64. All lengths take some minutes on two cores, most of them for the comparison of gradients.

--quick                            lifetimes of 10,000 steps only, gradients not compared: under a minute
--help                             this text
"""
_QUICK = {"steps": [10_000], "compared": 0}
_INPUTS, _HIDDEN, _CLASSES, _EXAMPLES = 64, 32, 10, 64
# The cost of a window or a pair does not depend on the lifetime.
_WINDOW, _PAIRS = 100, 8
_GIB = 2**30
_BUDGET = 2 * _GIB
# Gradients are compared where they fit, so that a small machine can run the whole table.
_COMPARABLE = 2 * _GIB

ESTIMATORS: dict[str, Estimator] = {
    "plain": Reverse(scan=Plain()),
    "remat": Reverse(scan=Remat()),
    "invertible": Reverse(scan=Invertible()),
    "segmented": Reverse(scan=Segmented()),
    "segmented twice": Reverse(scan=Segmented(levels=2)),
    "forward": Forward(),
    "truncated": Truncated(window=_WINDOW),
    "evolution": Evolution(pairs=_PAIRS),
    "persistent": Persistent(window=_WINDOW, pairs=_PAIRS),
}
EXACT = ("plain", "remat", "invertible", "segmented", "segmented twice")

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


class Measured(Struct, frozen=True, kw_only=True):
    """Row of the table.

    Attributes:
        estimator: name of the estimator.
        steps: length of the lifetime.
        lifetimes: of a meta-step.
        temporary_bytes: memory of the program beside input and output.
        compile_seconds: compile time.
        difference: largest difference from the gradient of forward mode, as a share of its largest number, in float64;
            none where it was not compared.
        seconds: time of this gradient, on the lifetimes that were compared.
    """

    estimator: str
    steps: int
    lifetimes: int
    temporary_bytes: int
    compile_seconds: float
    difference: float | None = None
    seconds: float | None = None


class Teachers(Given, frozen=True, kw_only=True):
    """Random inputs with the classes of a random linear teacher; a lifetime repeats its examples in order."""

    inputs: int = _INPUTS
    outputs: int = _CLASSES

    @property
    def loss(self) -> ActivatedLoss:
        """Cross-entropy."""
        return CROSS_ENTROPY

    def split(self, seed: Integer) -> Split:
        """Pools are numbers that are folded into the key of a teacher."""
        return Split(train=jnp.zeros((), int), test=jnp.ones((), int))

    def sample(self, key: PRNGKey, pool: Any, index: Integer) -> Stimulus:
        """Draw the examples of a teacher."""
        input_key, teacher_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, pool), index))
        signals = jax.random.normal(input_key, (_EXAMPLES, _INPUTS)) / _INPUTS**0.5
        teacher = jax.random.normal(teacher_key, (_INPUTS, _CLASSES))
        return Stimulus(signals, jax.nn.one_hot(jnp.argmax(signals @ teacher, axis=1), _CLASSES))

    def examples(self, task: Stimulus) -> Stimulus:
        """All examples."""
        return task


def learner(steps: int) -> Lifetime:
    """Lifetime whose θ learns a little and is not chaotic, so that gradients of long lifetimes can be compared."""
    return Lifetime(
        rule=Polynomial(terms=("seven",), initial={"pre*modulator": 0.02}),
        circuit=Feedforward(hidden=(_HIDDEN,), output="softmax"),
        tasks=Teachers(),
        inner_loop=InnerLoop(steps=steps),
    )


def temporary(estimator: Estimator, learner: Learner, lifetimes: int) -> tuple[Any, int]:
    """Compile the θ-gradients of some lifetimes, without running them or allocating arrays.

    Args:
        estimator: of the gradient.
        learner: of each lifetime.
        lifetimes: number of lifetimes.

    Returns:
        (the program, a function of θ, tasks, states and keys, its temporary bytes).
    """

    def gradients(theta: Any, tasks: Any, states: Any, keys: Any) -> Any:
        def one(task: Any, state: Any, key: PRNGKey) -> Any:
            return estimator.estimate(learner, theta, task, state, key)[0].gradient

        return jax.vmap(one)(tasks, states, keys)

    program = jax.jit(gradients).lower(*jax.eval_shape(lambda: _given(estimator, learner, lifetimes))).compile()
    analysis = program.memory_analysis()
    assert analysis is not None, "this backend does not report the memory of programs"
    return program, analysis.temp_size_in_bytes


def difference(one: Any, other: Any) -> float:
    """Largest difference of two gradients, as a share of the largest number of the second."""
    first, second = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return float(np.abs(first - second).max() / np.abs(second).max())


def measured(options: Options, steps: int) -> list[Measured]:
    """Measure all estimators at one length of lifetime."""
    lifetime, rows, expected = learner(steps), [], None
    for name, estimator in reversed(ESTIMATORS.items()):  # forward mode before those that are compared with it
        clock = time.perf_counter()
        _, size = temporary(estimator, lifetime, options.lifetimes)
        row = Measured(
            estimator=name,
            steps=steps,
            lifetimes=options.lifetimes,
            temporary_bytes=size,
            compile_seconds=round(time.perf_counter() - clock, 2),
        )
        if options.compared and name in (*EXACT, "forward"):
            gradient, seconds = _exact(estimator, lifetime, options.compared)
            expected = gradient if name == "forward" else expected
            if gradient is not None:
                row = replace(row, difference=difference(gradient, expected), seconds=round(seconds, 2))
        rows.append(row)
    return rows[::-1]


def main(words: list[str]) -> int:
    """Run the command; see `program.run`."""
    return program.run("benchmarks.memory", words, _USAGE, Options, _serve, _QUICK, interrupted="nothing was written")


def _serve(options: Options, flags: list[str]) -> int:
    print(_head(), flush=True)
    rows = []
    for steps in options.steps:
        some = measured(options, steps)
        print("\n".join(map(_line, some)), flush=True)
        rows += some
    print(f"\n{_verdict(rows)}\n")
    for steps in options.steps:
        _, reason = Auto(memory_gib=_BUDGET / _GIB).choose(learner(steps), options.lifetimes)
        print(f"auto takes {reason}")
    write_rows(options.json, [asdict(row) for row in rows])
    return 0


def _given(estimator: Estimator, learner: Learner, lifetimes: int) -> tuple[Any, Any, Any, Any]:
    """θ, tasks, states and keys of the first meta-step."""
    key = run_key(0)
    theta, keys, pool = learner.init_theta(key), jax.random.split(key, lifetimes), learner.tasks.split(0).train
    tasks = jax.vmap(lambda key: learner.tasks.sample(key, pool, 0))(keys)
    return theta, tasks, jax.vmap(lambda key: estimator.init(learner, theta, key))(keys), keys


def _exact(estimator: Estimator, learner: Learner, lifetimes: int) -> tuple[Any, float]:
    """Gradients in float64 and their seconds; None where they need too much memory."""
    with jax.enable_x64(True):
        compiled, size = temporary(estimator, learner, lifetimes)
        if size > _COMPARABLE:
            return None, 0.0
        given = _given(estimator, learner, lifetimes)
        clock = time.perf_counter()
        gradient = jax.block_until_ready(compiled(*given))
        return gradient, time.perf_counter() - clock


def _head() -> str:
    return (
        f"{'estimator':<16}{'steps':>14}{'lifetimes':>11}{'temporary_bytes':>17}{'compile_seconds':>17}"
        f"{'difference':>12}{'seconds':>9}"
    )


def _line(row: Measured) -> str:
    difference = "" if row.difference is None else f"{row.difference:.1e}"
    seconds = "" if row.seconds is None else f"{row.seconds:.2f}"
    return (
        f"{row.estimator:<16}{row.steps:>14,}{row.lifetimes:>11}{row.temporary_bytes:>17,}{row.compile_seconds:>17.2f}"
        f"{difference:>12}{seconds:>9}"
    )


def _verdict(rows: list[Measured]) -> str:
    last = max(row.steps for row in rows)
    longest = [row for row in rows if row.steps == last]
    fitting = [row.estimator for row in longest if row.temporary_bytes <= _BUDGET]
    return f"{last:,} steps, {longest[0].lifetimes} lifetimes, fit into 2 GiB with: {', '.join(fitting) or 'nothing'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
