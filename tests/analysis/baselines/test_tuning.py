import jax
import jax.numpy as jnp
import numpy as np

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, backprop, final_metrics, tune
from metarule.analysis.baselines import at_rate, under
from metarule.analysis.baselines.tuning import _best

KEY = jax.random.key(0)
LIFE = Lifetime(
    rule=Polynomial(),
    circuit=Feedforward(hidden=(4,)),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=80, theta="per_projection"),
)


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


def test_a_rate_leaves_the_decays_of_traces_alone():
    learner = under(LIFE, "bcm")
    before, after = learner.init_theta(KEY), at_rate(learner, 0.2)
    np.testing.assert_array_equal(after["coefficients"], np.float32([0.2]))
    np.testing.assert_array_equal(after["logit_decay"], before["logit_decay"])
