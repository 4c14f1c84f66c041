"""A time loop as one operation, with its derivatives.

    s_{t+1}, y_t = step(c, s_t, x_t)

`forward` is the loop, `tangent` its derivative, which is linear, and `adjoint` the transpose of that, which reads the
states that a loop has stored. Each knows how it is batched: the lifetimes of all nested `vmap`s are one axis, so that
the lanes of a back end are filled.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jax.interpreters import partial_eval as pe

from metarule.kernels.log import warn
from metarule.kernels.scalars import Unsupported, count, is_count

__all__ = ["Loop", "adjoint_of", "adjoint_p", "forward_p", "in_parts", "in_xla", "run", "size"]


class Loop(NamedTuple):
    """A step, and how many of its inputs are constants, states and stimuli; outputs are states and observables."""

    step: ClosedJaxpr
    constants: int
    states: int

    @property
    def precision(self) -> Any:
        """Type of its floats."""
        return next(x.dtype for x in self.step.out_avals if jax.dtypes.issubdtype(x.dtype, np.floating))

    def __hash__(self) -> int:
        return id(self.step)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loop) and self.step is other.step


def in_parts(values: Sequence[Any], *sizes: int) -> list[list[Any]]:
    """Cut a sequence into parts of some sizes; the last part is the rest."""
    parts, start = [], 0
    for size in sizes:
        parts.append(list(values[start : start + size]))
        start += size
    return [*parts, list(values[start:])]


def size(kinds: Sequence[Any]) -> int:
    """Numbers in arrays of some types."""
    return sum(prod(kind.shape) for kind in kinds)


def run(loop: Loop, constants: Sequence[Any], states: Sequence[Any], stimuli: Sequence[Any], length: int) -> Any:
    """Run a loop: (states after it, observables of each step)."""
    operands = [*constants, *states, *stimuli]
    results = forward_p.bind(*operands, loop=loop, length=length, batched=(False,) * len(operands), stored=False)
    return in_parts(results, loop.states)


@lru_cache(maxsize=256)
def adjoint_of(loop: Loop, active: tuple[bool, ...]) -> ClosedJaxpr:
    """Adjoint of a step: from its inputs and the cotangents of its outputs to those of its active inputs."""
    step, inputs = jaxpr_as_fun(loop.step), len(loop.step.in_avals)

    def adjoint(*given: Any) -> list[Any]:
        primals, cotangents = given[:inputs], list(given[inputs:])
        moving = [primal for primal, one in zip(primals, active) if one]

        def of_active(*moving: Any) -> Any:
            values = iter(moving)
            return step(*(next(values) if one else primal for primal, one in zip(primals, active)))

        return list(jax.vjp(of_active, *moving)[1](cotangents))

    return _lean(jax.make_jaxpr(adjoint)(*loop.step.in_avals, *loop.step.out_avals))


def _lean(closed: ClosedJaxpr) -> ClosedJaxpr:
    """A jaxpr without what its outputs do not need."""
    # Constants are inputs meanwhile, so that they stay with their values.
    names = list(closed.jaxpr.constvars)
    whole = closed.jaxpr.replace(constvars=[], invars=[*names, *closed.jaxpr.invars])
    jaxpr, _ = pe.dce_jaxpr(whole, [True] * len(closed.out_avals), instantiate=True)
    inner = jaxpr.replace(constvars=jaxpr.invars[: len(names)], invars=jaxpr.invars[len(names) :])
    return ClosedJaxpr(inner, closed.consts)


# --- What the operations compute, for one lifetime


def _forward(loop: Loop, length: int, stored: bool, *operands: Any) -> list[Any]:
    """States after the loop, observables of each step, and on request the states before each step in rows."""
    constants, states, stimuli = in_parts(operands, loop.constants, loop.states)
    step = jaxpr_as_fun(loop.step)

    def body(states: Any, stimuli: Any) -> Any:
        after, observables = in_parts(step(*constants, *states, *stimuli), loop.states)
        row = [jnp.concatenate([state.reshape(-1) for state in states])] if stored else []
        return tuple(after), [*observables, *row]

    after, along = jax.lax.scan(jax.checkpoint(body, prevent_cse=False), tuple(states), stimuli, length)
    return [*after, *along]


def _tangent(loop: Loop, length: int, active: Sequence[bool], *operands: Any) -> list[Any]:
    """Tangents of the results, from operands, their stored states, which are not used here, and tangents."""
    primals, tangents = operands[: len(active)], operands[len(active) + 1 :]
    moving = [primal for primal, one in zip(primals, active) if one]

    def of_active(*given: Any) -> list[Any]:
        values = iter(given)
        return _forward(loop, length, False, *(next(values) if one else x for one, x in zip(active, primals)))

    return jax.jvp(of_active, moving, list(tangents))[1]


def _adjoint(loop: Loop, length: int, active: Sequence[bool], *operands: Any) -> list[Any]:
    """Cotangents of the active operands, from operands, their stored states and cotangents of the results."""
    primals, stored, cotangents = operands[: len(active)], operands[len(active)], operands[len(active) + 1 :]
    constants, states, stimuli = in_parts(primals, loop.constants, loop.states)
    of_states, of_observables = in_parts(cotangents, loop.states)
    adjoint, moving = jaxpr_as_fun(adjoint_of(loop, tuple(active))), sum(active[: loop.constants])
    ends = np.cumsum([state.size for state in states])[:-1]

    def body(carry: Any, x: Any) -> Any:
        of_constants, of_states = carry
        row, stimuli, of_observables = x
        before = [part.reshape(state.shape) for part, state in zip(jnp.split(row, ends), states)]
        results = adjoint(*constants, *before, *stimuli, *of_states, *of_observables)
        added, of_states, of_stimuli = in_parts(results, moving, loop.states)
        return (list(map(jnp.add, of_constants, added)), of_states), of_stimuli

    zeros = [jnp.zeros_like(constant) for constant, one in zip(constants, active) if one]
    (of_constants, of_states), of_stimuli = jax.lax.scan(
        body, (zeros, of_states), (stored, stimuli, of_observables), length, reverse=True
    )
    return [*of_constants, *of_states, *of_stimuli]


def _batched(function: Callable[..., Any], batched: Sequence[bool]) -> Callable[..., Any]:
    return jax.vmap(function, [0 if one else None for one in batched]) if any(batched) else function


def _results(loop: Loop, length: int, stored: bool = False, **_: Any) -> list[Any]:
    """Types of the results of a loop, or of their tangents."""
    states, observables = in_parts(loop.step.out_avals, loop.states)
    rows = [jax.core.ShapedArray((size(states),), loop.precision)] if stored else []
    return [*states, *(x.update(shape=(length, *x.shape)) for x in (*observables, *rows))]


def _active(loop: Loop, length: int, active: Sequence[bool]) -> list[Any]:
    """Types of the active operands of a loop."""
    once, stimuli = in_parts(loop.step.in_avals, loop.constants + loop.states)
    kinds = [*once, *(x.update(shape=(length, *x.shape)) for x in stimuli)]
    return [kind for kind, one in zip(kinds, active, strict=True) if one]


# What each operation computes, in operations of XLA.
in_xla = dict[Primitive, Callable[..., list[Any]]]()


def _make(name: str, function: Callable[..., Any], shapes_of: Callable[..., Any]) -> Primitive:
    """Build a primitive that computes a function of one lifetime, whose results have some types."""
    primitive = Primitive(name)
    primitive.multiple_results = True

    def whole(*operands: Any, loop: Loop, length: int, batched: Sequence[bool], **params: Any) -> list[Any]:
        return _batched(partial(function, loop, length, *params.values()), batched)(*operands)

    @lru_cache(maxsize=256)
    def compiled(**params: Any) -> Any:
        return jax.jit(partial(primitive.bind, **params))

    def shapes(*operands: Any, loop: Loop, length: int, batched: Sequence[bool], **params: Any) -> list[Any]:
        lifetimes = [x.shape[:1] for x, one in zip(operands, batched) if one][:1]
        results = shapes_of(loop, length, **params)
        return [x.update(shape=(*(lifetimes[0] if lifetimes else ()), *x.shape)) for x in results]

    primitive.def_impl(lambda *operands, **params: compiled(**params)(*operands))
    primitive.def_abstract_eval(shapes)
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    mlir.register_lowering(primitive, mlir.lower_fun(whole, multiple_results=True))
    in_xla[primitive] = whole
    # Further derivatives are those of XLA's loop.
    ad.primitive_jvps[primitive] = lambda primals, tangents, **params: jax.jvp(
        partial(whole, **params), tuple(primals), tuple(map(ad.instantiate_zeros, tangents))
    )
    return primitive


def _batch(primitive: Primitive, operands: Sequence[Any], axes: Sequence[Any], *, batched: Any, **params: Any) -> Any:
    """Merge a new axis of lifetimes with that of the operands that have one."""
    new = next(operand.shape[axis] for operand, axis in zip(operands, axes) if axis is not None)
    moved = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(operands, axes)]
    old = next((x.shape[axis is not None] for x, axis, one in zip(moved, axes, batched) if one), None)
    if old is not None:
        for number, (x, axis, one) in enumerate(zip(moved, axes, batched)):
            if axis is None and one:
                x = jnp.broadcast_to(x, (new, *x.shape))
            elif axis is not None and not one:
                x = jnp.broadcast_to(x[:, None], (new, old, *x.shape[1:]))
            moved[number] = x.reshape(new * old, *x.shape[2:]) if axis is not None or one else x
    merged = tuple(axis is not None or one for axis, one in zip(axes, batched))
    results = primitive.bind(*moved, batched=merged, **params)
    if old is not None:
        results = [result.reshape(new, old, *result.shape[1:]) for result in results]
    return results, [0] * len(results)


forward_p = _make("lifetime", _forward, _results)
tangent_p = _make("lifetime_tangent", _tangent, _results)
adjoint_p = _make("lifetime_adjoint", _adjoint, _active)


def _forward_jvp(primals: Any, tangents: Any, *, stored: bool, loop: Loop, **params: Any) -> Any:
    counts = any(is_count(kind.dtype) for kind in loop.step.out_avals[: loop.states])
    if counts:
        warn("the derivative of a step, because of integers in its state")
    if stored or counts:
        return _further(primals, tangents, stored=stored, loop=loop, **params)
    states, batched = range(loop.constants, loop.constants + loop.states), params.pop("batched")
    active = tuple(not isinstance(t, ad.Zero) or number in states for number, t in enumerate(tangents))
    try:
        count(adjoint_of(loop, active))
    except Unsupported as error:
        warn(f"the derivative of a step, because of {error}")
        return _further(primals, tangents, stored=stored, loop=loop, batched=batched, **params)
    moving = [ad.instantiate_zeros(tangent) for tangent, one in zip(tangents, active) if one]
    *results, rows = forward_p.bind(*primals, loop=loop, batched=batched, stored=True, **params)
    # With a batch, every result has one, and so has every tangent of a result.
    batches = (*batched, any(batched), *(one for one, chosen in zip(batched, active) if chosen))
    return results, tangent_p.bind(*primals, rows, *moving, loop=loop, batched=batches, active=active, **params)


def _transpose(cotangents: Any, *operands: Any, loop: Loop, length: int, batched: Any, active: Any) -> Any:
    primals, tangents = operands[: len(active) + 1], operands[len(active) + 1 :]
    kinds = [tangent.aval for tangent in tangents]
    if all(isinstance(cotangent, ad.Zero) for cotangent in cotangents):
        return [*([None] * len(primals)), *map(ad.Zero, kinds)]
    given = list(map(ad.instantiate_zeros, cotangents))
    batches = batched[: len(primals)] + (any(batched),) * len(given)
    results = adjoint_p.bind(*primals, *given, loop=loop, length=length, batched=batches, active=active)
    summed = [
        jnp.sum(result, 0) if any(batched) and not one else result
        for result, one in zip(results, batched[len(primals) :])
    ]
    return [*([None] * len(primals)), *summed]


_further = ad.primitive_jvps[forward_p]
ad.primitive_jvps[forward_p] = _forward_jvp
ad.primitive_transposes[tangent_p] = _transpose
