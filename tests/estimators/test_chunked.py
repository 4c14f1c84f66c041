"""Chunks of steps give the gradient of single steps, also where weights are clipped."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lifetime_batches import (
    assert_equal,
    assert_exact_without_recomputing,
    batch,
    initial_state,
    lifetime,
    reference,
    setting,
    with_clipped_weights,
)
from msgspec.structs import replace

from metarule import MLP, Boolean, Feedforward, Polynomial, Recurrent, Remat, Reverse, Trace
from metarule.estimators import chunked as module
from metarule.estimators import reverse
from metarule.estimators.base import gradient_chunk_size
from metarule.estimators.chunked import chunk_length, chunked_gradient
from metarule.lifetime import chunks

CHUNK = 4
SQUARES = Polynomial(terms=("pre^2*weight", "weight", "pre*modulator", "pre^2*post*modulator^2", "pre*neuromodulator"))

CASES = {
    "no bias, one theta a projection": lifetime(
        circuit=Feedforward(hidden=(3,), bias=False), theta="per_projection", l1=0.1
    ),
    "no hidden neurons": lifetime(circuit=Feedforward(hidden=()), weight_bound=5.0),
    "powers, learned feedback": lifetime(SQUARES, Feedforward(hidden=(3, 2), feedback="learned", derivative=True)),
    "transpose": lifetime(circuit=Feedforward(hidden=(3, 2), feedback="transpose"), online_loss_weight=1.0),
    "rule without the weight": lifetime(Polynomial(terms=("pre*modulator", "post"))),
}


def chunked(learner, theta, networks):
    return batch(lambda *start: chunked_gradient(learner, CHUNK, *start), theta, networks)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_single_steps(case, float64, monkeypatch):
    learner = CASES[case]
    assert learner.chunkable
    assert_exact_without_recomputing(chunked, learner, monkeypatch)


def test_a_chunk_in_which_a_weight_may_be_clipped_is_recomputed(float64, monkeypatch):
    learner, theta, networks, expected = with_clipped_weights()
    assert_equal(chunked(learner, theta, networks), expected)
    monkeypatch.setattr(chunks, "_is_exact", lambda *arguments: jnp.asarray(True))
    with pytest.raises(AssertionError):
        assert_equal(chunked(learner, theta, networks), expected)


def test_a_chunk_whose_factors_vanish_or_explode_is_recomputed(float64):
    learner = lifetime(Polynomial(terms=("pre*modulator", "pre*weight")), weight_bound=1e18)
    _, networks = setting(learner)
    program = jax.jit(partial(chunked, learner))
    # Inputs are ±1 and the bias is 1: with −1 of pre·weight, 1 + θ·pre is 0 where pre is 1.
    for factor in (-1.0, -0.99, 30.0):
        theta = np.array([0.2, factor])
        result = program(theta, networks)
        assert np.all(np.isfinite(np.asarray(result.gradient)))
        assert_equal(result, reference(learner, theta, networks))


class Rewarded(Boolean, frozen=True, kw_only=True, tag="rewarded"):
    """Boolean functions with a reward, and plasticity in every other step."""

    def stimulus(self, task, t, key):
        gate = (t % 2).astype(float)
        return super().stimulus(task, t, key)._replace(plasticity=gate, reward=1 - gate)


def test_steps_with_a_gate_or_a_reward_are_recomputed(float64):
    learner = replace(lifetime(SQUARES), tasks=Rewarded(inputs=2))
    theta, networks = setting(learner)
    assert_equal(chunked(learner, theta, networks), reference(learner, theta, networks))


def test_other_learners_are_not_chunkable():
    assert not lifetime(Polynomial(terms=("sixteen",))).chunkable
    assert not lifetime(Polynomial(terms=("seven", "post*weight"))).chunkable
    assert not lifetime(Polynomial(terms=("seven", "pre*weight^2"))).chunkable
    assert not lifetime(MLP()).chunkable
    assert not lifetime(Polynomial(terms=("pre*modulator", "e"), traces={"e": Trace(of="pre*post")})).chunkable
    assert not lifetime(circuit=Recurrent(neurons=3)).chunkable
    assert not lifetime(bfloat16=True).chunkable


@pytest.mark.parametrize(
    "pre, steps, length",
    [(320, 200, 40), (319, 200, 0), (600, 150, 30), (240, 60, 30), (900, 202, 0), (900, 202 * 2, 0)],
)
def test_chunks_divide_the_lifetime_where_there_are_many_inputs(pre, steps, length):
    learner = lifetime(steps=steps)
    state = initial_state(learner)
    state = state._replace(weights=(jax.ShapeDtypeStruct((pre, 64), jnp.float32), *state.weights[1:]))
    assert chunk_length(learner, state) == length
    # 64 numbers for each step of a chunk fit a core's cache where all weights do not.
    chunked, stored = (gradient_chunk_size(one, learner, state) for one in (Reverse(), Reverse(scan=Remat())))
    assert (chunked > stored) == (length > 0)


def test_reverse_mode_computes_chunks_by_default(float64, monkeypatch):
    monkeypatch.setattr(module, "_MIN_NEURONS", 0)
    learner = lifetime(steps=80)
    theta, networks = setting(learner, spread=0.01)
    lengths = []

    def recording(learner, length, *start):
        lengths.append(length)
        return chunked_gradient(learner, length, *start)

    monkeypatch.setattr(reverse, "chunked_gradient", recording)
    result = batch(lambda *start: Reverse().from_start(learner, *start), theta, networks)
    assert_equal(result, reference(learner, theta, networks))
    assert lengths == [40]
