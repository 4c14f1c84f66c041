"""Implementations of the θ-gradient, checked against each other and timed in turns."""

import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from benchmarks.memory import difference
from benchmarks.speeds import library, limit, literature, torches
from benchmarks.speeds.problem import BOUND, THETA, Lifetimes, Size, draw, losses
from benchmarks.timing import clocked, compiled, take_turns
from metarule import MLP, Polynomial
from metarule.kernels import kernels
from metarule.prng import run_key
from metarule.protocols import Rule
from metarule.runs.experiment import Experiment

__all__ = [
    "IMPLEMENTATIONS",
    "Implementation",
    "Outcome",
    "Prepared",
    "TooLarge",
    "compared",
    "compared_experiment",
]

# Largest difference of one gradient, as a share of the largest number.
_TOLERANCE = 1e-3
_THETA = np.array(THETA, np.float32)


class TooLarge(Exception):
    """Not even one lifetime fits into the memory that an implementation may take."""


class Outcome(NamedTuple):
    """Losses and ∂loss/∂θ of every lifetime; no gradients of a forward pass."""

    losses: Float[np.ndarray, " lifetimes"]
    gradients: Float[np.ndarray, "lifetimes terms"] | None


class Prepared(NamedTuple):
    """An implementation that is ready to be called.

    Attributes:
        call: computes, and returns when all is done.
        outcome: converts what `call` returns.
        temporary_bytes: memory without input and output, on all devices together, where it is known.
        compile_s: seconds that building its program takes, where it is known.
        note: remark for the reader of its time.
    """

    call: Callable[[], Any]
    outcome: Callable[[Any], Outcome]
    temporary_bytes: int | None = None
    compile_s: float | None = None
    note: str = ""


class Implementation(NamedTuple):
    """Implementation of the gradient.

    Attributes:
        problem: implementations of the same problem have the same result; the others are compared with the first.
        prepare: from the size, its lifetimes and the bytes that it may take.
    """

    problem: str
    prepare: Callable[[Size, Lifetimes, int], Prepared]


def _per_lifetime(raw: Any) -> Outcome:
    values, theta = raw
    rows = [np.asarray(leaf).reshape(len(values), -1) for leaf in jax.tree.leaves(theta)]
    return Outcome(np.asarray(values), np.concatenate(rows, -1))


def _metarule(mode: str, rule: Rule, bound: float, size: Size, lifetimes: Lifetimes, memory: int) -> Prepared:
    return _in_mode(mode, lambda: library.prepared(size, bound, rule, lifetimes))


def _in_mode(mode: str, prepare: Callable[[], library.Prepared]) -> Prepared:
    with kernels(mode):
        prepared = prepare()
        reason = prepared.why_left() if mode == _KERNEL else ""
    note = f"left to XLA: {reason}" if reason else ""
    return Prepared(prepared.call, _per_lifetime, prepared.temporary_bytes, prepared.seconds, note)


def _literature(
    powers: tuple[literature.Powers, ...], rule: Polynomial, size: Size, lifetimes: Lifetimes, memory: int
) -> Prepared:
    # XLA divides the work on one CPU device among its cores.
    with jax.set_mesh(jax.make_mesh((1,), ("single",))):
        function, theta, chunk = literature.gradients(powers), rule.init(run_key(0)), size.lifetimes
        parts = _parts(lifetimes, chunk)
        program = compiled(function, theta, parts[0])
        if program.temporary_bytes > memory:
            chunk = _fitting(size.lifetimes, math.ceil(program.temporary_bytes / size.lifetimes), memory)
            parts = _parts(lifetimes, chunk)
            program = compiled(function, theta, parts[0])
    return Prepared(
        # One after the other: chunks that are dispatched together would be in memory together.
        lambda: [program.run(theta, part) for part in parts],
        lambda raw: _per_lifetime([np.concatenate(leaves) for leaves in zip(*raw, strict=True)]),
        program.temporary_bytes,
        program.seconds,
        "" if len(parts) == 1 else f"{chunk} lifetimes a chunk",
    )


def _parts(lifetimes: Lifetimes, chunk: int) -> list[Lifetimes]:
    count = len(lifetimes.first) // chunk
    split = [[jnp.asarray(part) for part in np.split(array, count)] for array in lifetimes]
    return [Lifetimes(*arrays) for arrays in zip(*split, strict=True)]


def _fitting(lifetimes: int, size: int, memory: int) -> int:
    """Largest chunk that fits; it divides the number of lifetimes, so that one program serves all chunks."""
    fitting = [count for count in range(1, lifetimes) if lifetimes % count == 0 and count * size <= memory]
    if not fitting:
        raise TooLarge(f"one lifetime takes {size / 2**30:.1f} GiB")
    return fitting[-1]


def _limit(bound: float, size: Size, lifetimes: Lifetimes, memory: int) -> Prepared:
    gradients, layout = limit.fastest(lifetimes, bound, _THETA)
    return Prepared(partial(gradients, _THETA), lambda raw: Outcome(*raw), note=str(layout))


def _torch(kind: str, size: Size, lifetimes: Lifetimes, memory: int) -> Prepared:
    given = torches.prepare(lifetimes)
    call = partial(getattr(torches, kind)(), *given)
    return Prepared(call, lambda raw: Outcome(*(tensor.numpy() for tensor in raw)))


def _numpy(size: Size, lifetimes: Lifetimes, memory: int) -> Prepared:
    return Prepared(partial(losses, _THETA, lifetimes), lambda raw: Outcome(raw, None))


