"""Weights rebuilt backwards give the gradient that kept weights give, also where they cannot be rebuilt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from side_by_side import KEY, agree, kept, living, setting, side_by_side

from benchmarks.speeds.library import Given
from metarule import (
    MLP,
    Feedforward,
    InnerLoop,
    Invertible,
    Lifetime,
    Polynomial,
    Recurrent,
    Remat,
    Reverse,
    Trace,
)
from metarule.estimators import inversion
from metarule.estimators.inversion import inverted_gradient, segment_length
from metarule.types import LearnerState, LifetimeContext, Stimulus

SEGMENT = 4
CASES = {
    "seven terms": living(),
    "sixteen terms": living(Polynomial(terms=("sixteen",)), Feedforward(hidden=(3, 2), feedback="learned")),
    "one theta a projection": living(theta="per_projection", l1=0.1),
    "a perceptron that does not see the weight": living(MLP(inputs=("pre", "post", "modulator"), initial_spread=1.0)),
}


def rebuilt(context, theta, born):
    return side_by_side(lambda *given: inverted_gradient(context, SEGMENT, *given), theta, born)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_kept_weights(case, float64, monkeypatch):
    context = CASES[case]
    assert context.invertible
    theta, born = setting(context)
    expected = kept(context, theta, born)
    assert min(np.abs(leaf).max() for leaf in jax.tree.leaves(expected.gradient)) > 1e-4
    # Not by living again: that would say nothing of what is rebuilt.
    monkeypatch.setattr(
        inversion, "recomputed", lambda learner, theta, context, before, ts, slopes, scan: slopes
    )
    agree(rebuilt(context, theta, born), expected)


def test_a_segment_in_which_weights_were_stopped_is_lived_again(float64, monkeypatch):
    context = living(weight_bound=0.7)
    theta, born = setting(context, spread=0.3)
    expected = kept(context, theta, born)
    free = kept(living(weight_bound=100.0), theta, born)
    assert np.abs(np.asarray(expected.gradient) - np.asarray(free.gradient)).max() > 1e-2, "no weight was stopped"
    agree(rebuilt(context, theta, born), expected)
    # Neither look alone would do: one sees weights at rest on the bound, the other those that have left it.
    monkeypatch.setattr(Lifetime, "at_bound", lambda learner, state: jnp.asarray(False))
    agree(rebuilt(context, theta, born), expected)
    monkeypatch.setattr(inversion, "_differ", lambda one, other: jnp.asarray(False))
    with pytest.raises(AssertionError):
        agree(rebuilt(context, theta, born), expected)


def test_a_weight_that_is_stopped_after_growing_and_left_again_is_noticed():
    # Undone, what its bound took from it shrinks with every step in which it grew, to less than rounding.
    steps, growing, grown = 100, 8, 4.0
    context = Lifetime(
        rule=Polynomial(terms=("pre*modulator", "pre*weight")),
        circuit=Feedforward(hidden=(8,), bias=False),
        tasks=Given(inputs=3, outputs=2),
        inner_loop=InnerLoop(steps=steps, online_loss_weight=1.0),
    )
    random = np.random.default_rng(0)
    inputs = random.normal(size=(steps, 3)) * 0.1
    inputs[:10], inputs[:growing, 0] = -0.3, grown
    targets, first = random.random((steps, 2)) > 0.5, random.normal(size=(3, 8)) * 0.3
    first[0] = 3.0 / (1 + grown) ** growing
    arrays = (inputs, targets, random.normal(size=(2, 8)), first, random.normal(size=(8, 2)) * 0.1)
    inputs, targets, backward, *weights = (jnp.asarray(array, jnp.float32) for array in arrays)
    one = LifetimeContext(Stimulus(inputs, targets), (backward,), KEY), LearnerState(tuple(weights), ((), ()), ())
    theta = jnp.array([0.0, 1.0])
    expected = jax.jit(lambda *given: Reverse(scan=Remat()).from_start(context, *given))(theta, *one)
    found = jax.jit(lambda *given: inverted_gradient(context, 10, *given))(theta, *one)
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-4)


def test_a_presentation_that_forgets_all_is_lived_again(float64):
    # Inputs are ±1 and the bias is 1: with −1 of pre·weight, 1 + θ·pre is 0 where pre is 1.
    context = living(
        Polynomial(terms=("pre*modulator", "pre*weight"), initial={"pre*modulator": 0.2, "pre*weight": -1.0})
    )
    theta, born = setting(context, spread=0.0)
    found = rebuilt(context, theta, born)
    assert np.all(np.isfinite(np.asarray(found.gradient)))
    agree(found, kept(context, theta, born))


def test_one_life_and_lives_of_several_seeds(float64):
    context = CASES["seven terms"]
    theta, born = setting(context)
    expected = kept(context, theta, born)
    alone = jax.jit(lambda *given: inverted_gradient(context, SEGMENT, *given))(
        theta, *jax.tree.map(lambda x: x[0], born)
    )
    agree(alone, jax.tree.map(lambda leaf: leaf[0], expected))
    seeds = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), born)
    both = jax.jit(jax.vmap(lambda born: rebuilt(context, theta, born)))(seeds)
    agree(both, jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), expected))


def test_who_is_not_undone():
    assert living(Polynomial(terms=("seven", "oja"))).invertible
    assert not living(Polynomial(terms=("seven", "pre*weight^2"))).invertible
    assert not living(MLP()).invertible
    traced = Polynomial(terms=("pre*modulator", "e"), traces={"e": Trace(of="pre*post")})
    assert not living(traced).invertible
    assert not living(circuit=Recurrent(neurons=3)).invertible


# With n hidden neurons there are 4·n + 1 weights of 4 bytes: 4 MiB are those of 100 steps of 2,622 neurons.
@pytest.mark.parametrize(
    "hidden, steps, segment",
    [(2622, 100, 10), (2621, 100, 0), (2621, 200, 10), (2622, 101, 0)],
    ids=["a square", "too little to keep", "near the root", "a prime"],
)
def test_segments_divide_the_life_near_its_root(hidden, steps, segment):
    context = living(circuit=Feedforward(hidden=(hidden,)), steps=steps)
    state = jax.eval_shape(lambda: context.init(KEY, context.tasks.sample(KEY, context.tasks.split(0).train, 0))[1])
    assert segment_length(context, state) == segment


def test_reverse_mode_rebuilds_by_default(float64, monkeypatch):
    monkeypatch.setattr(inversion, "_MIN_BYTES", 0)
    context = living(circuit=Feedforward(hidden=(3,)), steps=16)
    theta, born = setting(context)
    assert Reverse().scan == Invertible()
    found = side_by_side(lambda *given: Reverse().from_start(context, *given), theta, born)
    agree(found, kept(context, theta, born))
    programs = [
        str(jax.make_jaxpr(lambda *given, scan=scan: Reverse(scan=scan).from_start(context, *given))(theta, *one))
        for scan in (Invertible(), Remat())
        for one in [jax.tree.map(lambda leaf: leaf[0], born)]
    ]
    assert "remat" not in programs[0].split("cond")[0]
    assert "remat" in programs[1]
