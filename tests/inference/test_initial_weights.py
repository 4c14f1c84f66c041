import pytest

"""Initial weights that are fitted for each animal, and the rules that they must not favour."""

import numpy as np

from benchmarks.recorded import Case, linear, problems, reinforce, zero
from metarule.runs.inference import in_double_precision


@pytest.mark.long
def test_rules_under_which_initial_weights_encode_later_choices_are_less_likely():
    learnt = "pre*modulator*neuromodulator"
    tasks = {"fit": ("choices",), "initial": "fitted", "test_animals": 0}
    animals = reinforce(rate=0.1, animals=6, steps=200, weight=-2.0)
    case = Case(animals, {learnt: 0.1}, (learnt, "pre*modulator"), 0.1, linear("sigmoid", bias=True), tasks)
    with in_double_precision():
        true, unstable = next(p.fit_each([zero(p)] * 2, [np.eye(2)[:1], np.eye(2)]) for p in problems(case, [0]))
    assert abs(true.shared[0] - 0.1) < 0.05
    assert unstable.shared[1] < -0.05
    loss = [one.iterate.curvature.loss.sum() for one in (true, unstable)]
    assert loss[1] < loss[0] - 20
    assert unstable.log_likelihood.sum() < true.log_likelihood.sum()
