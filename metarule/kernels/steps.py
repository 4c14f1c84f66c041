"""A step of a loop and its adjoint: where their numbers are, and their text as LLVM functions of pointers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.interpreters import partial_eval as pe

from metarule.kernels import rolled
from metarule.kernels.loops import Loop, adjoint_of, in_parts
from metarule.kernels.nests import Access, Nests, row_major
from metarule.kernels.scalars import Operations, Unsupported, count, evaluate, is_constant
from metarule.kernels.vectors import Code

__all__ = ["Body", "Place", "adjoint_body", "adjoint_text", "computed", "step_body", "step_text"]

# Operations of a step without loops. More take long to compile, and do not stay in the cache of instructions.
_MOST_STRAIGHT = 6000


class Place(NamedTuple):
    """Place of an input or output: an array of vectors, from an index on.

    Attributes:
        pointer: the array.
        start: index of the first vector.
        shared: true if an input is one number for all lanes.
        added: true if an output is added to what is there.
    """

    pointer: str
    start: int
    shared: bool = False
    added: bool = False


class Body(NamedTuple):
    """A step or its adjoint.

    Attributes:
        jaxpr: what it computes, for one lifetime.
        inputs: where each of its inputs is read.
        outputs: where each of its outputs is written.
    """

    jaxpr: ClosedJaxpr
    inputs: list[Place]
    outputs: list[Place]


def step_body(loop: Loop, shared: Sequence[bool]) -> Body:
    """Step of a loop, some of whose constants are shared by all lanes."""
    states, observables = in_parts(loop.step.out_avals, loop.states)
    outputs = [*_places("%after", states), *_places("%observables", observables)]
    return Body(loop.step, _inputs(loop, shared), outputs)


def adjoint_body(loop: Loop, shared: Sequence[bool], active: Sequence[bool]) -> Body:
    """Adjoint of a step."""
    constants, states, stimuli = in_parts(
        [kind for kind, one in zip(loop.step.in_avals, active) if one], sum(active[: loop.constants]), loop.states
    )
    observables = loop.step.out_avals[loop.states :]
    inputs = [*_inputs(loop, shared), *_places("%g", states), *_places("%gy", observables)]
    outputs = [*_places("%dc", constants, added=True), *_places("%g", states), *_places("%dx", stimuli)]
    return Body(adjoint_of(loop, tuple(active)), inputs, outputs)


def computed(body: Body, load: Callable[[Place, int], Any], operations: Operations) -> list[tuple[str, int, Any]]:
    """Evaluate a step: (array, index, value) for each number that is to be written.

    Args:
        body: the step.
        load: from a place and an index in its array to the number there.
        operations: the back end.
    """
    arguments = []
    for kind, place, is_read in zip(body.jaxpr.in_avals, body.inputs, _read(body.jaxpr), strict=True):
        array = np.full(prod(kind.shape), 0.0, object)
        if is_read:
            array[:] = [load(place, place.start + index) for index in range(array.size)]
            if kind.dtype == bool:
                array[:] = [operations.binary("ne", number, 0.0) for number in array]
        arguments.append(array.reshape(kind.shape))
    written = []
    for array, place in zip(evaluate(body.jaxpr, arguments, operations), body.outputs, strict=True):
        for index, value in enumerate(array.flat, place.start):
            if not place.added:
                written.append((place.pointer, index, value))
            elif not (is_constant(value) and value == 0):
                written.append((place.pointer, index, operations.binary("add", value, load(place, index))))
    return written


def step_text(loop: Loop, shared: Sequence[bool], code: Code) -> tuple[str, int]:
    """Write the step of a loop, some of whose constants are shared by all lanes: (text, vectors of its memory)."""
    pointers = ("%shared", "%constants", "%state", "%stimulus", "%after", "%observables")
    return _function(pointers, step_body(loop, shared), code)


def adjoint_text(loop: Loop, shared: Sequence[bool], active: Sequence[bool], code: Code) -> tuple[str, int]:
    """Write the adjoint of a step: (text, vectors of its memory)."""
    pointers = ("%shared", "%constants", "%state", "%stimulus", "%g", "%gy", "%dc", "%dx")
    return _function(pointers, adjoint_body(loop, shared, active), code)


def _read(closed: ClosedJaxpr) -> list[bool]:
    """For each input of a jaxpr, true if it is read."""
    names = closed.jaxpr.constvars
    whole = closed.jaxpr.replace(constvars=[], invars=[*names, *closed.jaxpr.invars])
    return pe.dce_jaxpr(whole, [True] * len(closed.out_avals))[1][len(names) :]


def _inputs(loop: Loop, shared: Sequence[bool]) -> list[Place]:
    constants, states, stimuli = in_parts(loop.step.in_avals, loop.constants, loop.states)
    of_all = _places("%shared", [kind for kind, one in zip(constants, shared) if one], shared=True)
    of_each = _places("%constants", [kind for kind, one in zip(constants, shared) if not one])
    mixed = [next(of_all if one else of_each) for one in shared]
    return [*mixed, *_places("%state", states), *_places("%stimulus", stimuli)]


def _places(pointer: str, kinds: Sequence[Any], **flags: bool) -> Iterator[Place]:
    """Places of arrays that stand one behind the other."""
    start = 0
    for kind in kinds:
        yield Place(pointer, start, **flags)
        start += prod(kind.shape)


def _function(pointers: Sequence[str], body: Body, code: Code) -> tuple[str, int]:
    """Write a function of pointers that evaluates a step: as loop nests, or else as instructions without loops."""
    memories: dict[str, int] = {}
    try:
        lines, memories = _nested(body, code)
    except Unsupported:
        if count(body.jaxpr) > _MOST_STRAIGHT:
            raise
        lines = _straight(body, code)
    within = _defined("nested", (*pointers, *memories), [*lines, "ret void"], "noinline")
    cuts = [f"{name} = getelementptr {code.vector}, ptr %memory, i64 {start}" for name, start in _starts(memories)]
    given = ", ".join(f"ptr {pointer}" for pointer in (*pointers, *memories))
    step = _defined("step", (*pointers, "%memory"), [*cuts, f"call void @nested({given})", "ret void"], "alwaysinline")
    return f"{within}\n{step}", sum(memories.values())


def _defined(name: str, pointers: Sequence[str], lines: Sequence[str], attribute: str) -> str:
    signature = ", ".join(f"ptr noalias {pointer}" for pointer in pointers)
    return "\n".join([f"define internal void @{name}({signature}) {attribute} {{", *lines, "}"])


def _starts(sizes: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Starts of memories that stand one behind the other."""
    return zip(sizes, accumulate(sizes.values(), initial=0))


def _nested(body: Body, code: Code) -> tuple[list[str], dict[str, int]]:
    """Instructions with loops, and vectors of the memories that they are given."""
    nests = Nests(Code(code.lanes, code.bits))
    inputs = []
    for kind, place in zip(body.jaxpr.in_avals, body.inputs, strict=True):
        access = Access(place.pointer, place.start, row_major(kind.shape), place.shared, kind.dtype == np.bool_)
        inputs.append(nests.view(access, kind.shape))
    outputs = rolled.evaluate(body.jaxpr.jaxpr, body.jaxpr.consts, inputs, nests)
    for array, place in zip(outputs, body.outputs, strict=True):
        access = Access(place.pointer, place.start, row_major(array.shape))
        nests.store(access, array.shape, partial(nests.at, array), place.added)
    nests.write({place.pointer for place in body.outputs})
    code.intrinsics |= nests.code.intrinsics
    return [*nests.allocations, *nests.code.lines], nests.arguments


def _straight(body: Body, code: Code) -> list[str]:
    """Instructions without loops."""

    def load(place: Place, index: int) -> str:
        return (code.splat if place.shared else code.load)(place.pointer, index)

    for pointer, index, value in computed(body, load, code):
        code.store(value, pointer, index)
    return code.lines
