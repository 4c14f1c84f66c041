"""Implementations of the θ-gradient, checked against each other and timed in turns."""

import math
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from msgspec.structs import replace

from benchmarks.memory import difference
from benchmarks.speeds import library, limit, literature, torches
from benchmarks.speeds.problem import THETA, Lifetimes, Size, draw, losses
from benchmarks.speeds.timing import Timing, compiled, take_turns
from metarule import MLP, Lifetime, Polynomial
from metarule.prng import run_key
from metarule.protocols import Rule
from metarule.types import LearnerState, LifetimeContext, Theta

__all__ = ["BOUND", "IMPLEMENTATIONS", "Implementation", "Outcome", "Prepared", "TooLarge", "compared", "stated"]

BOUND = 2.0
_GIB = 2**30
# Largest difference of one gradient, as a share of the largest number.
_TOLERANCE = 1e-3


class TooLarge(Exception):
    """Not even one lifetime fits into the memory that an implementation may take."""


class Outcome(NamedTuple):
    """Result of an implementation.

    Attributes:
        losses: of every lifetime, or their sum.
        gradients: ∂loss/∂θ of every lifetime, or of the sum; none where it is the forward pass alone.
    """

    losses: Float[np.ndarray, "*lifetimes"]
    gradients: Float[np.ndarray, "*lifetimes terms"] | None


class Prepared(NamedTuple):
    """An implementation that is ready to be called.

    Attributes:
        call: computes, and returns when all is done.
        outcome: converts what `call` returns.
        compile_seconds: compile time, where something is compiled.
        temporary_bytes: memory beside input and output, where it is known.
        note: remark for the reader of its time.
    """

    call: Callable[[], Any]
    outcome: Callable[[Any], Outcome]
    compile_seconds: float | None = None
    temporary_bytes: int | None = None
    note: str = ""


class Implementation(NamedTuple):
    """One way to compute the gradient.

    Attributes:
        problem: implementations of the same problem have the same result.
        bound: of weights; a time is compared with that of the C code with the same bound.
        prepare: from the size, its lifetimes and the bytes that it may take.
    """

    problem: str
    bound: float
    prepare: Callable[[Size, Lifetimes, int], Prepared]


def stated(*terms: str) -> Polynomial:
    """A rule that starts with the coefficients of the stated problem, as far as it has its terms."""
    rule = Polynomial(terms=terms)
    known = dict(zip(library.SEVEN.terms, THETA, strict=True))
    return replace(rule, initial={name: known[name] for name in rule.names if name in known})


def _theta(rule: Rule) -> Theta:
    return rule.init(run_key(0))


def _per_lifetime(raw: Any) -> Outcome:
    values, theta = raw
    rows = [np.asarray(leaf).reshape(*leaf.shape[: values.ndim], -1) for leaf in jax.tree.leaves(theta)]
    return Outcome(np.asarray(values), np.concatenate(rows, -1))


def _metarule(rule: Rule, bound: float, summed: bool = False) -> Callable[[Size, Lifetimes, int], Prepared]:
    def prepare(size: Size, lifetimes: Lifetimes, memory: int) -> Prepared:
        lifetime, theta = library.learner(size, bound, rule), _theta(rule)
        initial = library.initial(lifetime, lifetimes)
        program = compiled(_summed(lifetime) if summed else library.gradients(lifetime), theta, *initial)
        return Prepared(partial(program.run, theta, *initial), _per_lifetime, program.seconds, program.temporary_bytes)

    return prepare


def _summed(lifetime: Lifetime) -> Callable[[Theta, LifetimeContext, LearnerState], tuple[Float[Array, ""], Theta]]:
    def total(theta: Theta, lifetimes: LifetimeContext, states: LearnerState) -> tuple[Float[Array, ""], Theta]:
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), library.gradients(lifetime)(theta, lifetimes, states))

    return total


