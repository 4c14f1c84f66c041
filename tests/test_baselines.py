import jax
import jax.numpy as jnp
import numpy as np

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, backprop, delta, final_metrics, tune
from metarule.baselines import _best

KEY = jax.random.key(0)
LIFE = Lifetime(
    rule=Polynomial(),
    circuit=Feedforward(hidden=(4,)),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(presentations=80, theta="per_projection"),
)


def test_baselines_share_tasks_and_initial_weights_with_the_learner():
    task = LIFE.tasks.sample(KEY, LIFE.tasks.split(0).train, 1)
    births = [learner.birth(KEY, task)[1].weights for learner in (LIFE, delta(LIFE), backprop(LIFE))]
    jax.tree.map(np.testing.assert_array_equal, births[0], births[1])
    jax.tree.map(np.testing.assert_array_equal, births[0], births[2])


def test_backprop_steps_down_the_gradient_of_the_loss():
    learner = backprop(LIFE)
    life, carry = learner.birth(KEY, LIFE.tasks.sample(KEY, LIFE.tasks.split(0).train, 1))
    stimulus = LIFE.tasks.stimulus(life.task, 0, KEY)
    loss = lambda weights: LIFE.tasks.loss(learner.circuit.step(weights, (), (), stimulus)[1], stimulus.target)
    after, _ = learner.step(jnp.array([0.1]), life, carry, 0)
    for before, gradient, weight in zip(carry.weights, jax.grad(loss)(carry.weights), after.weights, strict=True):
        np.testing.assert_allclose(weight, before - 0.1 * gradient, rtol=1e-5, atol=1e-7)


def test_tuning_finds_a_rate_that_is_best_on_training_tasks_within_its_budget():
    learner, pool = backprop(LIFE), LIFE.tasks.split(0).train
    tuned = tune(learner, pool, KEY, budget=1000)
    assert tuned.lifetimes <= 1000
    assert len(tuned.rates) == len(tuned.scores) == 26
    assert len(np.unique(np.round(np.log10(tuned.rates), 6))) == 25
    best = max(range(13, 26), key=lambda number: tuple(tuned.scores[number]))
    assert tuned.theta[0] == np.float32(tuned.rates[best])
    score = lambda rate: final_metrics(learner, jnp.array([rate]), pool, jax.random.key(9), 64)["solved"].mean()
    assert score(float(tuned.theta[0])) > max(score(1e-3), score(10.0)) + 0.2


def test_of_rates_that_end_equally_well_the_one_that_learns_sooner_is_picked():
    assert _best(np.array([[0.5, 0.9], [1.0, 0.2], [1.0, 0.6], [1.0, 0.4]])) == 2
