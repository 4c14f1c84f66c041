"""Reconstructed weights give the gradient of stored weights, also where they cannot be reconstructed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lifetime_batches import (
    KEY,
    assert_equal,
    assert_exact_without_recomputing,
    batch,
    initial_state,
    lifetime,
    reference,
    setting,
    with_clipped_weights,
)

from benchmarks.speeds.library import Given
from metarule import MLP, Feedforward, InnerLoop, Invertible, Lifetime, Polynomial, Recurrent, Remat, Reverse, Trace
from metarule.estimators import inversion
from metarule.estimators.inversion import inverted_gradient, segment_length
from metarule.kernels import kernels
from metarule.types import LearnerState, LifetimeContext, Stimulus

SEGMENT = 4
CASES = {
    "seven terms": lifetime(),
    "sixteen terms": lifetime(Polynomial(terms=("sixteen",)), Feedforward(hidden=(3, 2), feedback="learned")),
    "one theta a projection": lifetime(theta="per_projection", l1=0.1),
    "mlp without the weight": lifetime(MLP(inputs=("pre", "post", "modulator"), initial_spread=1.0)),
}


def inverted(learner, theta, networks):
    return batch(lambda *start: inverted_gradient(learner, SEGMENT, *start), theta, networks)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_stored_weights(case, float64, monkeypatch):
    learner = CASES[case]
    assert learner.invertible
    assert_exact_without_recomputing(inverted, learner, monkeypatch)


def test_a_segment_in_which_weights_were_clipped_is_recomputed(float64, monkeypatch):
    learner, theta, networks, expected = with_clipped_weights()
    assert_equal(inverted(learner, theta, networks), expected)
    # Both checks are needed: one finds weights that are at the bound, the other those that have left it.
    monkeypatch.setattr(Lifetime, "at_bound", lambda learner, state: jnp.asarray(False))
    assert_equal(inverted(learner, theta, networks), expected)
    monkeypatch.setattr(inversion, "_differ", lambda one, other: jnp.asarray(False))
    with pytest.raises(AssertionError):
        assert_equal(inverted(learner, theta, networks), expected)


def test_a_weight_that_is_clipped_after_growing_and_leaves_its_bound_is_noticed():
    # In the reconstruction, the clipped part shrinks with every step in which the weight grew, to less than rounding.
    steps, growing, factor = 100, 8, 4.0
    learner = Lifetime(
        rule=Polynomial(terms=("pre*modulator", "pre*weight")),
        circuit=Feedforward(hidden=(8,), bias=False),
        tasks=Given(inputs=3, outputs=2),
        inner_loop=InnerLoop(steps=steps, online_loss_weight=1.0),
    )
    random = np.random.default_rng(0)
    inputs = random.normal(size=(steps, 3)) * 0.1
    inputs[:10], inputs[:growing, 0] = -0.3, factor
    targets, first = random.random((steps, 2)) > 0.5, random.normal(size=(3, 8)) * 0.3
    first[0] = 3.0 / (1 + factor) ** growing
    arrays = (inputs, targets, random.normal(size=(2, 8)), first, random.normal(size=(8, 2)) * 0.1)
    inputs, targets, feedback, *weights = (jnp.asarray(array, jnp.float32) for array in arrays)
    network = LifetimeContext(Stimulus(inputs, targets), (feedback,), KEY), LearnerState(tuple(weights), ((), ()), ())
    theta = jnp.array([0.0, 1.0])
    expected = jax.jit(lambda *start: Reverse(scan=Remat()).from_start(learner, *start))(theta, *network)
    result = jax.jit(lambda *start: inverted_gradient(learner, 10, *start))(theta, *network)
    np.testing.assert_allclose(result.gradient, expected.gradient, rtol=1e-4)


def test_a_step_that_forgets_the_weight_is_recomputed(float64):
    # Inputs are ±1 and the bias is 1: with −1 of pre·weight, 1 + θ·pre is 0 where pre is 1.
    initial = {"pre*modulator": 0.2, "pre*weight": -1.0}
    learner = lifetime(Polynomial(terms=("pre*modulator", "pre*weight"), initial=initial))
    theta, networks = setting(learner, spread=0.0)
    result = inverted(learner, theta, networks)
    assert np.all(np.isfinite(np.asarray(result.gradient)))
    assert_equal(result, reference(learner, theta, networks))


def test_one_lifetime_and_lifetimes_of_several_seeds(float64):
    learner = CASES["seven terms"]
    theta, networks = setting(learner)
    expected = reference(learner, theta, networks)
    first = jax.tree.map(lambda leaf: leaf[0], networks)
    single = jax.jit(lambda *start: inverted_gradient(learner, SEGMENT, *start))(theta, *first)
    assert_equal(single, jax.tree.map(lambda leaf: leaf[0], expected))
    seeds = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), networks)
    both = jax.jit(jax.vmap(lambda networks: inverted(learner, theta, networks)))(seeds)
    assert_equal(both, jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), expected))


def test_other_learners_are_not_invertible():
    assert lifetime(Polynomial(terms=("seven", "oja"))).invertible
    assert not lifetime(Polynomial(terms=("seven", "pre*weight^2"))).invertible
    assert not lifetime(MLP()).invertible
    traced = Polynomial(terms=("pre*modulator", "e"), traces={"e": Trace(of="pre*post")})
    assert not lifetime(traced).invertible
    assert not lifetime(circuit=Recurrent(neurons=3)).invertible


# With n hidden neurons there are 4·n + 1 weights of 4 bytes: 4 MiB are those of 100 steps of 2,622 neurons.
@pytest.mark.parametrize(
    "hidden, steps, segment",
    [(2622, 100, 10), (2621, 100, 0), (2621, 200, 10), (2622, 101, 0)],
    ids=["a square", "little memory", "near the root", "a prime"],
)
def test_segments_divide_the_lifetime_near_its_root(hidden, steps, segment):
    learner = lifetime(circuit=Feedforward(hidden=(hidden,)), steps=steps)
    assert segment_length(learner, initial_state(learner)) == segment


def test_reverse_mode_inverts_steps_by_default(float64, monkeypatch):
    monkeypatch.setattr(inversion, "_MIN_BYTES", 0)
    learner = lifetime(circuit=Feedforward(hidden=(3,)), steps=16)
    theta, networks = setting(learner)
    assert Reverse().scan == Invertible()
    first = jax.tree.map(lambda leaf: leaf[0], networks)
    with kernels("off"):
        result = batch(lambda *start: Reverse().from_start(learner, *start), theta, networks)
        programs = [
            str(jax.make_jaxpr(lambda *start, scan=scan: Reverse(scan=scan).from_start(learner, *start))(theta, *first))
            for scan in (Invertible(), Remat())
        ]
    assert_equal(result, reference(learner, theta, networks))
    assert "remat" not in programs[0].split("cond")[0]
    assert "remat" in programs[1]
