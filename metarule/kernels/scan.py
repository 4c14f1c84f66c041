"""A scan as one operation, if its body can be compiled."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

from metarule.kernels.loops import Loop, in_parts, run, size
from metarule.kernels.scalars import Unsupported, cost, count, is_count, kinds_of

__all__ = ["Prepared", "in_segments", "prepare"]


class Prepared(NamedTuple):
    """A scan that is ready to run as one operation.

    Attributes:
        operations: of a step, about.
        numbers: of its state.
        run: runs some steps from a state with some stimuli: (state after them, observables of each).
    """

    operations: int
    numbers: int
    run: Callable[[Any, Any], tuple[Any, Any]]


def prepare(body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> Prepared:
    """Prepare a scan, whose arguments are those of `lax.scan`.

    Whatever does not depend on the state and has no scalar form, such as random numbers and indices, is computed
    before the loop, for all steps at once. Whatever does not depend on the step either is computed once.

    Raises:
        Unsupported: with the reason.
    """
    carry, xs = jax.tree.map(jax.numpy.asarray, (carry, xs))
    states, structure = jax.tree.flatten(carry)
    shapes = list[Any]()

    def flat(*given: Any) -> list[Any]:
        before, x = in_parts(given, len(states))
        result = body(jax.tree.unflatten(structure, before), jax.tree.unflatten(jax.tree.structure(xs), x))
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Unsupported("a body whose result is no pair")
        after, ys = result
        observables, shape = jax.tree.flatten(ys)
        shapes[:] = [shape]
        if _kinds(after) != _kinds(carry):
            raise Unsupported("a state that changes its type")  # an error of XLA's loop, too
        return [*jax.tree.leaves(after), *observables]

    kinds = [*map(jax.typeof, states), *(jax.typeof(x).update(shape=x.shape[1:]) for x in jax.tree.leaves(xs))]
    closed = jax.make_jaxpr(flat)(*kinds)
    parts = _split(closed, len(states))
    _check(parts, len(states))
    loop = Loop(parts.step, parts.once, len(states))

    def run_it(carry: Any, xs: Any) -> tuple[Any, Any]:
        stimuli = jax.tree.leaves(xs)
        prepared = jax.vmap(
            jaxpr_as_fun(parts.before),
            in_axes=[*([None] * len(closed.consts)), *([0] * len(stimuli))],
            out_axes=[*([None] * parts.once), *([0] * (len(parts.before.out_avals) - parts.once))],
        )(*closed.consts, *stimuli)
        constants, presented = in_parts(prepared, parts.once)
        after, ys = run(loop, constants, jax.tree.leaves(carry), presented, len(stimuli[0]))
        return jax.tree.unflatten(structure, after), jax.tree.unflatten(shapes[0], ys)

    return Prepared(count(parts.step), sum(state.size for state in states), run_it)


def _kinds(tree: Any) -> Any:
    """Structure, shapes and precisions of the arrays of a tree."""
    return jax.tree.structure(tree), [(x.shape, x.dtype) for x in map(jax.typeof, jax.tree.leaves(tree))]


def in_segments(run: Callable[[Any, Any], tuple[Any, Any]], size: int, carry: Any, xs: Any) -> tuple[Any, Any]:
    """Run a loop in segments, of which the backward pass stores the first states and recomputes the others.

    Args:
        run: runs the steps of a segment.
        size: steps of a segment, at most those of the loop; steps that do not fill one are run last.
        carry: state before the loop.
        xs: stimuli of all steps.
    """
    length = len(jax.tree.leaves(xs)[0])
    filled = length // size * size
    cut = jax.tree.map(lambda x: x[:filled].reshape(filled // size, size, *x.shape[1:]), xs)
    carry, ys = jax.lax.scan(jax.checkpoint(run, prevent_cse=False), carry, cut)
    ys = jax.tree.map(lambda y: y.reshape(filled, *y.shape[2:]), ys)
    if filled == length:
        return carry, ys
    carry, rest = run(carry, jax.tree.map(lambda x: x[filled:], xs))
    return carry, jax.tree.map(lambda *parts: jax.numpy.concatenate(parts), ys, rest)


class _Parts(NamedTuple):
    """A body in two parts.

    Attributes:
        before: from the values that the body closes over and a stimulus to what the step needs of these.
        once: number of results of `before` that are the same at all steps; they are the first.
        step: from the results of `before` and the state to the state and the observables; states are last but stimuli.
    """

    before: ClosedJaxpr
    once: int
    step: ClosedJaxpr


def _split(closed: ClosedJaxpr, states: int) -> _Parts:
    jaxpr = closed.jaxpr
    given = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    # Literals of the body, such as indices of neurons, are part of the program.
    fixed = {name for name, value in given.items() if not _is_operand(value)}
    fixed |= _derived(jaxpr.eqns, fixed)
    once = set(given) | _derived(jaxpr.eqns, set(given))
    each = {*once, *jaxpr.invars[states:]}
    each |= _derived(jaxpr.eqns, each)
    hoisted, needed = list[JaxprEqn](), set[Var]()
    for equation in reversed(jaxpr.eqns):
        read, results = _variables(equation.invars), set(equation.outvars)
        if read <= each and (results & needed or _is_hoisted(equation, read, fixed, once)):
            hoisted.insert(0, equation)
            needed |= read
    # What depends on literals alone is constant in the step, too.
    kept = [equation for equation in jaxpr.eqns if equation not in hoisted or _variables(equation.invars) <= fixed]
    made = {name for equation in kept for name in equation.outvars} | fixed
    read = set().union(*(_variables(equation.invars) for equation in kept), _variables(jaxpr.outvars))
    passed = [name for name in _in_order(jaxpr) if name in read and name in each and name not in made]
    first, then = [name for name in passed if name in once], [name for name in passed if name not in once]
    before = jaxpr.replace(constvars=[], invars=[*given, *jaxpr.invars[states:]], outvars=[*first, *then], eqns=hoisted)
    constants = [name for name in given if name in fixed]
    step = jaxpr.replace(constvars=constants, invars=[*first, *jaxpr.invars[:states], *then], eqns=kept)
    return _Parts(ClosedJaxpr(before, ()), len(first), ClosedJaxpr(step, [given[name] for name in constants]))


def _is_operand(value: Any) -> bool:
    """True if a value that a body closes over is not the same in every call."""
    kinds = (np.floating, jax.dtypes.extended)  # such as keys
    return isinstance(value, jax.core.Tracer) or (
        isinstance(value, jax.Array) and any(jax.dtypes.issubdtype(value.dtype, kind) for kind in kinds)
    )


def _is_hoisted(equation: JaxprEqn, read: set[Var], fixed: set[Var], once: set[Var]) -> bool:
    """True if an equation is better computed before the loop, or cannot be computed in it."""
    if not read or read <= fixed:
        return False
    if read <= once and size(kinds_of(equation.outvars)) <= size(kinds_of(list(read))):
        return True
    try:
        cost(equation, [isinstance(atom, Literal) or atom in fixed for atom in equation.invars])
    except Unsupported:
        return True
    return False


def _derived(equations: list[JaxprEqn], known: set[Var]) -> set[Var]:
    """Results that depend on some variables alone."""
    derived = set(known)
    for equation in equations:
        if _variables(equation.invars) <= derived:
            derived |= set(equation.outvars)
    return derived - known


def _variables(atoms: Any) -> set[Var]:
    return {atom for atom in atoms if isinstance(atom, Var)}


def _in_order(jaxpr: Any) -> list[Var]:
    """All variables of a jaxpr, in the order in which they are made."""
    return [*jaxpr.constvars, *jaxpr.invars, *(name for equation in jaxpr.eqns for name in equation.outvars)]


def _check(parts: _Parts, states: int) -> None:
    """Refuse states and observables that are not floats of one precision, or counts; stimuli may be truth values."""
    step = parts.step
    read, written = ([np.dtype(kind.dtype) for kind in kinds] for kinds in (step.in_avals, step.out_avals))
    kinds = {*read[parts.once : parts.once + states], *written}
    kinds |= {kind for kind in read if kind != np.dtype(bool)}
    floats = {kind for kind in kinds if not is_count(kind)}
    if len(floats) != 1 or not floats <= {np.dtype("float32"), np.dtype("float64")}:
        raise Unsupported(f"numbers of {' and '.join(sorted(map(str, kinds)))}")
