"""Loops as machine code, compared with XLA's, and functions of which steps are made."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from small import split

from metarule.kernels import kernels
from metarule.lifetime.unroll import is_compiled, meta_loss, segment_loss

# Of the largest number of an array.
TOLERANCE = {np.dtype("float32"): 2e-5, np.dtype("float64"): 1e-11}


def compiles(function, *arguments):
    """True if a program contains machine code of a loop, in the mode that is set."""
    return "@metarule_loop_" in jax.jit(function).lower(*arguments).as_text()


def both(function, *arguments):
    """Results with compiled loops, and with XLA's."""
    results = []
    for mode in ("on", "off"):
        with kernels(mode):
            program = jax.jit(function).lower(*arguments)
        assert ("@metarule_loop_" in program.as_text()) == (mode == "on")
        results.append(jax.device_get(program.compile()(*arguments)))
    return results


def assert_close(result, expected):
    """Assert that arrays are equal but for rounding, and not finite at the same places."""
    assert jax.tree.structure(result) == jax.tree.structure(expected)

    def close(path, one, other):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        largest = np.max(np.abs(other), initial=0, where=np.isfinite(other))
        atol = TOLERANCE.get(one.dtype, 0) * largest
        np.testing.assert_allclose(one, other, rtol=0, atol=atol, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(close, result, expected)


def assert_same(function, *arguments):
    """Assert that a function computes the same with compiled loops as with XLA's."""
    assert_close(*both(function, *arguments))


@partial(jax.jit, static_argnums=(0, 1))
def setting(learner, spread):
    """A θ at which every coefficient matters, and three networks with a task each."""
    key = jax.random.key(0)
    flat, unravel = ravel_pytree(learner.init_theta(key))
    theta = unravel(flat + spread * jax.random.normal(jax.random.key(5), flat.shape, flat.dtype))
    pool, keys = learner.tasks.split(0).train, jax.random.split(key, 3)
    init = lambda key, number: learner.init(theta, key, learner.tasks.sample(key, pool, number))
    return theta, *jax.vmap(init)(keys, jnp.arange(3))


def gradients(learner, theta, contexts, states):
    """Losses of some lifetimes, their states at the end, and their θ-gradients."""

    def loss(theta, context, state):
        loss, (state, _) = segment_loss(learner, theta, context, state, 0, learner.steps)
        return loss, state

    return jax.vmap(jax.value_and_grad(loss, has_aux=True), (None, 0, 0))(theta, contexts, states)


def assert_lifetimes_are_compiled(learner):
    """Assert that lifetimes in a closed loop are compiled, with the losses, states and gradients of XLA's loop."""
    theta, contexts, states = setting(learner, 0.05)
    with kernels("auto"):
        one = jax.tree.map(lambda leaf: leaf[0], (contexts, states))
        assert is_compiled(learner, theta, *one)
    assert_same(partial(gradients, learner), theta, contexts, states)


def assert_meta_loss_is_compiled(learner):
    """Assert that the meta-loss and its gradient are those of XLA's loop, finite, and not zero."""
    key = jax.random.key(0)
    theta, keys = learner.init_theta(key), jax.random.split(key, 3)
    lifetimes = jax.vmap(jax.value_and_grad(partial(meta_loss, learner)), (None, None, 0))
    compiled, scanned = both(lifetimes, theta, split(learner.tasks, 0).train, keys)
    assert_close(compiled, scanned)
    loss, gradient = scanned
    assert np.all((loss > 0.2) & (loss < 4))
    assert np.all(np.isfinite(gradient) & (gradient != 0))


def _padded(*edges):
    return lambda x: jnp.concatenate([jax.lax.pad(x, jnp.asarray(0.5, x.dtype), [edges]), x])[:4]


def _at(function, x):
    """The function of a matrix, of a vector of four."""
    return function(x.reshape(2, 2)).reshape(-1)


# Functions from four numbers to some, by name; each has a scalar form, and so has its derivative.
FUNCTIONS = {
    "abs": jnp.abs,
    "all": lambda x: jnp.where(jnp.all(x > -0.5), x, x * 0.5),
    "any": lambda x: jnp.where(jnp.any(x > 0.5), x, x * 0.5),
    "batched product": lambda x: jnp.einsum("bi,bi->b", x.reshape(2, 2), x.reshape(2, 2) + 1.0),
    "broadcast": lambda x: jnp.broadcast_to(x[:, None], (4, 4)) * jnp.broadcast_to(x, (4, 4)),
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))),
    "clamp by state": lambda x: jnp.clip(x, x[0] - 1, x[0] + 0.1),
    "clip": lambda x: jnp.clip(x * 1.7, -0.5, 0.5),
    "constant": lambda x: jnp.ones_like(x) * jnp.arange(4, dtype=x.dtype),
    "cos": jnp.cos,
    "cumsum": jnp.cumsum,
    "derivative": jax.grad(lambda x: jnp.sum(jnp.tanh(x[1:]) ** 2 * x[0])),
    "div": lambda x: x[::-1] / (1 + x**2),
    "dynamic slice": lambda x: jax.lax.dynamic_update_slice(x, jax.lax.dynamic_slice(x, (1,), (2,)) * 0.5, (0,)),
    "elu": jax.nn.elu,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "flip": jnp.flip,
    "gather": lambda x: x[np.array([2, 0, 1, 2])],
    "gelu": lambda x: jax.nn.gelu(x, approximate=True),
    "power": lambda x: (jnp.abs(x) + 0.1) ** 1.5,
    "tile": lambda x: x + jnp.sum(jnp.tile(x, (2, 3)), 0)[4:8],
    "integer powers": lambda x: jnp.concatenate([x**3, x**-2, x**5]),
    "is finite": lambda x: jnp.where(jnp.isfinite(x), x * 0.5, 0.0),
    "jit": jax.jit(lambda x: x * 0.5 + 1),
    "leaky relu": jax.nn.leaky_relu,
    "log": lambda x: jnp.log(jnp.abs(x) + 0.1),
    "log softmax": jax.nn.log_softmax,
    "log1p": lambda x: jnp.log1p(jnp.abs(x)),
    "logical": lambda x: jnp.where(~(x > 0) & (x < 0.5) | (x > 1) ^ (x < -1), x * 0.5, x * 0.25),
    "logistic": jax.nn.sigmoid,
    "matrix product": lambda x: _at(lambda m: m @ m.T, x),
    "max": lambda x: jnp.maximum(x, x[::-1]),
    "mean": lambda x: x - jnp.mean(x),
    "min": lambda x: jnp.minimum(x, x[::-1] * 0.5),
    "norm": lambda x: x / jnp.linalg.norm(x),
    "outer product": lambda x: jnp.einsum("i,j->ij", x[:2], x[2:]),
    "pad": _padded(2, 1, 0),
    "pad between": _padded(1, 2, 1),
    "pad less": _padded(-1, -1, 0),
    "product": lambda x: x + jnp.prod(x),
    "relu": jax.nn.relu,
    "roll": lambda x: jnp.roll(x, 1),
    "rsqrt": lambda x: jax.lax.rsqrt(jnp.abs(x) + 0.5),
    "scatter": lambda x: x.at[1].set(x[0] * 0.5),
    "scatter add": lambda x: x.at[np.array([1, 1])].add(x[:2] * 0.5),
    "select": lambda x: jnp.where(x > 0.1, x, 0.3),
    "sign": lambda x: jnp.sign(x) * x[::-1],
    "silu": jax.nn.silu,
    "sin": jnp.sin,
    "softmax": jax.nn.softmax,
    "softplus": jax.nn.softplus,
    "split": lambda x: jnp.concatenate(jnp.split(x, 2)[::-1]),
    "sqrt": lambda x: jnp.sqrt(jnp.abs(x) + 0.1),
    "stack": lambda x: jnp.stack([x[0], x[2], x[1]]),
    "stop gradient": lambda x: jax.lax.stop_gradient(x) * x,
    "strides": lambda x: jnp.concatenate([x[::2], x[1::2]]),
    "tanh": jnp.tanh,
    "transpose": lambda x: _at(lambda m: jnp.transpose(m)[::-1], x),
    "truth values as numbers": lambda x: x * (x > 0.1).astype(x.dtype),
    "unstack": lambda x: sum(x.reshape(2, 2)),
    "where NaN": lambda x: jnp.where(jnp.isnan(x), 0.0, x * 0.7),
}

