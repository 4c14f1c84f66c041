"""How much memory each way to the gradient takes: `python -m benchmarks.memory [--quick] [--json FILE]`."""

import sys
import time
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from msgspec import Meta, Struct

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
from metarule.commands import cli
from metarule.config.schema import describe
from metarule.config.toml import decode, parse_overrides
from metarule.prng import run_key
from metarule.sweeps.rows import check_place, write_rows
from metarule.tasks.losses import cross_entropy
from metarule.types import Estimator, Integer, Learner, Metrics, PRNGKey, Split, Stimulus

__all__ = ["Measured", "Options", "Teachers", "difference", "learner", "main", "measured", "temporary"]

_USAGE = """\
usage: python -m benchmarks.memory [--quick] [--option VALUE ...]

Print the temporary memory of one meta-step's θ-gradients (a 64-32-10 network, the rule of seven terms) by way and
length of lifetime, as the compiler reports it, and how far exact ways are from forward mode in float64. All lengths take
some minutes on two cores, most of them for the comparison of gradients.

--quick                            lives of 10,000 steps alone, gradients not compared: under a minute
--help                             this text

Options [defaults]:
"""
_QUICK = {"steps": [10_000], "compared": 0}
_INPUTS, _HIDDEN, _CLASSES, _EXAMPLES = 64, 32, 10, 64
# A window or a pair more costs what it costs, whatever the lifetime.
_WINDOW, _PAIRS = 100, 8
_GIB = 2**30
_BUDGET = 2 * _GIB
# Gradients are compared where this is enough, so that a small machine can run the whole table.
_COMPARABLE = 2 * _GIB
_KEY_SEED = 0

WAYS: dict[str, Estimator] = {
    "plain": Reverse(scan=Plain()),
    "remat": Reverse(scan=Remat()),
    "rebuilt": Reverse(scan=Invertible()),
    "segmented": Reverse(scan=Segmented()),
    "segmented twice": Reverse(scan=Segmented(levels=2)),
    "forward": Forward(),
    "truncated": Truncated(window=_WINDOW),
    "evolution": Evolution(pairs=_PAIRS),
    "persistent": Persistent(window=_WINDOW, pairs=_PAIRS),
}
EXACT = ("plain", "remat", "rebuilt", "segmented", "segmented twice")


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured.

    Attributes:
        steps: lengths of lifetime.
        lives: lives side by side.
        compared: lives on which gradients are compared; 0 for none.
        json: file for the rows of the table.
    """

    steps: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=10_000_000)], ...], Meta(min_length=1, description="lengths of lifetime")
    ] = (100, 1000, 10_000, 100_000)
    lifetimes: Annotated[int, Meta(ge=1, le=100_000, description="lives side by side")] = 32
    compared: Annotated[int, Meta(ge=0, le=1000, description="lives on which gradients are compared, 0 for none")] = 1
    json: Annotated[str, Meta(description="file for the rows of the table; none if empty")] = ""


class Measured(Struct, frozen=True, kw_only=True):
    """One row of the table.

    Attributes:
        way: to the gradient.
        steps: length of the lifetime.
        lives: lives side by side.
        temporary_bytes: what the program takes beside its input and output.
        compile_seconds: time that compiling it took.
        difference: largest difference from the gradient of forward mode, as a share of its largest number, in float64;
            none where it was not compared.
        seconds: time that this gradient took, on the lifetimes that were compared.
    """

    way: str
    steps: int
    lifetimes: int
    temporary_bytes: int
    compile_seconds: float
    difference: float | None = None
    seconds: float | None = None


class Teachers(Struct, frozen=True, kw_only=True):
    """Random inputs in classes that a random linear teacher makes; a lifetime meets its examples in turn, over and over."""

    @property
    def inputs(self) -> int:
        """Numbers in an input."""
        return _INPUTS

    @property
    def outputs(self) -> int:
        """Classes."""
        return _CLASSES

    @property
    def link(self) -> str:
        """Output activation that the loss is made for."""
        return "softmax"

    @property
    def score(self) -> str:
        """Share of the examples that are right."""
        return "accuracy"

    @property
    def round_steps(self) -> int:
        """Steps are not in rounds."""
        return 0

    def task_id(self, pool: Any, index: Integer) -> Integer:
        """No two tasks are the same."""
        return index

    @property
    def min_steps(self) -> int:
        """A life of any length will do."""
        return 1

    def split(self, seed: Integer) -> Split:
        """Teachers are drawn afresh: a pool is a number that is folded into the key."""
        return Split(train=jnp.zeros((), int), test=jnp.ones((), int))

    def sample(self, key: PRNGKey, pool: Any, index: Integer) -> Stimulus:
        """The examples of one teacher."""
        input_key, teacher_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, pool), index))
        signals = jax.random.normal(input_key, (_EXAMPLES, _INPUTS)) / _INPUTS**0.5
        teacher = jax.random.normal(teacher_key, (_INPUTS, _CLASSES))
        return Stimulus(signals, jax.nn.one_hot(jnp.argmax(signals @ teacher, axis=1), _CLASSES))

    def stimulus(self, task: Stimulus, time: Integer, key: PRNGKey) -> Stimulus:
        """The example whose turn it is."""
        return jax.tree.map(lambda leaf: leaf[time % _EXAMPLES], task)

    def examples(self, task: Stimulus) -> Stimulus:
        """All of them."""
        return task

    def loss(self, output: Float[Array, " classes"], target: Float[Array, " classes"]) -> Float[Array, ""]:
        """Cross-entropy."""
        return cross_entropy(output, target)

    def metrics(self, output: Float[Array, "n classes"], target: Float[Array, "n classes"]) -> Metrics:
        """Share of the examples that are right."""
        right = jnp.argmax(output, axis=1) == jnp.argmax(target, axis=1)
        return {"accuracy": jnp.mean(right.astype(float))}


def learner(steps: int) -> Lifetime:
    """Who lives; its θ learns a little and is not chaotic, so that gradients of long lifetimes can be compared."""
    return Lifetime(
        rule=Polynomial(terms=("seven",), initial={"pre*modulator": 0.02}),
        circuit=Feedforward(hidden=(_HIDDEN,), output="softmax"),
        tasks=Teachers(),
        inner_loop=InnerLoop(steps=steps),
    )


def temporary(estimator: Estimator, learner: Learner, lifetimes: int) -> tuple[Any, int]:
    """Compile the θ-gradients of some lifetimes; nothing is run, and no array is made.

    Args:
        estimator: the way to the gradient.
        learner: who lives.
        lives: how many side by side.

    Returns:
        (the program, a function of θ, tasks, states and keys, temporary bytes that it takes).
    """

    def gradients(theta: Any, tasks: Any, states: Any, keys: Any) -> Any:
        def one(task: Any, state: Any, key: PRNGKey) -> Any:
            return estimator.estimate(learner, theta, task, state, key)[0].gradient

        return jax.vmap(one)(tasks, states, keys)

    program = jax.jit(gradients).lower(*jax.eval_shape(lambda: _given(estimator, learner, lifetimes))).compile()
    analysis = program.memory_analysis()
    assert analysis is not None, "this backend does not say what memory a program takes"
    return program, analysis.temp_size_in_bytes


def difference(one: Any, other: Any) -> float:
    """Largest difference of two gradients, as a share of the largest number of the second."""
    first, second = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return float(np.abs(first - second).max() / np.abs(second).max())


def measured(options: Options, steps: int) -> list[Measured]:
    """The rows of one length of lifetime, one a way."""
    who, rows, expected = learner(steps), [], None
    for way, estimator in reversed(WAYS.items()):  # forward mode before those that are compared with it
        clock = time.perf_counter()
        _, taken = temporary(estimator, who, options.lifetimes)
        row = Measured(
            way=way,
            steps=steps,
            lifetimes=options.lifetimes,
            temporary_bytes=taken,
            compile_seconds=round(time.perf_counter() - clock, 2),
        )
        if options.compared and way in (*EXACT, "forward"):
            gradient, seconds = _exact(estimator, who, options.compared)
            expected = gradient if way == "forward" else expected
            if gradient is not None:
                row = _with(row, difference=difference(gradient, expected), seconds=round(seconds, 2))
        rows.append(row)
    return rows[::-1]


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 1 if the device failed, 2 for bad input, 128 + signal if stopped.
    """
    usage = (_USAGE + describe(Options)).rstrip()
    kept = "nothing was written"
    return cli.run("benchmarks.memory", words, lambda: usage, _serve, kept, bare=True, cached=False)


