"""Lifetimes in chunks equal lifetimes under one `vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule.parallel.batching import batch_lifetimes, default_chunk_size


def weights(neurons):
    """Shapes of weights of 4 bytes each."""
    return (jax.ShapeDtypeStruct((4, neurons), jnp.float32), jax.ShapeDtypeStruct((neurons + 1, 1), jnp.float32))


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 4, 6, 7])
def test_results_do_not_depend_on_the_chunk_size(chunk_size):
    one = lambda number, state: (number**2, {"after": state["before"] + 1.0})
    arguments = jnp.arange(6), {"before": jnp.arange(12.0).reshape(6, 2)}
    results = jax.jit(batch_lifetimes(one, chunk_size))(*arguments)
    jax.tree.map(np.testing.assert_array_equal, results, jax.vmap(one)(*arguments))


def test_an_argument_may_be_empty():
    results = batch_lifetimes(lambda number, state: (number, state), 2)(jnp.arange(5), ())
    assert results[0].tolist() == [0, 1, 2, 3, 4]
    assert results[1] == ()


# With n hidden neurons there are 5·n + 1 weights of 4 bytes; 2¹⁷ bytes hold 10 lifetimes of 600 neurons. A vector has
# 16 lifetimes, whose weights may take 2¹⁹ bytes.
@pytest.mark.parametrize(
    "hidden, lifetimes",
    [(8, 256), (600, 16), (1600, 16), (1700, 3), (40_000, 1)],
    ids=["small", "a vector", "at most a vector", "large", "huge"],
)
def test_weights_of_a_chunk_stay_in_the_cache(hidden, lifetimes):
    assert default_chunk_size(weights(hidden)) == lifetimes


def test_an_accelerator_has_one_chunk(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert default_chunk_size(weights(40_000)) > 10**9
