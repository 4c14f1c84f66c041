import jax
import numpy as np
import pytest

from metarule.rules import FAMILIES, Polynomial, Trace
from metarule.rules.expansion import expand, taylor


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
    ],
)
def test_taylor_families_have_their_sizes(text, size):
    assert len(set(taylor(text))) == size
    assert len(Polynomial(terms=(text,)).names) == size


def test_a_taylor_family_holds_every_product_of_powers():
    assert taylor("taylor(pre, post; 2)") == (
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


def test_terms_are_left_out_however_they_are_spelt():
    rule = Polynomial(terms=("taylor(pre, post; 1)", "oja"), without=("post*pre", "1"))
    assert rule.names == ("post", "pre", "oja")


def test_what_is_left_out_of_a_family_may_stand_as_a_term():
    assert Polynomial(terms=("taylor(pre, post; 1)", "hebb"), without=("hebb",)).names == ("1", "post", "pre", "hebb")


def test_a_family_may_have_traces():
    rule = Polynomial(terms=("bcm", "taylor(pre, threshold; 1)"))
    assert rule.names == ("bcm", "1", "threshold", "pre", "pre*threshold")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("taylor(pre, post)", "cannot be read"),
        ("taylor(pre; 2", "cannot be read"),
        ("taylor(pre; two)", "cannot be read"),
        ("taylor(pre; -1)", "cannot be read"),
        ("taylor(__import__('os'); 2)", "cannot be read"),
        ("taylor(; 2)", "names no variable ''"),
        ("taylor(pre, prost; 2)", "names no variable 'prost'"),
        ("taylor(pre, pre; 2)", "names 'pre' twice"),
        ("taylor(pre; 0)", "up to power 0; allowed: 1 to 8"),
        ("taylor(pre; 9)", "up to power 9; allowed: 1 to 8"),
        ("taylor(pre, post, weight, modulator, potential; 4)", "has 3125 terms; allowed: up to 1024"),
        ("taylor", "no variable 'taylor'"),
    ],
)
def test_what_is_no_family_is_refused_by_name(text, says):
    with pytest.raises(ValueError, match=says):
        Polynomial(terms=(text,))


def test_families_may_share_terms():
    rule = Polynomial(terms=("pre*modulator", "sixteen", "taylor(pre, post; 2)"))
    assert len(rule.names) == 16 + 9 - 2  # both hold 1 and pre
    assert rule.names[0] == "pre*modulator"


def test_the_order_in_which_traces_are_given_does_not_matter():
    one, other = Trace(of="pre"), Trace(of="post", decay=0.5)
    rules = [Polynomial(terms=("a*b",), traces=traces) for traces in ({"a": one, "b": other}, {"b": other, "a": one})]
    assert rules[0] == rules[1]
    for rule in rules:
        expand.cache_clear()
        np.testing.assert_allclose(jax.nn.sigmoid(rule.init(jax.random.key(0))["logit_decay"]), [0.9, 0.5], rtol=1e-6)