def _literature(powers: tuple[literature.Powers, ...], rule: Polynomial) -> Callable[[Size, Lifetimes, int], Prepared]:
    def prepare(size: Size, lifetimes: Lifetimes, memory: int) -> Prepared:
        # XLA divides the work on one CPU device among its cores.
        with jax.set_mesh(jax.make_mesh((1,), ("alone",))):
            function, theta, chunk = literature.gradients(powers, BOUND), _theta(rule), size.lifetimes
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
            program.seconds,
            program.temporary_bytes,
            "" if len(parts) == 1 else f"{chunk} lifetimes a chunk",
        )

    return prepare


def _parts(lifetimes: Lifetimes, chunk: int) -> list[Lifetimes]:
    starts = range(0, len(lifetimes.first), chunk)
    return [jax.tree.map(lambda array: jnp.asarray(array[start : start + chunk]), lifetimes) for start in starts]  # noqa: B023


def _fitting(lifetimes: int, size: int, memory: int) -> int:
    """Largest chunk that fits; it divides the number of lifetimes, so that one program serves all chunks."""
    fitting = [count for count in range(1, lifetimes) if lifetimes % count == 0 and count * size <= memory]
    if not fitting:
        raise TooLarge(f"one lifetime takes {size / _GIB:.1f} GiB")
    return fitting[-1]


def _limit(bound: float) -> Callable[[Size, Lifetimes, int], Prepared]:
    def prepare(size: Size, lifetimes: Lifetimes, memory: int) -> Prepared:
        theta, laid_out = np.array(THETA, np.float32), limit.prepare(lifetimes)
        call = partial(limit.gradients, theta, laid_out, bound)
        call()  # compiles, unless an earlier process has
        return Prepared(call, lambda raw: Outcome(*raw))

    return prepare


def _torch(kind: str) -> Callable[[Size, Lifetimes, int], Prepared]:
    def prepare(size: Size, lifetimes: Lifetimes, memory: int) -> Prepared:
        theta, tensors = torches.prepare(np.array(THETA, np.float32), lifetimes)
        call, seconds = partial(getattr(torches, kind)(BOUND), theta, tensors), None
        if kind == "compiled":
            seconds = _compiling(call)
        return Prepared(call, lambda raw: Outcome(*(tensor.numpy() for tensor in raw)), seconds)

    return prepare


def _compiling(call: Callable[[], Any]) -> float:
    """Seconds by which the first call is slower, without the caches of earlier processes."""
    import torch

    with torch.compiler.config.patch(force_disable_caches=True):
        return _clocked(call) - _clocked(call)


def _clocked(call: Callable[[], Any]) -> float:
    clock = time.perf_counter()
    call()
    return time.perf_counter() - clock


def _numpy(size: Size, lifetimes: Lifetimes, memory: int) -> Prepared:
    call = partial(losses, np.array(THETA, np.float32), lifetimes, BOUND)
    return Prepared(call, lambda raw: Outcome(raw, None))


_SEVEN, _MORE = stated(*library.SEVEN.terms), stated("taylor(pre, potential, weight, modulator; 2)")

# The others of a problem are compared with its first.
IMPLEMENTATIONS: dict[str, Implementation] = {
    "C": Implementation("seven", BOUND, _limit(BOUND)),
    "C, without bound": Implementation("without bound", math.inf, _limit(math.inf)),
    "metarule": Implementation("seven", BOUND, _metarule(_SEVEN, BOUND)),
    "metarule, without bound": Implementation("without bound", math.inf, _metarule(_SEVEN, math.inf)),
    "metarule, summed": Implementation("without bound", math.inf, _metarule(_SEVEN, math.inf, summed=True)),
    "metarule, 81 terms": Implementation("81 terms", BOUND, _metarule(_MORE, BOUND)),
    "metarule, MLP": Implementation("MLP", BOUND, _metarule(MLP(), BOUND)),
    "literature": Implementation("seven", BOUND, _literature(literature.TERMS, _SEVEN)),
    "literature, 81 terms": Implementation("81 terms", BOUND, _literature(literature.ALL_TERMS, _MORE)),
    "PyTorch": Implementation("seven", BOUND, _torch("eager")),
    "torch.compile": Implementation("seven", BOUND, _torch("compiled")),
    "TorchOpt": Implementation("seven", BOUND, _torch("optimizers")),
    "numpy, forward pass": Implementation("seven", BOUND, _numpy),
}


