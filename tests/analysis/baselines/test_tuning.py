import jax
import jax.numpy as jnp
import numpy as np

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, backprop, final_metrics, tune
from metarule.analysis.baselines import theta_at_rate, with_rule
from metarule.analysis.baselines.tuning import _best

KEY = jax.random.key(0)
LEARNER = Lifetime(
    rule=Polynomial(),
    circuit=Feedforward(hidden=(4,)),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=80, theta="per_projection"),
)


def test_tuning_finds_the_best_rate_within_its_budget():
    learner, pool = backprop(LEARNER), LEARNER.tasks.split(0).train
    tuned = tune(learner, pool, KEY, budget=1000)
    assert tuned.lifetimes <= 1000
    assert len(tuned.rates) == len(tuned.scores) == 26
    assert len(np.unique(np.round(np.log10(tuned.rates), 6))) == 25
    best = max(range(13, 26), key=lambda number: tuple(tuned.scores[number]))
    assert tuned.theta[0] == np.float32(tuned.rates[best])
    score = lambda rate: final_metrics(learner, jnp.array([rate]), pool, jax.random.key(9), 64)["solved"].mean()
    assert score(float(tuned.theta[0])) > max(score(1e-3), score(10.0)) + 0.2


def test_of_rates_with_equal_final_scores_the_faster_one_is_chosen():
    assert _best(np.array([[0.5, 0.9], [1.0, 0.2], [1.0, 0.6], [1.0, 0.4]])) == 2


def test_a_rate_does_not_change_decays():
    learner = with_rule(LEARNER, "bcm")
    before, after = learner.init_theta(KEY), theta_at_rate(learner, 0.2)
    np.testing.assert_array_equal(after["coefficients"], np.float32([0.2]))
    np.testing.assert_array_equal(after["logit_decay"], before["logit_decay"])