def _serve(words: list[str]) -> int:
    given = dict(parse_overrides([word for word in words if word != "--quick"]))
    options = decode((_QUICK if "--quick" in words else {}) | given, Options)
    check_place(options.json)
    print(_head(), flush=True)
    rows = []
    for steps in options.steps:
        found = measured(options, steps)
        print("\n".join(map(_line, found)), flush=True)
        rows += found
    print(f"\n{_verdict(rows)}\n")
    for steps in options.steps:
        _, reason = Auto(memory_gib=_BUDGET / _GIB).choose(learner(steps), options.lifetimes)
        print(f"auto takes {reason}")
    write_rows(options.json, [_flat(row) for row in rows])
    return 0


def _given(estimator: Estimator, learner: Learner, lifetimes: int) -> tuple[Any, Any, Any, Any]:
    """θ, tasks, states and keys, as at the first meta-step."""
    key = run_key(_KEY_SEED)
    theta, keys, pool = learner.init_theta(key), jax.random.split(key, lifetimes), learner.tasks.split(0).train
    tasks = jax.vmap(lambda key: learner.tasks.sample(key, pool, 0))(keys)
    return theta, tasks, jax.vmap(lambda key: estimator.init(learner, theta, key))(keys), keys


def _exact(estimator: Estimator, learner: Learner, lifetimes: int) -> tuple[Any, float]:
    """Gradients in float64 and the seconds that they took; none where they would take too much memory."""
    with jax.enable_x64(True):
        program, taken = temporary(estimator, learner, lifetimes)
        if taken > _COMPARABLE:
            return None, 0.0
        given = _given(estimator, learner, lifetimes)
        clock = time.perf_counter()
        gradient = jax.block_until_ready(program(*given))
        return gradient, time.perf_counter() - clock


def _flat(row: Measured) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Measured.__struct_fields__}


def _with(row: Measured, **values: Any) -> Measured:
    return Measured(**_flat(row) | values)


def _head() -> str:
    return (
        f"{'way':<16}{'steps':>14}{'lives':>7}{'temporary_bytes':>17}{'compile_seconds':>17}"
        f"{'difference':>12}{'seconds':>9}"
    )


def _line(row: Measured) -> str:
    difference = "" if row.difference is None else f"{row.difference:.1e}"
    seconds = "" if row.seconds is None else f"{row.seconds:.2f}"
    return (
        f"{row.way:<16}{row.steps:>14,}{row.lifetimes:>7}{row.temporary_bytes:>17,}{row.compile_seconds:>17.2f}"
        f"{difference:>12}{seconds:>9}"
    )


def _verdict(rows: list[Measured]) -> str:
    last = max(row.steps for row in rows)
    longest = [row for row in rows if row.steps == last]
    fitting = [row.way for row in longest if row.temporary_bytes <= _BUDGET]
    return f"{last:,} steps, {longest[0].lifetimes} lives, fit into 2 GiB with: {', '.join(fitting) or 'nothing'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
