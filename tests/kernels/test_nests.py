"""Networks whose arrays stay in memory: equal to the scan, and compiled to code that does not grow with them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import assert_same, both, gradients, setting

from metarule import MLP, Feedforward, InnerLoop, Lifetime, Points, Polynomial, Recurrent, Trace
from metarule.kernels import kernels, loops
from metarule.kernels.scalars import Unsupported
from metarule.kernels.steps import adjoint_text, step_text
from metarule.kernels.vectors import Code
from metarule.lifetime.scans import loop

TWO_LAYERS = Feedforward(hidden=(21, 13))
TRACED = Polynomial(terms=("e*modulator", "oja"), traces={"e": Trace(of="pre*post")})


def learner(rule, circuit=TWO_LAYERS, steps=7, weight_bound=1.5):
    inner = InnerLoop(steps=steps, weight_bound=weight_bound, online_loss_weight=0.7)
    return Lifetime(rule=rule, circuit=circuit, tasks=Points(), inner_loop=inner)


LIFETIMES = {
    "seven terms": learner(Polynomial(terms=("seven",))),
    "sixteen terms": learner(Polynomial(terms=("sixteen",)), Feedforward(hidden=(37,), feedback="random")),
    "powers": learner(Polynomial(terms=("taylor(pre, post, weight, modulator; 2)",)), Feedforward(hidden=(11,))),
    "mlp": learner(MLP(hidden=(6,)), Feedforward(hidden=(9, 10))),
    "traces": learner(TRACED),
    "recurrent": learner(TRACED, Recurrent(neurons=12)),
}


@pytest.mark.parametrize("name", LIFETIMES)
def test_a_lifetime_is_that_of_the_scan(name, float64):
    assert_same(partial(gradients, LIFETIMES[name]), *setting(LIFETIMES[name], 0.02))


@pytest.mark.parametrize("name", ["seven terms", "mlp", "traces"])
def test_a_lifetime_of_single_precision_is_that_of_the_scan(name):
    assert_same(partial(gradients, LIFETIMES[name]), *setting(LIFETIMES[name], 0.02))


def test_lifetimes_of_a_large_network_diverge_where_those_of_the_scan_do():
    rule = Polynomial(terms=("sixteen", "weight^3", "pre*post*weight^2"))
    subject = learner(rule, weight_bound=1e18, steps=30)
    _, contexts, states = setting(subject, 0.02)
    thetas = jnp.linspace(0, 0.01, 24, dtype=float)[:, None] * jnp.ones((1, 18))
    many = jax.vmap(partial(gradients, subject), (0, None, None))
    diverged = []
    for (loss, _), gradient in both(many, thetas, contexts, states):
        diverged.append(~np.isfinite(loss) | ~np.all(np.isfinite(gradient), axis=-1))
    assert 0.1 < np.mean(diverged[1]) < 0.9
    np.testing.assert_array_equal(*diverged)


FUNCTIONS = {
    "transpose": lambda x: x.T @ x @ x.T.sum(0)[:, None] * jnp.ones((1, 9)) / 81,
    "constants": lambda x: x @ np.linspace(-0.1, 0.1, 81).reshape(9, 9),
    "truth values": lambda x: jnp.where(jnp.concatenate([x > 0.1, x[:2] > 0]), 0.1, jnp.concatenate([x, x[:2]]))[1:10],
    "shapes": lambda x: 0.1 * jnp.pad(x.reshape(3, 27).T.reshape(-1)[8:], (3, 5)).reshape(9, 9),
    "softmax": lambda x: jax.nn.softmax(x[0])[None] * x,
    "reversed": lambda x: x[::-1] * 0.5,
    "running sum": lambda x: jnp.cumsum(x[2])[None] * x / 9,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_matrices_are_those_of_the_scan(name, float64):
    """Those that have no rolled form are written without loops."""

    def run(start, factor):
        step = lambda state, x: (FUNCTIONS[name](state * x) + factor * state, jnp.sum(state))
        end, along = loop(step, start, jnp.linspace(0.5, 1, 5))
        return jnp.sum(jnp.sin(end)) + jnp.sum(along)

    states = jnp.asarray(np.random.default_rng(0).normal(size=(3, 9, 9)))
    assert_same(jax.vmap(jax.value_and_grad(run, (0, 1)), (0, None)), states, jnp.asarray(0.3))


def of(step, *kinds):
    return loops.Loop(jax.make_jaxpr(step)(*(jax.ShapeDtypeStruct(kind, np.float32) for kind in kinds)), 1, 1)


def texts(size):
    """A step that is a matrix product and an update of weights, and its adjoint."""

    def step(rate, weights, x):
        y = jnp.tanh(x @ weights)
        return weights + rate * x[:, None] * y[None], jnp.sum(y)

    one, active = of(step, (), (size, size), (size,)), (True, True, False)
    return step_text(one, [True], Code(16, 32)), adjoint_text(one, [True], active, Code(16, 32))


def test_code_does_not_grow_with_a_network():
    for (small, _), (large, _) in zip(texts(24), texts(120), strict=True):
        assert len(large.splitlines()) == len(small.splitlines())


def test_large_arrays_within_a_step_are_not_on_the_stack():
    def step(weights, x):
        rows = jnp.concatenate([weights, jnp.tanh(weights[:1] * x)], axis=0)
        return rows[1:] * 0.9 + rows[:-1] * 0.1, jnp.sum(rows)

    start, xs = jnp.linspace(-1, 1, 3600).reshape(60, 60), jnp.linspace(0.5, 1, 5)
    one = of(lambda _, weights, x: step(weights, x), (), (60, 60), ())
    text, vectors = step_text(one, [True], Code(16, 32))
    assert vectors == 61 * 60
    assert all(int(line.split("i64 ")[1].split(",")[0]) <= 60 for line in text.splitlines() if "alloca" in line)
    with kernels("on"):
        result = loop(step, start, xs)
    expected = jax.lax.scan(step, start, xs)
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5), result, expected)


def test_a_large_step_without_a_rolled_form_is_not_written():
    one = of(lambda rate, x, _: (jnp.cumsum(rate * x, 0) @ x,), (), (30, 30), (1,))
    with pytest.raises(Unsupported, match="cumsum"):
        step_text(one, [True], Code(16, 32))


def test_a_large_step_without_a_rolled_form_is_left_to_xla():
    def run(start):
        end, _ = loop(lambda state, x: (jnp.cumsum(state * x, 0) @ state / 900, None), start, jnp.ones(3))
        return jnp.sum(end)

    start = jnp.full((30, 30), 0.1)
    results = []
    for mode in ("on", "off"):
        with kernels(mode):
            results.append(jax.jit(jax.grad(run))(start))
    np.testing.assert_allclose(*results, rtol=1e-5)
