"""One small problem of inference, fitted once, that tests of inference share."""

import jax.numpy as jnp
import numpy as np
import pytest
from recorded import learner_on
from two_terms import RULE, recordings

from metarule.inference import make_problem
from metarule.inference.selection import select
from metarule.meta import GaussNewton
from metarule.runs.inference import in_double_precision


@pytest.fixture(autouse=True)
def double_precision():
    with in_double_precision():
        yield


@pytest.fixture(scope="session")
@in_double_precision()
def noisy(tmp_path_factory):
    """Recordings with noise of 0.1."""
    return make(tmp_path_factory.mktemp("noisy"), 0.1)


@pytest.fixture(scope="session")
@in_double_precision()
def exact(tmp_path_factory, noisy):
    """Recordings without noise, for the programs of those with noise."""
    return make(tmp_path_factory.mktemp("exact"), 0.0)._replace(learner=noisy.learner)


def make(folder, noise):
    learner = learner_on(folder, recordings(noise), RULE, test_animals=2)
    return make_problem(learner, learner.tasks.split(0), GaussNewton())


@pytest.fixture(scope="session")
@in_double_precision()
def empty(noisy):
    """Point in which all coefficients are 0."""
    return noisy.start(jnp.zeros(noisy.size))


@pytest.fixture(scope="session")
@in_double_precision()
def selection(noisy, empty):
    """Terms selected from recordings with noise."""
    return select(noisy, empty)


@pytest.fixture(scope="session")
@in_double_precision()
def everything(noisy, empty):
    """Fit of all terms to recordings with noise."""
    return noisy.fit(empty, np.eye(noisy.size))
