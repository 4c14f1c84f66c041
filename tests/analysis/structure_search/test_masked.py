"""A masked learner equals a learner whose rule has only these terms."""

from functools import partial

import closed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace
from small import EXPERIMENT

from metarule import Gradient, Polynomial, meta_loss
from metarule.analysis.structure_search.masked import MaskedLearner, fit
from metarule.meta import train
from metarule.protocols import Learner, Sampling

TERMS = ("pre", "pre*modulator", "post", "pre*weight")
INITIAL = {"pre*modulator": 0.1, "post": 0.05}
LEARNER = replace(EXPERIMENT, rule=Polynomial(terms=TERMS, initial=INITIAL)).lifetime
POOL = LEARNER.tasks.split(0).train
OPTIMIZER = Gradient(steps=4, batch_size=4, learning_rate=1e-2)
KEY = jax.random.key(0)
MASKS = jnp.array([[False, True, False, False], [True, True, False, True], [True, True, True, True]])


@pytest.fixture(scope="module")
def fitted():
    return fit(LEARNER, OPTIMIZER, POOL, KEY, MASKS, 8, 3)


def test_a_structure_learns_as_a_rule_with_only_these_terms(fitted):
    key, _ = jax.random.split(KEY)
    unmasked = replace(LEARNER, rule=Polynomial(terms=TERMS[:2] + TERMS[3:], initial={"pre*modulator": 0.1}))
    theta = jax.jit(lambda: train(unmasked, OPTIMIZER, POOL, key)[0])()
    np.testing.assert_allclose(fitted.theta[1][jnp.array([0, 1, 3])], theta, rtol=1e-4, atol=1e-6)


def test_coefficients_of_other_terms_are_zero(fitted):
    np.testing.assert_array_equal(np.asarray(fitted.theta)[~np.asarray(MASKS)], 0)
    assert np.all(np.asarray(fitted.theta)[np.asarray(MASKS)] != 0)


def test_the_loss_does_not_depend_on_the_other_structures(fitted):
    reversed_order = fit(LEARNER, OPTIMIZER, POOL, KEY, MASKS[::-1], 8, 3)
    np.testing.assert_allclose(reversed_order.loss[::-1], fitted.loss, rtol=1e-5)
    assert len(set(np.asarray(fitted.loss).tolist())) == 3


def test_a_masked_learner_is_a_learner():
    assert isinstance(MaskedLearner(LEARNER, MASKS[0]), Learner)
    assert MaskedLearner(LEARNER, MASKS[0]).with_steps(7).steps == 7
    np.testing.assert_allclose(MaskedLearner(LEARNER, MASKS[0]).init_theta(KEY), [0, 0.1, 0, 0], rtol=1e-6)


def test_a_structure_of_a_network_that_samples_has_the_score_function_term():
    rule = Polynomial(terms=("pre*modulator*neuromodulator", "pre*neuromodulator", "pre"))
    learner = replace(closed.LEARNER, rule=rule)
    masked, theta = MaskedLearner(learner, jnp.array([True, True, False])), jnp.array([1.5, 1.0, 0.0])
    assert isinstance(masked, Sampling)
    assert masked.samples
    pool = learner.tasks.split(0).train
    gradients = [jax.jit(jax.grad(partial(meta_loss, one)))(theta, pool, KEY) for one in (masked, learner)]
    assert gradients[1][0] != 0
    np.testing.assert_allclose(gradients[0], gradients[1] * masked.mask, rtol=1e-5)
