import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metarule.rules import FAMILIES, Polynomial, lift
from metarule.types import Synapse

RULES = [
    Polynomial(terms=("seven",)),
    Polynomial(terms=("sixteen",)),
    Polynomial(terms=("hebb", "oja", "delta")),
    Polynomial(terms=("post^2*weight^3", "pre^2*potential - 0.5*weight", "1")),
    Polynomial(terms=("seven", "oja"), initial={"oja": 0.3, "1": 0.1}, frozen=("oja", "1")),
]


def projection(pre=3, post=4, seed=0):
    keys = jax.random.split(jax.random.key(seed), 5)
    shapes = ((pre,), (post,), (post,), (pre, post), (post,))
    return Synapse(*(jax.random.normal(key, shape) for key, shape in zip(keys, shapes)))


def theta_of(rule, seed=1):
    return jax.random.normal(jax.random.key(seed), rule.init(jax.random.key(0)).shape)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "+".join(rule.terms))
class TestEveryPolynomial:
    def test_matrix_form_equals_the_lifted_scalar_form(self, rule, float64):
        fast, memory = rule.update(theta_of(rule), (), projection())
        plain, _ = lift(rule.delta)(theta_of(rule), (), projection())
        assert memory == ()
        np.testing.assert_allclose(fast, plain, rtol=1e-12, atol=1e-12)

    def test_gradient_equals_finite_differences(self, rule, float64):
        seen = projection()
        change = lambda theta, weight: rule.update(jnp.asarray(theta), (), seen._replace(weight=jnp.asarray(weight)))[0]
        check_grads(change, (theta_of(rule), seen.weight), order=1, modes=("fwd", "rev"), rtol=1e-6, atol=1e-6)

    def test_synapses_see_only_their_own_weight(self, rule, float64):
        seen = projection()
        change = lambda weight: rule.update(theta_of(rule), (), seen._replace(weight=weight))[0].reshape(-1)
        jacobian = jax.jacobian(change)(seen.weight).reshape(12, 12)
        np.testing.assert_array_equal(jacobian, np.diag(np.diag(jacobian)))

    def test_is_linear_in_theta(self, rule, float64):
        change = lambda theta: rule.update(theta, (), projection())[0]
        one, two = theta_of(rule, 1), theta_of(rule, 2)
        np.testing.assert_allclose(change(one) + change(two) - change(0 * one), change(one + two), atol=1e-12)

    def test_shapes_and_one_trace(self, rule):
        chex.clear_trace_counter()
        update = jax.jit(chex.assert_max_traces(lambda theta, seen: rule.update(theta, (), seen)[0], n=1))
        for seed in range(3):
            change = update(theta_of(rule, seed), projection(seed=seed))
            chex.assert_shape(change, (3, 4))
        chex.assert_shape(rule.units(), theta_of(rule).shape)

    def test_every_term_is_described(self, rule):
        assert tuple(rule.describe(theta_of(rule))) == rule.names


def test_families_have_their_sizes():
    assert len(FAMILIES["seven"]) == 7
    assert len(set(FAMILIES["sixteen"])) == 16


@pytest.mark.parametrize(
    ("term", "closed_form"),
    [
        ("hebb", lambda s: np.outer(s.pre, s.post)),
        (
            "oja",
            lambda s: np.asarray(s.post) * (np.asarray(s.pre)[:, None] - np.asarray(s.post) * np.asarray(s.weight)),
        ),
        ("delta", lambda s: np.outer(s.pre, s.modulator)),
        ("weight", lambda s: np.asarray(s.weight)),
        ("1", lambda s: np.ones((3, 4))),
    ],
)
def test_rules_equal_their_closed_forms(term, closed_form):
    change, _ = Polynomial(terms=(term,)).update(jnp.array([0.5]), (), projection())
    np.testing.assert_allclose(change, 0.5 * closed_form(projection()), rtol=1e-5, atol=1e-6)


def test_seven_terms_equal_the_formula():
    theta, s = theta_of(Polynomial(terms=("seven",))), projection()
    y, x, m = np.asarray(s.pre)[:, None], np.asarray(s.potential)[None, :], np.asarray(s.modulator)[None, :]
    parts = [1.0 + 0 * y * x, y + 0 * x, x + 0 * y, m + 0 * y, y * m, y * x, y * np.asarray(s.weight)]
    expected = sum(float(c) * part for c, part in zip(theta, parts))
    change, _ = Polynomial(terms=("seven",)).update(theta, (), s)
    np.testing.assert_allclose(change, expected, rtol=1e-5, atol=1e-5)


def test_ojas_rule_finds_the_first_principal_component():
    rule, theta = Polynomial(terms=("oja",)), jnp.array([0.01])
    mixing = jnp.array([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.0, 0.3, 0.5]])
    samples = jax.random.normal(jax.random.key(0), (5000, 3)) @ mixing

    def present(weight, pre):
        post = pre @ weight
        return weight + rule.update(theta, (), Synapse(pre, post, post, weight, jnp.zeros(1)))[0], None

    weight, _ = jax.lax.scan(present, 0.1 * jnp.ones((3, 1)), samples)
    principal = np.linalg.eigh(np.cov(samples.T))[1][:, -1]
    assert abs(principal @ np.asarray(weight)[:, 0]) == pytest.approx(1, abs=0.03)


def test_frozen_terms_keep_their_initial_coefficient():
    rule = Polynomial(terms=("hebb", "oja", "delta"), initial={"oja": 0.25}, frozen=("oja",))
    assert rule.init(jax.random.key(0)).shape == (2,)
    np.testing.assert_allclose(rule.coefficients(jnp.array([1.0, 2.0])), [1.0, 0.25, 2.0])


def test_initial_values_and_spread():
    rule = Polynomial(terms=("hebb", "delta"), initial={"delta": 0.1}, initial_spread=0.5)
    draws = np.asarray(jax.vmap(rule.init)(jax.random.split(jax.random.key(0), 4000)))
    np.testing.assert_allclose(draws.mean(axis=0), [0, 0.1], atol=0.03)
    np.testing.assert_allclose(draws.std(axis=0), [0.5 * rule.hebbian_unit, 0.5], rtol=0.05)


def test_equation_reads_like_a_paper():
    rule = Polynomial(terms=("delta", "oja", "1", "weight"))
    assert (
        rule.equation(jnp.array([0.5, -0.25, 2.0, 0.0]))
        == "Δw = 0.5·pre·modulator − 0.25·(pre·post − post²·weight) + 2"
    )
    assert rule.equation(jnp.zeros(4)) == "Δw = 0"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"terms": ("pre*prost",)}, "no variable 'prost'"),
        ({"terms": ("hebb", "post*pre")}, "'hebb' and 'post\\*pre' are the same"),
        ({"terms": ("hebb",), "initial": {"oja": 1.0}}, "initial term 'oja' is not in the rule"),
        ({"terms": ("hebb",), "frozen": ("delta",)}, "frozen term 'delta' is not in the rule"),
        ({"terms": ("hebb",), "frozen": ("hebb",)}, "nothing is left to learn"),
    ],
)
def test_bad_rules_are_refused_by_name(arguments, says):
    with pytest.raises(ValueError, match=says):
        Polynomial(**arguments)