# Functions without a scalar form, and what is named as the reason.
UNKNOWN = {
    "argmax": (lambda x: jnp.where(jnp.arange(4) == jnp.argmax(x), x, x * 0.5), "argmax"),
    "choice by number": (lambda x: jax.lax.select_n(np.array([2, 0, 1, 2]), x, x * 0.5, -x), "select_n by integers"),
    "another precision": (lambda x: x.astype(jnp.bfloat16).astype(x.dtype), "convert_element_type between precisions"),
    "equal truth values": (lambda x: jnp.where((x > 0) == (x[::-1] > 0.1), x, -x), "eq of truth values"),
    "fft": (lambda x: jnp.fft.irfft(jnp.fft.rfft(x)), "fft"),
    "inverse of erf": (lambda x: jax.scipy.special.erfinv(x * 0.5), "erf_inv"),
    "fewer digits": (lambda x: jax.lax.reduce_precision(x, 8, 3), "reduce_precision between precisions"),
    "key": (lambda x: x + jax.random.normal(jax.random.key(0), (4,), x.dtype), "random_seed"),
    "loop": (lambda x: jax.lax.fori_loop(0, 3, lambda _, x: x * 0.9, x), "scan"),
    "maximum of truth values": (lambda x: jnp.where(jnp.maximum(x > 0, x[::-1] > 0), x, -x), "max of truth values"),
    "sort": (jnp.sort, "sort"),
    "truncated": (lambda x: x + (x * 3).astype(jnp.int32).astype(x.dtype), "a conversion from float64 to int32"),
}
