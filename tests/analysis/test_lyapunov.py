import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, unroll
from metarule.analysis.lyapunov import lyapunov_exponent

KEY = jax.random.key(0)


def lifetime(initial, bound=4.0, steps=20):
    return Lifetime(
        rule=Polynomial(terms=tuple(initial), initial=initial),
        circuit=Feedforward(hidden=(3,)),
        tasks=Boolean(inputs=2),
        inner_loop=InnerLoop(steps=steps, weight_bound=bound),
    )


def grown(context, lifetimes=3):
    return lyapunov_exponent(context, context.init_theta(KEY), context.tasks.split(0).train, KEY, lifetimes)


@pytest.mark.parametrize("rate", [0.01, -0.05])
def test_weights_that_grow_by_a_share_of_themselves_carry_a_disturbance_along(rate):
    np.testing.assert_allclose(grown(lifetime({"weight": rate}, bound=100.0)), 1 + rate, rtol=1e-5)


def test_a_disturbance_dies_where_every_weight_sits_at_its_bound():
    np.testing.assert_array_equal(grown(lifetime({"1": 100.0})), 0.0)


def test_long_lives_whose_disturbance_is_beyond_all_numbers_are_measured():
    rule = {"pre*modulator": 0.1, "weight": 5.0}
    np.testing.assert_allclose(grown(lifetime(rule, bound=math.inf, steps=30)), 6.0, rtol=0.1)


def test_it_is_the_growth_of_the_product_of_all_jacobians():
    context = lifetime({"pre*modulator": 0.4, "pre*post": 0.1})
    theta, pool = context.init_theta(KEY), context.tasks.split(0).train
    task_key, lifetime_key, disturbance_key = jax.random.split(jax.random.fold_in(KEY, 1), 3)
    born, state = context.init(lifetime_key, context.tasks.sample(task_key, pool, 1))
    direction = state._replace(
        weights=tuple(
            jax.random.normal(key, weight.shape)
            for key, weight in zip(jax.random.split(disturbance_key, 2), state.weights, strict=True)
        )
    )
    lived = lambda state: unroll(context, theta, born, state, jnp.arange(20))[0]
    _, after = jax.jvp(lived, (state,), (direction,))
    size = lambda tree: np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))
    np.testing.assert_allclose(grown(context)[1], (size(after) / size(direction)) ** (1 / 20), rtol=1e-5)
