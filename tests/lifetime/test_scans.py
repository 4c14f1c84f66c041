import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule.kernels import kernels
from metarule.lifetime import scans
from metarule.lifetime.scans import Plain, Remat, Segmented


def body(carry, x):
    carry = jnp.tanh(carry * x + 0.1)
    return carry, carry**2


SCANS = [
    Plain(),
    Remat(),
    Segmented(),  # 13 is prime: a remainder
    Segmented(every=13),
    Segmented(every=1),
    Segmented(every=40),
    Segmented(levels=2),
    Segmented(every=6, levels=2),
]


@pytest.mark.parametrize("scan", SCANS)
def test_scans_equal_lax_scan_with_their_gradient(scan, float64):
    def loss(run, start):
        carry, ys = run(body, start, jnp.linspace(0.5, 1.5, 13))
        return jnp.sum(ys) + jnp.sum(carry)

    start = jnp.array([0.3, -0.8])
    expected, gradient = jax.value_and_grad(lambda start: loss(jax.lax.scan, start))(start)
    result, result_gradient = jax.value_and_grad(lambda start: loss(scan, start))(start)
    np.testing.assert_allclose(result, expected, rtol=1e-14)
    np.testing.assert_allclose(result_gradient, gradient, rtol=1e-12)


def test_unrolled_steps_give_the_same_result_with_a_remainder(monkeypatch):
    monkeypatch.setattr(scans, "_UNROLL", {"cpu": 4})
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    xs = jnp.linspace(0.5, 1.5, 13)
    for reverse in (False, True):
        with kernels("off"):
            jaxpr = str(jax.make_jaxpr(lambda xs: scans.loop(body, jnp.ones(2), xs, reverse))(xs))  # noqa: B023
        assert "unroll=4" in jaxpr
        result = scans.loop(body, jnp.ones(2), xs, reverse)
        expected = jax.lax.scan(body, jnp.ones(2), xs, reverse=reverse)
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6), result, expected)


@pytest.mark.parametrize(
    "length, levels, segment",
    [(100, 1, 10), (1000, 1, 25), (13, 1, 4), (1, 1, 1), (2, 1, 1), (1000, 2, 100), (100_000, 2, 2000), (64, 3, 16)],
)
def test_segments_divide_the_loop_where_a_length_near_the_best_does(length, levels, segment):
    assert Segmented(levels=levels).segment(length) == segment


def test_segments_have_the_length_that_is_given():
    assert Segmented(every=7).segment(100) == 7


def test_outputs_of_any_shape_are_in_order():
    xs = {"a": jnp.arange(14.0).reshape(7, 2), "b": jnp.arange(7)}
    step = lambda carry, x: (carry + 1, (x["a"] * 2.0, {"b": x["b"] + carry}))
    expected = jax.lax.scan(step, jnp.asarray(0), xs)
    jax.tree.map(np.testing.assert_array_equal, Segmented(every=3)(step, jnp.asarray(0), xs), expected)


def test_each_scan_stores_less_than_the_one_before():
    def temporary_bytes(scan):
        """Of the gradient of a loop over 1,000 steps, with a carry of 4 kB."""
        loss = lambda start: jnp.sum(scan(wide, start, jnp.linspace(0.5, 1.5, 1000))[0])
        start = jnp.zeros((32, 32), jnp.float32)
        with kernels("off"):
            return jax.jit(jax.grad(loss)).lower(start).compile().memory_analysis().temp_size_in_bytes

    def wide(carry, x):
        return jnp.tanh(jnp.sin(carry * x) @ jnp.cos(carry)), None

    plain, remat, segmented, nested = map(temporary_bytes, (Plain(), Remat(), Segmented(), Segmented(levels=2)))
    assert plain > 2 * remat > 2 * 4096 * 1000
    assert segmented < 80 * 4096
    assert nested < 45 * 4096
