import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, backprop, learning_curves
from metarule.analysis.baselines import Descent, descent
from metarule.lifetime.unroll import step_at

KEY = jax.random.key(0)
LEARNER = Lifetime(
    rule=Polynomial(),
    circuit=Feedforward(hidden=(4,)),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=30, weight_bound=1.5),
)
POOL = LEARNER.tasks.split(0).train


def test_sgd_of_optax_equals_backprop():
    plain = Descent(backprop=backprop(LEARNER), name="sgd")
    theta = jnp.array([0.4])
    ours, theirs = (learning_curves(one, theta, POOL, KEY, 8, 5).metrics for one in (backprop(LEARNER), plain))
    np.testing.assert_array_equal(ours["accuracy"], theirs["accuracy"])


@pytest.mark.parametrize(("name", "transform"), [("momentum", optax.sgd(0.1, momentum=0.9)), ("adam", optax.adam(0.1))])
def test_updates_are_those_of_optax_on_autodiff_gradients(name, transform):
    learner = descent(LEARNER, name)
    context, learner_state = learner.init(KEY, LEARNER.tasks.sample(KEY, POOL, 1))
    weights, state = learner_state.weights, transform.init(learner_state.weights)
    for t in range(5):
        stimulus = LEARNER.tasks.stimulus(context.task, t, KEY)

        def loss(weights, stimulus=stimulus):
            output = learner.backprop.circuit.step(weights, (), (), stimulus).output
            return LEARNER.tasks.loss(output, stimulus.target)

        updates, state = transform.update(jax.grad(loss)(weights), state, weights)
        weights = jax.tree.map(lambda w, u: jnp.clip(w + u, -1.5, 1.5), weights, updates)
        learner_state, _ = step_at(learner, jnp.array([0.1]), context, learner_state, t)
    for ours, theirs in zip(learner_state.weights, weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_initial_weights_and_steps_are_those_of_backprop():
    learner, task = descent(LEARNER, "adam"), LEARNER.tasks.sample(KEY, POOL, 1)
    ours, theirs = (one.init(KEY, task)[1].weights for one in (learner, LEARNER))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert learner.with_steps(7).steps == 7