_SEVEN, _MORE = library.SEVEN, library.stated("taylor(pre, potential, weight, modulator; 2)")
_SEVENTEEN = library.stated("sixteen", "pre*modulator*post^2")
_UNBOUNDED = "without bound"
# Modes of kernels: what users get, which is XLA's loop where a kernel would not be faster, and XLA's loop.
_KERNEL, _XLA = "auto", "off"
_MODES = {"metarule, kernel": _KERNEL, "metarule, XLA": _XLA}


def _both(ending: str, problem: str, rule: Rule, bound: float = BOUND) -> dict[str, Implementation]:
    """With a kernel and with XLA's loop."""
    return {
        name + ending: Implementation(problem, partial(_metarule, mode, rule, bound)) for name, mode in _MODES.items()
    }


IMPLEMENTATIONS: dict[str, Implementation] = {
    "C": Implementation("seven", partial(_limit, BOUND)),
    "C, without bound": Implementation(_UNBOUNDED, partial(_limit, math.inf)),
    **_both("", "seven", _SEVEN),
    **_both(", without bound", _UNBOUNDED, _SEVEN, math.inf),
    **_both(", 17 terms", "17 terms", _SEVENTEEN),
    **_both(", 81 terms", "81 terms", _MORE),
    **_both(", MLP", "MLP", MLP()),
    "literature": Implementation("seven", partial(_literature, literature.TERMS, _SEVEN)),
    "literature, 81 terms": Implementation("81 terms", partial(_literature, literature.ALL_TERMS, _MORE)),
    "PyTorch": Implementation("seven", partial(_torch, "eager")),
    "torch.compile": Implementation("seven", partial(_torch, "compiled")),
    "TorchOpt": Implementation("seven", partial(_torch, "optimizers")),
    "numpy, forward pass": Implementation("seven", _numpy),
}


def compared(size: Size, names: Sequence[str], seconds: float, memory: int) -> list[dict[str, Any]]:
    """Time implementations of the gradient in turns, for some seconds each; one may take some bytes of memory.

    Returns:
        One row an implementation, in the order of `IMPLEMENTATIONS`. `difference` is the largest from the first of the
        same problem, as a share of the largest number. `note` names a difference that is too large, or a failure, and
        then there are no times.
    """
    shape = {"size": size.name, "steps": size.steps, "lifetimes": size.lifetimes}
    known, given = IMPLEMENTATIONS.items(), (size, draw(size), memory)
    forms = {name: (problem, partial(prepare, *given)) for name, (problem, prepare) in known if name in names}
    return _compared(shape, forms, seconds)


def compared_experiment(
    name: str, experiment: Experiment, names: Sequence[str], seconds: float
) -> list[dict[str, Any]]:
    """Time the gradients of a meta-step of an experiment with a kernel and with XLA's loop.

    Returns:
        Rows as from `compared`.
    """
    lifetimes = library.descent(experiment).batch_size
    shape = {"size": name, "steps": experiment.inner_loop.steps, "lifetimes": lifetimes}
    prepare = partial(library.prepared_experiment, experiment)
    forms = {form: (name, partial(_in_mode, mode, prepare)) for form, mode in _MODES.items() if form in names}
    return _compared(shape, forms, seconds)


def _compared(
    shape: Mapping[str, Any], forms: Mapping[str, tuple[str, Callable[[], Prepared]]], seconds: float
) -> list[dict[str, Any]]:
    """Rows of forms, each with its problem and what prepares it."""
    rows = list[dict[str, Any]]()
    expected: dict[str, Outcome] = {}
    calls: dict[str, tuple[Callable[[], Any], float]] = {}
    for name, (problem, prepare) in forms.items():
        row: dict[str, Any] = {**shape, "form": name, "runs": 0}
        row |= dict.fromkeys(("ms", "median_ms", "ratio", "compile_s", "temporary_bytes", "difference"))
        rows.append(row)
        try:
            prepared = prepare()
            raw, duration = clocked(prepared.call)
            outcome = prepared.outcome(raw)
        except (ImportError, RuntimeError, MemoryError, subprocess.CalledProcessError, TooLarge) as error:
            row["note"] = _failure(error)
            continue
        first = expected.setdefault(problem, outcome)
        apart = None if first is outcome else _difference(outcome, first)
        wrong = _wrong(outcome, apart)
        row |= {"compile_s": prepared.compile_s, "temporary_bytes": prepared.temporary_bytes}
        row["note"] = wrong or prepared.note
        row["difference"] = apart if apart is None or math.isfinite(apart) else None
        if not wrong:
            calls[name] = prepared.call, duration
    timings = dict(zip(calls, take_turns(list(calls.values()), seconds), strict=True))
    for row in rows:
        name = row["form"]
        base = timings.get("C, without bound" if forms[name][0] == _UNBOUNDED else "C")
        if timing := timings.get(name):
            row |= {"runs": timing.runs, "ms": timing.minimum * 1e3, "median_ms": timing.median * 1e3}
            row["ratio"] = timing.minimum / base.minimum if base else None
    return rows


def _failure(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"not installed: {error.name}"
    if isinstance(error, TooLarge):
        return f"does not fit: {error}"
    return f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _difference(one: Outcome, first: Outcome) -> float:
    if one.gradients is None or first.gradients is None:
        return difference(one.losses, first.losses)
    return difference(one.gradients, first.gradients)


def _wrong(outcome: Outcome, apart: float | None) -> str:
    if not all(np.isfinite(array).all() for array in outcome if array is not None):
        return "WRONG: not finite"
    return f"WRONG: off by {apart:.1g}" if apart is not None and not apart <= _TOLERANCE else ""