class _Entry(NamedTuple):
    """An implementation in the comparison, with its difference from the first, or the reason why it is not timed."""

    implementation: Implementation
    prepared: Prepared | None
    seconds: float = math.nan
    difference: float | None = None
    failure: str = ""


def compared(size: Size, names: Sequence[str], seconds: float, memory: int) -> list[dict[str, Any]]:
    """Time implementations of the gradient in turns.

    Args:
        size: of the problem.
        names: of implementations.
        seconds: for the calls of one implementation.
        memory: bytes that an implementation may take.

    Returns:
        One row an implementation, in the order of `IMPLEMENTATIONS`. `difference` is the largest from the first of the
        same problem, as a share of the largest number. `note` names a difference that is too large, or a failure, and
        then there are no times.
    """
    entries = dict(_entries(size, names, memory))
    running = {name: one for name, one in entries.items() if not one.failure}
    calls = [(one.prepared.call, one.seconds) for one in running.values() if one.prepared]
    timings = dict(zip(running, take_turns(calls, seconds), strict=True))
    return [_row(size, name, one, timings) for name, one in entries.items()]


def _entries(size: Size, names: Sequence[str], memory: int) -> Iterator[tuple[str, _Entry]]:
    lifetimes = draw(size)
    expected: dict[str, Outcome] = {}
    for name, implementation in IMPLEMENTATIONS.items():
        if name not in names:
            continue
        try:
            prepared = implementation.prepare(size, lifetimes, memory)
            clock = time.perf_counter()
            raw = prepared.call()
            entry = _Entry(implementation, prepared, time.perf_counter() - clock)
            outcome = prepared.outcome(raw)
        except ImportError as error:
            yield name, _Entry(implementation, None, failure=f"not installed: {error.name}")
        except limit.Unavailable:
            yield name, _Entry(implementation, None, failure="not installed: gcc")
        except TooLarge as error:
            yield name, _Entry(implementation, None, failure=f"does not fit: {error}")
        except (RuntimeError, MemoryError, subprocess.CalledProcessError) as error:
            reason = (str(error).splitlines() or [""])[0]
            yield name, _Entry(implementation, None, failure=f"failed: {type(error).__name__}: {reason}")
        else:
            first = expected.setdefault(implementation.problem, outcome)
            apart = None if first is outcome else _difference(outcome, first)
            yield name, entry._replace(difference=apart, failure=_check(outcome, apart))


def _difference(one: Outcome, first: Outcome) -> float:
    if one.gradients is None or first.gradients is None:
        return difference(one.losses, first.losses)
    if one.gradients.ndim < first.gradients.ndim:  # of the sum of losses
        return difference(one.gradients, first.gradients.sum(0))
    return difference(one.gradients, first.gradients)


def _check(outcome: Outcome, apart: float | None) -> str:
    if not all(np.isfinite(array).all() for array in outcome if array is not None):
        return "WRONG: not finite"
    return f"WRONG: off by {apart:.1g}" if apart is not None and not apart <= _TOLERANCE else ""


def _row(size: Size, name: str, one: _Entry, timings: Mapping[str, Timing]) -> dict[str, Any]:
    timing = timings.get(name)
    base = timings.get("C" if math.isfinite(one.implementation.bound) else "C, without bound")
    prepared = one.prepared
    return {
        "size": size.name,
        "steps": size.steps,
        "lifetimes": size.lifetimes,
        "implementation": name,
        "runs": timing.runs if timing else 0,
        "minimum_ms": timing.minimum * 1e3 if timing else None,
        "median_ms": timing.median * 1e3 if timing else None,
        "ratio": timing.minimum / base.minimum if timing and base else None,
        "compile_seconds": prepared.compile_seconds if prepared else None,
        "temporary_bytes": prepared.temporary_bytes if prepared else None,
        "lifetimes_per_second": size.lifetimes / timing.minimum if timing else None,
        "difference": one.difference if one.difference is None or math.isfinite(one.difference) else None,
        "note": one.failure or (prepared.note if prepared else ""),
    }
