"""Jaxprs entry by entry, with Python's numbers as the back end."""

import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import FUNCTIONS, UNKNOWN

from metarule.kernels.scalars import UNARY, Operations, Unsupported, count, evaluate, is_constant


class Value:
    """A number that is no constant."""

    def __init__(self, number):
        self.number = number


def number(x):
    return x.number if isinstance(x, Value) else x


BINARY = {
    "add": operator.add,
    "div": operator.truediv,
    "pow": operator.pow,
    "mul": operator.mul,
    "sub": operator.sub,
    "max": max,
    "min": min,
}
BINARY |= {name: getattr(operator, name) for name in ("eq", "ge", "gt", "le", "lt", "ne", "xor")}
BINARY |= {"and": operator.and_, "or": operator.or_}
FUNCTION = {"logistic": lambda x: 1 / (1 + math.exp(-x)), "rsqrt": lambda x: x**-0.5, "sign": np.sign, "abs": abs}


class Numbers:
    """A back end that counts its operations."""

    def __init__(self):
        self.operations = 0

    def _done(self, result):
        self.operations += 1
        return Value(result)

    def unary(self, name, x):
        assert name in UNARY
        return self._done(FUNCTION.get(name, getattr(math, name, None))(number(x)))

    def binary(self, name, x, y):
        return self._done(BINARY[name](number(x), number(y)))

    def select(self, which, true, false):
        return self._done(number(true) if number(which) else number(false))


START = np.array([0.3, -0.8, 0.6, 0.45])


def evaluated(closed, *arrays):
    """Results of a jaxpr of variables, and the number of operations."""
    entries = [np.frompyfunc(lambda x: Value(bool(x) if isinstance(x, np.bool) else float(x)), 1, 1)(x) for x in arrays]
    back_end = Numbers()
    assert isinstance(back_end, Operations)
    results = evaluate(closed, [np.asarray(array, object) for array in entries], back_end)
    return [np.vectorize(number, otypes=[float])(result) for result in results], back_end.operations


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_and_its_derivative_are_those_of_jax(name, float64):
    def with_derivative(x, cotangent):
        result, transposed = jax.vjp(FUNCTIONS[name], x)
        return result, transposed(cotangent)[0]

    shape = jax.eval_shape(FUNCTIONS[name], START).shape
    arguments = START, np.linspace(-1, 1, math.prod(shape)).reshape(shape)
    closed = jax.make_jaxpr(with_derivative)(*arguments)
    results, operations = evaluated(closed, *arguments)
    for result, expected in zip(results, jax.jit(with_derivative)(*arguments), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-14)
    assert operations <= 4 * count(closed) + 12  # powers are several products, and a cumulative sum counts as none


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_has_no_scalar_form_is_named(name, float64):
    function, reason = UNKNOWN[name]
    with pytest.raises(Unsupported, match=reason):
        count(jax.make_jaxpr(function)(START))


def test_each_entry_is_an_operation():
    closed = jax.make_jaxpr(lambda x, y: jnp.tanh(x * y + 1))(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32))
    assert count(closed) == 18
    assert evaluated(closed, np.ones((2, 3)), np.ones((2, 3)))[1] == 18


def test_sums_and_products_are_unrolled():
    closed = jax.make_jaxpr(jnp.matmul)(np.ones((2, 3), np.float32), np.ones((3, 5), np.float32))
    assert count(closed) == 30
    (result,), operations = evaluated(closed, np.arange(6.0).reshape(2, 3), np.arange(15.0).reshape(3, 5))
    np.testing.assert_array_equal(result, np.arange(6.0).reshape(2, 3) @ np.arange(15.0).reshape(3, 5))
    assert operations == 2 * 30 - 10  # the first terms are added to nothing


def test_moving_entries_costs_nothing():
    moved = lambda x: jnp.concatenate([jnp.flip(x).T.reshape(-1)[1:5], jnp.roll(x, 1)[0]])
    closed = jax.make_jaxpr(moved)(np.ones((2, 3), np.float32))
    assert count(closed) == 0
    (result,), operations = evaluated(closed, np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(result, moved(np.arange(6.0).reshape(2, 3)))
    assert operations == 0


def test_what_depends_on_constants_alone_is_computed_at_once():
    closed = jax.make_jaxpr(lambda x: x * jnp.sort(jnp.tanh(jnp.arange(3.0)))[::-1])(np.ones(3, np.float32))
    (result,), operations = evaluated(closed, np.ones(3))
    np.testing.assert_allclose(result, np.tanh(np.arange(3.0)[::-1]), rtol=1e-6)
    assert operations == count(closed) - 1 == 2  # a product with 0 is 0


def test_products_with_one_and_sums_with_zero_cost_nothing():
    closed = jax.make_jaxpr(lambda x: (jnp.eye(3, dtype=x.dtype) @ x + 0.0) * 1.0)(np.ones(3, np.float32))
    (result,), operations = evaluated(closed, START[:3])
    np.testing.assert_array_equal(result, START[:3])
    assert operations == 0


def test_constants_are_numbers_and_truth_values():
    assert all(map(is_constant, (1, 2.5, True, np.float32(1), np.bool(0))))
    assert not any(map(is_constant, (Value(1.0), "%v1", None)))
