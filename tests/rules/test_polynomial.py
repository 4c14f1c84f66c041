import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule.config.toml import decode
from metarule.rules import Polynomial, Trace
from metarule.rules.lifting import local_variables
from metarule.types import Synapse

EXAMPLES = [
    Polynomial(terms=("seven",)),
    Polynomial(terms=("hebb", "oja", "delta")),
    Polynomial(terms=("taylor(pre, post, weight; 2)",)),
    Polynomial(terms=("seven", "oja"), initial={"oja": 0.3, "1": 0.1}, frozen=("oja", "1")),
]


def projection(pre=3, post=4, seed=0):
    keys = jax.random.split(jax.random.key(seed), 5)
    shapes = ((pre,), (post,), (post,), (pre, post), (post,))
    return Synapse(*(jax.random.normal(key, shape) for key, shape in zip(keys, shapes)))


def theta_of(rule, seed=1):
    return jax.random.normal(jax.random.key(seed), rule.init(jax.random.key(0)).shape)


@pytest.mark.parametrize("rule", EXAMPLES, ids=lambda rule: "+".join(rule.terms))
class TestEveryPolynomial:
    def test_is_linear_in_theta(self, rule, float64):
        change = lambda theta: rule.update(theta, (), projection())[0]
        one, two = theta_of(rule, 1), theta_of(rule, 2)
        np.testing.assert_allclose(change(one) + change(two) - change(0 * one), change(one + two), atol=1e-12)

    def test_describe_has_every_term(self, rule):
        assert tuple(rule.describe(theta_of(rule))) == rule.names


