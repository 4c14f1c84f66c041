from functools import partial

import jax
import numpy as np
import pytest
from small import training_task

from metarule import Boolean, Feedforward, Lifetime
from metarule.lifetime.unroll import step_at
from metarule.rules import FAMILIES, Polynomial, Trace
from metarule.rules.expansion import expand, products


def test_families_have_their_sizes():
    assert len(FAMILIES["seven"]) == 7
    assert len(set(FAMILIES["sixteen"])) == 16


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("taylor(pre, post, weight; 2)", 27),
        ("taylor(pre, post, weight, neuromodulator; 2)", 81),
        ("taylor(pre,post;1)", 4),
        ("taylor(weight; 8)", 9),
        ("symmetric(pre, post, weight, modulator; 2)", 18),
        ("symmetric(pre, modulator; 1)", 1),
    ],
)
def test_families_of_products_have_their_sizes(text, size):
    assert len(set(products(text))) == size
    assert len(Polynomial(terms=(text,)).names) == size


def test_a_taylor_family_has_every_product_of_powers():
    assert products("taylor(pre, post; 2)") == (
        "1",
        "post",
        "post^2",
        "pre",
        "pre*post",
        "pre*post^2",
        "pre^2",
        "pre^2*post",
        "pre^2*post^2",
    )


@pytest.mark.parametrize(("family", "is_symmetric"), [("symmetric", True), ("taylor", False)])
def test_under_symmetric_terms_a_hidden_neuron_may_change_sign(family, is_symmetric):
    rule = Polynomial(terms=(f"{family}(pre, post, weight, modulator; 2)",))
    learner = Lifetime(rule=rule, circuit=Feedforward(hidden=(3,)), tasks=Boolean(inputs=2)).with_steps(6)
    theta = 0.2 * jax.random.normal(jax.random.key(0), (len(rule.names),))
    context, state = jax.jit(learner.init)(theta, jax.random.key(1), training_task(learner.tasks, 0))
    first, second = state.weights
    changed = state._replace(weights=(first.at[:, 0].multiply(-1), second.at[0].multiply(-1)))
    (feedback,) = context.wiring
    states = {1: (context, state), -1: (context._replace(wiring=(feedback.at[:, 0].multiply(-1),)), changed)}
    step = jax.jit(partial(step_at, learner))
    for t in range(6):
        outputs = {}
        for sign, (constants, before) in states.items():
            after, output = step(theta, constants, before, t)
            states[sign], outputs[sign] = (constants, after), output.output
    assert np.allclose(outputs[1], outputs[-1], rtol=1e-5) == is_symmetric
    assert np.allclose(states[1][1].weights[1][0], -states[-1][1].weights[1][0], rtol=1e-4) == is_symmetric


def test_excluded_terms_may_be_spelled_differently():
    rule = Polynomial(terms=("taylor(pre, post; 1)", "oja"), without=("post*pre", "1"))
    assert rule.names == ("post", "pre", "oja")


def test_a_term_excluded_from_a_family_may_be_given_itself():
    assert Polynomial(terms=("taylor(pre, post; 1)", "hebb"), without=("hebb",)).names == ("1", "post", "pre", "hebb")


def test_a_family_may_have_traces():
    rule = Polynomial(terms=("bcm", "taylor(pre, threshold; 1)"))
    assert rule.names == ("bcm", "1", "threshold", "pre", "pre*threshold")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("taylor(pre, post)", "allowed: variables and their highest power"),
        ("taylor(pre; 2", "allowed: variables and their highest power"),
        ("taylor(pre; two)", "allowed: variables and their highest power"),
        ("taylor(pre; -1)", "allowed: variables and their highest power"),
        ("taylor(__import__('os'); 2)", "allowed: variables and their highest power"),
        ("taylor(; 2)", "'' is not a variable"),
        ("taylor(pre, prost; 2)", "'prost' is not a variable"),
        ("taylor(pre, pre; 2)", "'pre' is given twice"),
        ("taylor(pre; 0)", "power 0; allowed: 1 to 8"),
        ("taylor(pre; 9)", "power 9; allowed: 1 to 8"),
        ("taylor(pre, post, weight, modulator, potential; 4)", "3125 products; allowed: up to 1024"),
        ("taylor", "'taylor' is not a variable"),
        ("symmetric(pre, eligibility; 2)", "'eligibility' is not a variable"),
    ],
)
def test_invalid_families_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Polynomial(terms=(text,))


def test_families_may_share_terms():
    rule = Polynomial(terms=("pre*modulator", "sixteen", "taylor(pre, post; 2)"))
    assert len(rule.names) == 16 + 9 - 2  # both have 1 and pre
    assert rule.names[0] == "pre*modulator"


def test_the_order_of_traces_does_not_matter():
    one, other = Trace(of="pre"), Trace(of="post", decay=0.5)
    rules = [Polynomial(terms=("a*b",), traces=traces) for traces in ({"a": one, "b": other}, {"b": other, "a": one})]
    assert rules[0] == rules[1]
    for rule in rules:
        expand.cache_clear()
        np.testing.assert_allclose(jax.nn.sigmoid(rule.init(jax.random.key(0))["logit_decay"]), [0.9, 0.5], rtol=1e-6)
