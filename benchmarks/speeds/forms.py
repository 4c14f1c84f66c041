"""All forms of the θ-gradient, ready to be called for the lifetimes of a size."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from msgspec.structs import replace

from benchmarks.speeds import arrays, library, limit, literature, torches
from benchmarks.speeds.problem import THETA, Lives, Size
from benchmarks.speeds.timing import compiled
from metarule import MLP, Lifetime, Polynomial
from metarule.prng import run_key
from metarule.types import LearnerState, LifetimeContext, Rule, Theta

__all__ = ["BOUND", "FORMS", "Form", "Outcome", "Prepared", "TooLarge", "stated"]

BOUND = 2.0
_GIB = 2**30


class TooLarge(Exception):
    """Not even one lifetime fits into the memory that a form may take."""


class Outcome(NamedTuple):
    """What a form computes.

    Attributes:
        losses: of every lifetime, or their sum.
        gradients: ∂loss/∂θ of every lifetime, or of the sum; none where it is the forward pass alone.
    """

    losses: Float[np.ndarray, "*lives"]
    gradients: Float[np.ndarray, "*lives terms"] | None


class Prepared(NamedTuple):
    """A form that is ready for its lives.

    Attributes:
        call: computes, and returns when all is done.
        outcome: from what `call` returns to what is compared.
        compile_seconds: time that compiling took, where something is compiled.
        temporary_bytes: what the program takes beside its input and output, where it is known.
        note: what a reader of its time should know.
    """

    call: Callable[[], Any]
    outcome: Callable[[Any], Outcome]
    compile_seconds: float | None = None
    temporary_bytes: int | None = None
    note: str = ""


class Form(NamedTuple):
    """One way to the gradient.

    Attributes:
        problem: forms of the same problem come to the same.
        bound: of weights; a time is compared with that of the C code with or without one.
        prepare: from the size, its lives and the bytes that it may take to what is called.
    """

    problem: str
    bound: float
    prepare: Callable[[Size, Lives, int], Prepared]


def stated(*terms: str) -> Polynomial:
    """A rule that starts with the coefficients of the stated problem, as far as it has its terms."""
    rule = Polynomial(terms=terms)
    known = dict(zip(library.SEVEN.terms, THETA, strict=True))
    return replace(rule, initial={name: known[name] for name in rule.names if name in known})


def _theta(rule: Rule) -> Theta:
    return rule.init(run_key(0))


def _each(raw: Any) -> Outcome:
    losses, theta = raw
    return Outcome(
        np.asarray(losses), np.concatenate([_rows(leaf, losses.ndim) for leaf in jax.tree.leaves(theta)], -1)
    )


def _rows(leaf: Any, leading: int) -> Float[np.ndarray, "..."]:
    return np.asarray(leaf).reshape(*leaf.shape[:leading], -1)


def _metarule(rule: Rule, bound: float, summed: bool = False) -> Callable[[Size, Lives, int], Prepared]:
    def prepare(size: Size, lifetimes: Lives, room: int) -> Prepared:
        who, theta = library.learner(size, bound, rule), _theta(rule)
        born = library.born(who, lifetimes)
        program = compiled(_summed(who) if summed else library.gradients(who), theta, *born)
        return Prepared(partial(program.run, theta, *born), _each, program.seconds, program.temporary_bytes)

    return prepare


def _summed(who: Lifetime) -> Callable[[Theta, LifetimeContext, LearnerState], tuple[Float[Array, ""], Theta]]:
    def total(theta: Theta, lifetimes: LifetimeContext, carries: LearnerState) -> tuple[Float[Array, ""], Theta]:
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), library.gradients(who)(theta, lifetimes, carries))

    return total


def _literature(powers: tuple[literature.Powers, ...], rule: Polynomial) -> Callable[[Size, Lives, int], Prepared]:
    def prepare(size: Size, lifetimes: Lives, room: int) -> Prepared:
        # One device, as it is where nobody asks for more; XLA itself divides the work of a CPU among its cores.
        with jax.set_mesh(jax.make_mesh((1,), ("alone",))):
            function, theta, together = literature.gradients(powers, BOUND), _theta(rule), size.lifetimes
            parts = _parts(lifetimes, together)
            program = compiled(function, theta, parts[0])
            if program.temporary_bytes > room:
                together = _fitting(size.lifetimes, math.ceil(program.temporary_bytes / size.lifetimes), room)
                parts = _parts(lifetimes, together)
                program = compiled(function, theta, parts[0])
        return Prepared(
            # One after the other: what is dispatched at once would be in memory at once.
            lambda: [program.run(theta, part) for part in parts],
            lambda raw: _each([np.concatenate(each) for each in zip(*raw, strict=True)]),
            program.seconds,
            program.temporary_bytes,
            "" if len(parts) == 1 else f"lives side by side: {together}",
        )

    return prepare


def _parts(lifetimes: Lives, together: int) -> list[Lives]:
    starts = range(0, len(lifetimes.first), together)
    return [jax.tree.map(lambda array: jnp.asarray(array[start : start + together]), lifetimes) for start in starts]  # noqa: B023


def _fitting(lifetimes: int, each: int, room: int) -> int:
    """How many of the lifetimes run at once: a number that divides them, so that one program does for all."""
    fitting = [count for count in range(1, lifetimes) if lifetimes % count == 0 and count * each <= room]
    if not fitting:
        raise TooLarge(f"one lifetime takes {each / _GIB:.1f} GiB")
    return fitting[-1]


def _limit(bound: float) -> Callable[[Size, Lives, int], Prepared]:
    def prepare(size: Size, lifetimes: Lives, room: int) -> Prepared:
        theta, laid_out = np.array(THETA, np.float32), limit.prepare(lifetimes)
        call = partial(limit.gradients, theta, laid_out, bound)
        call()  # which compiles it, unless an earlier process has
        return Prepared(call, lambda raw: Outcome(*raw))

    return prepare


def _torch(kind: str) -> Callable[[Size, Lives, int], Prepared]:
    def prepare(size: Size, lifetimes: Lives, room: int) -> Prepared:
        theta, tensors = torches.prepare(np.array(THETA, np.float32), lifetimes)
        call, seconds = partial(getattr(torches, kind)(BOUND), theta, tensors), None
        if kind == "compiled":
            seconds = _compiling(call)
        return Prepared(call, lambda raw: Outcome(*(tensor.numpy() for tensor in raw)), seconds)

    return prepare


def _compiling(call: Callable[[], Any]) -> float:
    """Seconds by which the first call is slower, nothing being kept of earlier processes."""
    import torch

    with torch.compiler.config.patch(force_disable_caches=True):
        return _clocked(call) - _clocked(call)


def _clocked(call: Callable[[], Any]) -> float:
    clock = time.perf_counter()
    call()
    return time.perf_counter() - clock


def _numpy(size: Size, lifetimes: Lives, room: int) -> Prepared:
    call = partial(arrays.losses, np.array(THETA, np.float32), lifetimes, BOUND)
    return Prepared(call, lambda raw: Outcome(raw, None))


_SEVEN, _MORE = stated(*library.SEVEN.terms), stated("taylor(pre, potential, weight, modulator; 2)")

# The first form of a problem is what the others are compared with.
FORMS: dict[str, Form] = {
    "C": Form("seven", BOUND, _limit(BOUND)),
    "C, without_bound": Form("without_bound", math.inf, _limit(math.inf)),
    "metarule": Form("seven", BOUND, _metarule(_SEVEN, BOUND)),
    "metarule, without_bound": Form("without_bound", math.inf, _metarule(_SEVEN, math.inf)),
    "metarule, summed": Form("without_bound", math.inf, _metarule(_SEVEN, math.inf, summed=True)),
    "metarule, 81 terms": Form("81 terms", BOUND, _metarule(_MORE, BOUND)),
    "metarule, MLP": Form("MLP", BOUND, _metarule(MLP(), BOUND)),
    "literature": Form("seven", BOUND, _literature(literature.TERMS, _SEVEN)),
    "literature, 81 terms": Form("81 terms", BOUND, _literature(literature.ALL_TERMS, _MORE)),
    "PyTorch": Form("seven", BOUND, _torch("eager")),
    "torch.compile": Form("seven", BOUND, _torch("compiled")),
    "TorchOpt": Form("seven", BOUND, _torch("optimizers")),
    "numpy, forward pass": Form("seven", BOUND, _numpy),
}