@pytest.mark.parametrize(
    ("term", "closed_form"),
    [
        ("hebb", lambda s: np.outer(s.pre, s.post)),
        ("anti_hebb", lambda s: -np.outer(s.pre, s.post)),
        (
            "oja",
            lambda s: np.asarray(s.post) * (np.asarray(s.pre)[:, None] - np.asarray(s.post) * np.asarray(s.weight)),
        ),
        ("delta", lambda s: np.outer(s.pre, s.modulator)),
        ("three_factor", lambda s: np.outer(s.pre, np.asarray(s.post) * np.asarray(s.modulator))),
        ("rescorla_wagner", lambda s: np.outer(s.pre, np.asarray(s.modulator) - np.asarray(s.potential))),
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


def test_frozen_terms_keep_their_initial_coefficient():
    rule = Polynomial(terms=("hebb", "oja", "delta"), initial={"oja": 0.25}, frozen=("oja",))
    assert rule.init(jax.random.key(0)).shape == (2,)
    np.testing.assert_allclose(rule.coefficients(jnp.array([1.0, 2.0])), [1.0, 0.25, 2.0])


def test_initial_values_and_spread():
    rule = Polynomial(terms=("hebb", "delta"), initial={"delta": 0.1}, initial_spread=0.5)
    draws = np.asarray(jax.vmap(rule.init)(jax.random.split(jax.random.key(0), 4000)))
    np.testing.assert_allclose(draws.mean(axis=0), [0, 0.1], atol=0.03)
    np.testing.assert_allclose(draws.std(axis=0), [0.5 * rule.hebbian_scale, 0.5], rtol=0.05)


def test_terms_may_be_spelled_differently():
    rule = Polynomial(terms=("delta", "post*pre^2"), initial={"modulator*pre": 0.5}, frozen=("pre*post*pre",))
    assert rule == Polynomial(terms=("delta", "post*pre^2"), initial={"delta": 0.5}, frozen=("post*pre^2",))


def test_equation_by_hand():
    rule = Polynomial(terms=("delta", "oja", "1", "weight"))
    assert (
        rule.equation(jnp.array([0.5, -0.25, 2.0, 0.0]))
        == "Δw = 0.5·pre·modulator − 0.25·(pre·post − post²·weight) + 2"
    )
    assert rule.equation(jnp.zeros(4)) == "Δw = 0"
    assert Polynomial(terms=("anti_hebb",)).equation(jnp.ones(1)) == "Δw = 1·(−pre·post)"


class TestTraces:
    RULE = Polynomial(
        terms=("eligibility*modulator",),
        traces={"eligibility": Trace(of="pre*post", decay=0.8)},
        initial={"eligibility*modulator": 0.5},
    )

    def test_theta_has_the_logit_of_the_decay(self):
        theta = self.RULE.init(jax.random.key(0))
        assert set(theta) == {"coefficients", "logit_decay"}
        np.testing.assert_allclose(jax.nn.sigmoid(theta["logit_decay"]), [0.8], rtol=1e-6)
        described = self.RULE.describe(theta)
        assert list(described) == ["eligibility*modulator", "decay of eligibility"]
        np.testing.assert_allclose(list(described.values()), [0.5, 0.8], rtol=1e-6)

    def test_a_fixed_decay_is_not_in_theta(self):
        rule = Polynomial(terms=("slow",), traces={"slow": Trace(of="post", decay=0.75, learned=False)})
        assert rule.init(jax.random.key(0)).shape == (1,)
        assert rule.describe(jnp.ones(1))["decay of slow"] == 0.75
        _, memory = rule.update(jnp.ones(1), rule.memory(projection().weight), projection())
        np.testing.assert_allclose(memory["slow"], np.tile(0.25 * projection().post, (3, 1)), rtol=1e-6)

    def test_a_later_modulator_acts_on_the_trace(self):
        """After n silent steps, Δw = c·(1 − λ)·λⁿ·pre·post·modulator."""
        theta, delay = self.RULE.init(jax.random.key(0)), 5
        active, silent = projection(), jax.tree.map(jnp.zeros_like, projection())
        memory = self.RULE.memory(active.weight)
        changes = []
        for t in range(delay + 1):
            current = active._replace(modulator=0 * active.modulator) if t == 0 else silent
            current = current._replace(modulator=active.modulator) if t == delay else current
            change, memory = self.RULE.update(theta, memory, current)
            changes.append(change)
        assert not np.any(changes[:-1])
        expected = 0.5 * 0.2 * 0.8**delay * np.outer(active.pre, active.post * active.modulator)
        np.testing.assert_allclose(changes[-1], expected, rtol=1e-5)

    def test_the_equation_has_the_traces(self):
        assert (
            self.RULE.equation(self.RULE.init(jax.random.key(0)))
            == "Δw = 0.5·modulator·eligibility, eligibility ← 0.8·eligibility + 0.2·pre·post"
        )

    def test_variables_and_scale_include_those_of_traces(self):
        rule = Polynomial(terms=("late*pre", "pre"), traces={"late": Trace(of="modulator*pre_trace", learned=False)})
        assert local_variables(rule) == ("pre", "modulator", "pre_trace")
        np.testing.assert_allclose(rule.scale(), [1, rule.hebbian_scale])

    def test_a_rule_by_name_has_its_traces_unless_others_are_given(self):
        key = jax.random.key(0)
        assert list(Polynomial(terms=("covariance",)).memory(jnp.zeros((2, 3)))) == ["mean_post", "mean_pre"]
        rule = Polynomial(terms=("bcm",), initial={"bcm": 1.0}, traces={"threshold": Trace(of="post^4", decay=0.5)})
        assert rule.equation(rule.init(key)).endswith("threshold ← 0.5·threshold + 0.5·post⁴")

    def test_a_rule_may_learn_only_its_decays(self):
        rule = Polynomial(terms=("bcm",), initial={"bcm": 0.1}, frozen=("bcm",))
        theta = rule.init(jax.random.key(0))
        assert theta["coefficients"].shape == (0,)
        assert theta["logit_decay"].shape == (1,)

    def test_a_table_of_toml_is_a_rule(self):
        table = {
            "kind": "polynomial",
            "terms": ["eligibility*modulator"],
            "traces": {"eligibility": {"of": "pre*post", "decay": 0.8}},
            "initial": {"eligibility*modulator": 0.5},
        }
        assert decode(table, Polynomial) == self.RULE


TRACE = Trace(of="pre")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"terms": ("pre*prost",)}, "'prost' is not a variable"),
        ({"terms": ("hebb", "post*pre")}, "'hebb' and 'post\\*pre' are equal"),
        ({"terms": ("hebb",), "initial": {"oja": 1.0}}, "initial: term 'oja' is not in the rule"),
        ({"terms": ("hebb",), "initial": {"hebb": 1.0, "pre*post": 2.0}}, "two terms are equal"),
        ({"terms": ("hebb",), "frozen": ("delta",)}, "frozen: term 'delta' is not in the rule"),
        ({"terms": ("seven",), "without": ("post",)}, "without: 'post' is in no family of the rule"),
        ({"terms": ("pre",), "without": ("pre",)}, "without: 'pre' is in no family of the rule"),
        ({"terms": ("taylor(pre; 1)",), "without": ("1", "pre")}, "no term is left"),
        ({"terms": ("hebb",), "traces": {"trace": TRACE}}, "trace 'trace' occurs in no term"),
        ({"terms": ("weight",), "traces": {"weight": TRACE}}, "trace 'weight': the name is that of a variable"),
        ({"terms": ("oja",), "traces": {"oja": TRACE}}, "trace 'oja': the name is that of a rule"),
        ({"terms": ("seven",), "traces": {"seven": TRACE}}, "trace 'seven': the name is that of a family"),
        ({"terms": ("pre",), "traces": {"my trace": TRACE}}, "trace 'my trace': allowed: letters"),
        ({"terms": ("pre*eligibility",)}, "'eligibility' is not a variable"),
    ],
)
def test_bad_rules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Polynomial(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"of": "prost"}, "'prost' is not a variable"),
        ({"of": "pre", "decay": 1.0}, "decay = 1.0 of the trace of 'pre'; allowed: above 0"),
        ({"of": "pre", "decay": 0.0}, "decay = 0.0 of the trace of 'pre'; allowed: above 0"),
        ({"of": "pre", "decay": float("nan")}, "decay = nan: expected a finite number"),
    ],
)
def test_bad_traces_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Trace(**arguments)
