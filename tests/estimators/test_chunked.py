"""Chunks of steps give the gradient that steps one by one give, also where weights are stopped."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from side_by_side import KEY, agree, kept, living, setting, side_by_side

from metarule import MLP, Feedforward, Polynomial, Recurrent, Remat, Reverse, Trace
from metarule.estimators import chunked as module
from metarule.estimators import reverse
from metarule.estimators.base import gradient_chunk_size
from metarule.estimators.chunked import chunk_length, chunked_gradient
from metarule.lifetime import chunks

CHUNK = 4
SQUARES = Polynomial(terms=("pre^2*weight", "weight", "pre*modulator", "pre^2*post*modulator^2", "pre*neuromodulator"))


CASES = {
    "seven terms": living(),
    "no bias": living(circuit=Feedforward(hidden=(3,), bias=False)),
    "no hidden neurons": living(circuit=Feedforward(hidden=()), weight_bound=5.0),
    "powers, and a learned way back": living(SQUARES, Feedforward(hidden=(3, 2), feedback="learned", derivative=True)),
    "over the transpose": living(circuit=Feedforward(hidden=(3, 2), feedback="transpose"), online_loss_weight=1.0),
    "one theta a projection": living(theta="per_projection", l1=0.1),
    "weights that are not seen": living(Polynomial(terms=("pre*modulator", "post"))),
}


def chunked(context, theta, born):
    return side_by_side(lambda *given: chunked_gradient(context, CHUNK, *given), theta, born)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_presentations_one_by_one(case, float64, monkeypatch):
    context = CASES[case]
    assert context.chunkable
    theta, born = setting(context)
    expected = kept(context, theta, born)
    assert min(np.abs(leaf).max() for leaf in jax.tree.leaves(expected.gradient)) > 1e-4
    # Not by living again: that would say nothing of chunks.
    monkeypatch.setattr(module, "recomputed", lambda learner, theta, context, before, ts, slopes, scan: slopes)
    agree(chunked(context, theta, born), expected)


def test_a_chunk_in_which_a_weight_may_be_stopped_is_lived_one_by_one(float64, monkeypatch):
    context = living(weight_bound=0.7)
    theta, born = setting(context, spread=0.3)
    expected = kept(context, theta, born)
    free = kept(living(weight_bound=100.0), theta, born)
    assert np.abs(np.asarray(expected.gradient) - np.asarray(free.gradient)).max() > 1e-2, "no weight was stopped"
    agree(chunked(context, theta, born), expected)
    monkeypatch.setattr(chunks, "_is_exact", lambda *given: jnp.asarray(True))
    with pytest.raises(AssertionError):
        agree(chunked(context, theta, born), expected)


def test_a_chunk_that_forgets_or_blows_up_is_lived_one_by_one(float64):
    context = living(Polynomial(terms=("pre*modulator", "pre*weight")), weight_bound=1e18)
    _, born = setting(context)
    program = jax.jit(partial(chunked, context))
    # Inputs are ±1 and the bias is 1: with −1 of pre·weight, 1 + θ·pre is 0 where pre is 1.
    for factor in (-1.0, -0.99, 30.0):
        theta = np.array([0.2, factor])
        found = program(theta, born)
        assert np.all(np.isfinite(np.asarray(found.gradient)))
        agree(found, kept(context, theta, born))


def test_who_is_not_lived_in_chunks():
    assert not living(Polynomial(terms=("sixteen",))).chunkable
    assert not living(Polynomial(terms=("seven", "post*weight"))).chunkable
    assert not living(Polynomial(terms=("seven", "pre*weight^2"))).chunkable
    assert not living(MLP()).chunkable
    assert not living(Polynomial(terms=("pre*modulator", "e"), traces={"e": Trace(of="pre*post")})).chunkable
    assert not living(circuit=Recurrent(neurons=3)).chunkable
    assert not living(bfloat16=True).chunkable


@pytest.mark.parametrize(
    "pre, steps, length",
    [(320, 200, 40), (319, 200, 0), (600, 150, 30), (240, 60, 30), (900, 202, 0), (900, 202 * 2, 0)],
)
def test_chunks_divide_the_life_where_there_are_many_inputs(pre, steps, length):
    context = living(steps=steps)
    state = jax.eval_shape(lambda: context.init(KEY, context.tasks.sample(KEY, context.tasks.split(0).train, 0))[1])
    state = state._replace(weights=(jax.ShapeDtypeStruct((pre, 64), jnp.float32), *state.weights[1:]))
    assert chunk_length(context, state) == length
    # 64 numbers for each step of a chunk fit a core's cache where all weights do not.
    assert (
        gradient_chunk_size(Reverse(), context, state) > gradient_chunk_size(Reverse(scan=Remat()), context, state)
    ) == (length > 0)


def test_reverse_mode_lives_in_chunks_by_default(float64, monkeypatch):
    monkeypatch.setattr(module, "_MIN_NEURONS", 0)
    context = living(steps=80)
    theta, born = setting(context, spread=0.01)
    lengths = []

    def noted(context, length, *given):
        lengths.append(length)
        return chunked_gradient(context, length, *given)

    monkeypatch.setattr(reverse, "chunked_gradient", noted)
    found = side_by_side(lambda *given: Reverse().from_start(context, *given), theta, born)
    agree(found, kept(context, theta, born))
    assert lengths == [40]
