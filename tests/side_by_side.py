"""Small lives side by side, and the θ-gradient with all weights kept, to which other ways to it have to come."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, Remat, Reverse

KEY = jax.random.key(0)
LENGTH, LIFETIMES = 12, 3
SEVEN, SMALL = Polynomial(terms=("seven",)), Feedforward(hidden=(3,))


def living(rule=SEVEN, circuit=SMALL, **inner_loop):
    loop = InnerLoop(**{"steps": LENGTH} | inner_loop)
    return Lifetime(rule=rule, circuit=circuit, tasks=Boolean(inputs=2), inner_loop=loop)


@partial(jax.jit, static_argnums=(0, 1))
def setting(context, spread=0.05):
    """A θ at which every coefficient matters, and networks about to meet a task each."""
    flat, unravel = ravel_pytree(context.init_theta(KEY))
    theta = unravel(flat + spread * jax.random.normal(jax.random.key(5), flat.shape))
    pool = context.tasks.split(0).train
    keys = jax.random.split(KEY, LIFETIMES)
    born = jax.vmap(lambda key, number: context.init(key, context.tasks.sample(key, pool, number)))(
        keys, jnp.arange(LIFETIMES)
    )
    return theta, born


def side_by_side(form, theta, born):
    return jax.jit(jax.vmap(form, (None, 0, 0)))(theta, *born)


@partial(jax.jit, static_argnums=0)
def kept(context, theta, born):
    form = lambda *given: Reverse(scan=Remat()).from_start(context, *given)
    return jax.vmap(form, (None, 0, 0))(theta, *born)


def agree(found, expected):
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12), found, expected)
