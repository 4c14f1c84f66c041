"""Initial weights in θ."""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from msgspec.structs import replace
from small import initial_theta, training_task

from metarule import Boolean, ExcitatoryInhibitory, Feedforward, InnerLoop, Lifetime, Polynomial, Recurrent
from metarule.kernels import kernels
from metarule.lifetime.unroll import is_compiled, lifetime_loss

KEY = jax.random.key(0)
CIRCUITS = {
    "feedforward": Feedforward(hidden=(3,), initial="learned"),
    "feedforward, learned feedback": Feedforward(hidden=(3,), feedback="learned", initial="learned"),
    "recurrent": Recurrent(neurons=3, density=1.0, initial="learned"),
    "excitatory_inhibitory": ExcitatoryInhibitory(excitatory=3, inhibitory=2, initial="learned"),
}
NAMES = {
    "feedforward": {"weights_0", "weights_1", "feedback_0"},
    "feedforward, learned feedback": {"weights_0", "weights_1", "weights_2"},
    "recurrent": {"weights_0", "weights_1", "weights_2", "feedback_0"},
    "excitatory_inhibitory": {*(f"weights_{n}" for n in range(6)), "feedback_0", "feedback_1"},
}
EACH = pytest.mark.parametrize("name", CIRCUITS)


def learner(circuit):
    rule = Polynomial(terms=("delta", "pre*post", "weight"), initial_spread=0.1)
    return Lifetime(rule=rule, circuit=circuit, tasks=Boolean(inputs=2), inner_loop=InnerLoop(steps=6))


@EACH
def test_gradients_equal_finite_differences(name, float64):
    one = learner(CIRCUITS[name])
    theta, task = initial_theta(one), training_task(one.tasks, 3)
    assert set(theta) == {"rule", "initial"}
    assert set(theta["initial"]) == NAMES[name]
    flat, unravel = ravel_pytree(theta)
    flat = np.asarray(flat)

    @jax.jit
    def loss(flat):
        return lifetime_loss(one, unravel(flat), task, jax.random.key(4))[0]

    gradient = np.asarray(jax.jit(jax.grad(loss))(flat))
    shifts = 1e-6 * np.eye(flat.size)
    losses = np.asarray(jax.jit(jax.vmap(loss))(np.concatenate([flat + shifts, flat - shifts])))
    np.testing.assert_allclose(gradient, (losses[: flat.size] - losses[flat.size :]) / 2e-6, rtol=1e-6, atol=1e-9)
    for values, slopes in zip(*map(jax.tree.leaves, (theta["initial"], unravel(gradient)["initial"])), strict=True):
        # Only synapses of a neuron onto itself do not matter.
        np.testing.assert_array_equal(slopes != 0, values != 0)


@EACH
def test_all_lifetimes_start_from_theta(name):
    one = learner(CIRCUITS[name])
    theta = initial_theta(one)
    task = training_task(one.tasks, 3)
    context, state = jax.jit(one.init)(theta, jax.random.key(7), task)
    for number, weight in enumerate(state.weights):
        np.testing.assert_array_equal(weight, theta["initial"][f"weights_{number}"])
    feedback = [theta["initial"][name] for name in sorted(theta["initial"]) if name.startswith("feedback")]
    random = [leaf for leaf in jax.tree.leaves(context.wiring) if leaf.shape != (3, 3)]
    jax.tree.map(np.testing.assert_array_equal, random, feedback)
    jax.tree.map(lambda scale, value: scale.shape == value.shape or pytest.fail(), one.theta_scale(), theta)
    assert all(np.all(leaf > 0) for leaf in jax.tree.leaves(one.theta_scale()))


@EACH
def test_the_loop_of_a_lifetime_is_compiled(name):
    one = learner(CIRCUITS[name])
    theta, task = initial_theta(one), training_task(one.tasks, 3)
    with kernels("on"):
        assert is_compiled(one, theta, *jax.jit(one.init)(theta, KEY, task))


def test_the_scale_of_initial_weights_is_a_multiple_of_their_natural_one():
    one = learner(CIRCUITS["feedforward"])
    whole, part = (
        replace(one, inner_loop=replace(one.inner_loop, initial_scale=multiple)).theta_scale() for multiple in (1, 0.25)
    )
    np.testing.assert_array_equal(part["rule"], whole["rule"])
    for name, scale in whole["initial"].items():
        np.testing.assert_allclose(part["initial"][name], scale / 4, rtol=1e-6)


def test_rule_and_initial_weights_are_drawn_from_other_numbers():
    one = learner(Recurrent(neurons=3, density=1.0, weight_scale=2.0, initial="learned"))
    one = replace(one, inner_loop=replace(one.inner_loop, theta="per_projection"))
    theta = initial_theta(one)
    draws = theta["rule"][0] / one.theta_scale()["rule"][0]
    ratios = draws / theta["initial"]["weights_0"].ravel()[: draws.size]
    assert np.ptp(ratios) > 0.01


def test_a_rule_without_parameters_needs_learned_initial_weights():
    frozen = Polynomial(terms=("hebb",), frozen=("hebb",))
    parts = {"rule": frozen, "tasks": Boolean(inputs=2)}
    assert Lifetime(circuit=Feedforward(hidden=(), initial="learned"), **parts).init_theta(KEY)["rule"].size == 0
    with pytest.raises(ValueError, match=r"rule: no parameter is left; allowed: .*circuit.initial = 'learned'"):
        Lifetime(circuit=Feedforward(hidden=()), **parts)


def test_random_initial_weights_are_no_part_of_theta():
    assert learner(Feedforward(hidden=(3,))).init_theta(KEY).shape == (3,)


@pytest.mark.parametrize("arguments", [{"density": 0.5}, {}])
def test_learned_weights_of_synapses_that_differ_between_lifetimes_are_refused(arguments):
    message = "density = 0.5: each lifetime draws its own synapses; allowed with initial = 'learned': 1"
    with pytest.raises(ValueError, match=message):
        Recurrent(initial="learned", **arguments)
