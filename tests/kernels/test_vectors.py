"""Functions of one number against NumPy's in a higher precision, over all exponents and around every threshold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import both

from metarule.lifetime.scans import loop

pytestmark = pytest.mark.numerics

# Errors in units of the last place (float32, float64), a quarter above the largest that was measured. The polynomials
# of Cephes are within 2; a quotient, as in tanh, or a product with a rounded logarithm (Kahan) adds one or two; each
# multiplication of a power adds a half. Double precision has the library's functions.
BOUNDS = {
    "abs": (0, 0),
    "cos": (0.7, 0.7),
    "exp": (1.5, 0.7),
    "exp2": (0.7, 0.7),
    "expm1": (3, 2.2),
    "log": (1.5, 0.7),
    "log1p": (3, 2.3),
    "logistic": (3.3, 2.4),
    "rsqrt": (1.3, 1.3),
    "sign": (0, 0),
    "sin": (0.7, 0.7),
    "sqrt": (0.51, 0.51),
    "tanh": (4, 2.4),
    "-3": (2.2, 2.2),
    "-1": (0.51, 0.51),
    "2": (0.51, 0.51),
    "5": (3.5, 3.5),
    "7": (5.2, 5.2),
}
LAX = {name: getattr(jax.lax, name) for name in BOUNDS if hasattr(jax.lax, name)}
LAX |= {name: lambda x, power=int(name): jax.lax.integer_pow(x, power) for name in BOUNDS if name not in LAX}
EXACT = {name: getattr(np, name) for name in LAX if hasattr(np, name)}
EXACT |= {"logistic": lambda x: 1 / (1 + np.exp(-x)), "rsqrt": lambda x: 1 / np.sqrt(x)}
EXACT |= {name: lambda x, power=int(name): x**power for name in LAX if name not in EXACT}


# Where a number in between has no leading digit, and becomes 0 as in XLA: x to the third in 1/x³, and x/205 in tanh.
LOST = {"-3": lambda x, tiny: abs(x) ** 3 < tiny, "tanh": lambda x, tiny: abs(x) < 205 * tiny}


def numbers(dtype):
    info, draw = np.finfo(dtype), np.random.default_rng(0)
    largest = float(np.log(info.max))
    exponents = draw.uniform(np.log10(float(info.tiny)), np.log10(float(info.max)), 4000)
    special = [0.0, info.tiny, info.smallest_subnormal, info.tiny / 4, info.max, np.inf, 1.0, np.nan]
    near = [special, 10.0**exponents, np.linspace(0, 1, 4000), np.linspace(0, 20, 4000)]
    near += [np.linspace(0, 1.2 * largest, 4000), np.linspace(0.97 * largest, 1.2 * largest, 2000)]
    positive = np.concatenate(near).astype(dtype)
    return np.concatenate([positive, -positive])


def errors(result, exact):
    """In units of the last place; infinite if one is NaN or infinite where the other is not."""
    info, wanted = np.finfo(result.dtype), exact.astype(result.dtype)
    same = (np.isnan(result) & np.isnan(wanted)) | (result == wanted)
    unit = np.spacing(np.maximum(np.abs(wanted), info.tiny)).astype(exact.dtype)
    error = np.abs(result.astype(exact.dtype) - exact) / unit
    return np.where(np.isfinite(result) & np.isfinite(wanted), error, np.where(same, 0, np.inf))


@pytest.fixture(scope="module", params=["float32", "float64"])
def results(request):
    """Numbers, and the functions of them as machine code and as XLA computes them."""

    def one(x):
        step = lambda x, _: (x, {name: function(x) for name, function in LAX.items()})
        return jax.tree.map(lambda y: y[0], loop(step, x, jnp.zeros(1, x.dtype))[1])

    with jax.enable_x64(request.param == "float64"):
        xs = numbers(request.param)
        return xs, *both(jax.vmap(one), xs)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_function_is_exact_but_for_rounding(name, results):
    xs, compiled, _ = results
    tiny = np.finfo(xs.dtype).tiny
    with np.errstate(all="ignore"):
        exact = EXACT[name](xs.astype(np.longdouble))
        error = errors(compiled[name], exact)
        lost = LOST.get(name, lambda x, tiny: False)(xs, tiny)
    small = np.abs(exact) < tiny
    assert np.all(np.abs(compiled[name][small]) <= tiny)
    # Numbers without a leading digit may be taken for zeros.
    checked = ~small & ~lost & ((np.abs(xs) >= tiny) | (xs == 0) | np.isnan(xs))
    assert np.mean(checked) > 0.5
    assert np.max(error[checked]) <= BOUNDS[name][xs.dtype == np.float64]


@pytest.mark.parametrize("name", BOUNDS)
def test_infinity_and_nan_are_where_they_are_in_xla(name, results):
    xs, compiled, xla = results
    usual = (np.abs(xs) >= np.finfo(xs.dtype).tiny) | (xs == 0) | np.isnan(xs)
    for kind in (np.isnan, np.isposinf, np.isneginf):
        differs = usual & (kind(compiled[name]) != kind(xla[name]))
        assert not np.any(differs), xs[differs]


def test_zeros_have_their_function(results):
    xs, compiled, _ = results
    zeros = xs == 0
    exact = {"cos": 1, "exp": 1, "exp2": 1, "log": -np.inf, "logistic": 0.5}
    for name in ("abs", "sin", "tanh", "sqrt", "expm1", "log1p", "sign", "2", *exact):
        np.testing.assert_array_equal(compiled[name][zeros], exact.get(name, 0), err_msg=name)


# Truth of comparisons, and NaN, in every pair.
PAIRS = {
    "add": jnp.add,
    "clamp": lambda x, y: jax.lax.clamp(x, y, jnp.asarray(2, x.dtype)),
    "clip": lambda x, y: jnp.clip(x, -0.5, 0.5) + y,
    "difference": lambda x, y: x - x + y,
    "div": jnp.divide,
    "dot": lambda x, y: jnp.stack([x, y]) @ jnp.stack([y, x]),
    "equal": lambda x, y: jnp.where(x == y, x, 2.0),
    "finite": lambda x, y: jnp.where(jnp.isfinite(x), y, 2.0),
    "greater": lambda x, y: jnp.where(x >= y, 1.0, y),
    "less": lambda x, y: jnp.where(~(x < y), 1.0, y),
    "max": jnp.maximum,
    "max of three": lambda x, y: jnp.max(jnp.stack([x, y, jnp.asarray(0.2, x.dtype)])),
    "max with a number": lambda x, y: jnp.maximum(0.3, x) * y,
    "min": jnp.minimum,
    "min with a number": lambda x, y: jnp.minimum(x, 0.3) * y,
    "mul": jnp.multiply,
    "relu": lambda x, y: jax.nn.relu(x) * y,
    "softplus": lambda x, y: jax.nn.softplus(x) + y,
    "sub": jnp.subtract,
    "unequal": lambda x, y: jnp.where(x != y, x, 2.0),
}


def test_no_pair_of_numbers_hides_infinity_or_nan():
    values = np.array([0, 1, -1, 0.5, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-30], np.float32)
    xs, ys = map(np.ravel, np.meshgrid(values, values))

    def results(x, y):
        step = lambda pair, _: (pair, {name: function(*pair) for name, function in PAIRS.items()})
        return loop(step, (x, y), jnp.zeros(1, x.dtype))[1]

    compiled, xla = both(jax.vmap(results), xs, ys)
    for name in PAIRS:
        np.testing.assert_allclose(compiled[name], xla[name], rtol=1e-6, atol=1e-37, err_msg=name)
