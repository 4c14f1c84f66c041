"""Shares, cosines and maps of rules whose values are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, Trace
from metarule.analysis.change_maps import ChangeMap, chosen_maps
from metarule.analysis.explanation import ALL, cosines, explain_rule, mixture_of, shares_of_variance
from metarule.analysis.visited import term_values, visited
from metarule.config.toml import ConfigError
from metarule.rules.terms import parse

KEY, LIFETIMES = jax.random.key(0), 24
RULE = Polynomial(
    terms=("pre*post", "post^2*weight", "e*modulator", "pre"), traces={"e": Trace(of="pre*post", learned=False)}
)
LEARNER = Lifetime(
    rule=RULE,
    circuit=Feedforward(hidden=(2,)),
    tasks=Boolean(inputs=2, functions="separable"),
    inner_loop=InnerLoop(steps=20, theta="per_projection", weight_bound=2.0),
)
SPLIT = LEARNER.tasks.split(0)
# The first projection has Oja's rule, the second one a trace.
THETA = jnp.array([[0.1, -0.1, 0.0, 0.0], [0.05, 0.0, 0.2, 0.0]])


@pytest.fixture(scope="module")
def found():
    return explain_rule(LEARNER, THETA, SPLIT.test, KEY, LIFETIMES)


def test_shares_of_independent_terms_are_those_of_their_variances():
    terms = np.random.default_rng(0).normal(size=(2, 100_000)) * [[2.0], [1.0]] + 5
    assert shares_of_variance(terms) == pytest.approx([0.8, 0.2], abs=0.02)
    counteracting = np.stack([3 * terms[0], -terms[0]])
    np.testing.assert_allclose(shares_of_variance(counteracting), [1.5, -0.5])


def test_cosines_are_not_centred_and_do_not_depend_on_scale():
    one = np.array([3.0, 4.0])
    np.testing.assert_allclose(cosines(np.stack([one, 2 * one, -one, [4.0, -3.0]])), [1, -1, 0], atol=1e-12)
    np.testing.assert_allclose(cosines(np.ones((2, 5)) * [[1], [7]]), [1])


def test_the_closest_sum_of_rules_has_no_negative_coefficients():
    a, b, c = np.eye(3)
    mixture = mixture_of(2 * a + 0.5 * b - 3 * c, {"a": a, "b": 10 * b, "c": c})
    assert mixture.coefficients == pytest.approx({"a": 2.0, "b": 0.05})
    assert mixture.cosine == pytest.approx(np.sqrt(4.25 / 13.25))
    assert mixture_of(-a, {"a": a}) == ({}, 0.0)


def test_a_rule_that_is_ojas_has_cosine_1_with_it(found):
    oja, other = found.parts
    assert (oja.part, oja.group, oja.is_whole) == ("projection 1", "projection 1", True)
    assert next(iter(oja.cosines)) == "oja"
    assert oja.cosines["oja"].mean == pytest.approx(1, abs=1e-6)
    assert oja.cosines["hebb"].mean == pytest.approx(-oja.cosines["anti_hebb"].mean)
    assert oja.mixture.coefficients["oja"] == pytest.approx(0.1, rel=1e-4)
    assert other.cosines["oja"].mean < 0.99
    means = [row.mean for row in other.cosines.values()]
    assert means == sorted(means, reverse=True)


def test_shares_have_the_terms_of_each_theta_and_sum_to_1(found):
    assert [list(part.shares) for part in found.parts] == [["pre*post", "post^2*weight"], ["pre*post", "e*modulator"]]
    for part in found.parts:
        assert sum(row.mean for row in part.shares.values()) == pytest.approx(1)
        assert all(row.low < row.mean < row.high for row in part.shares.values())


def test_terms_with_traces_add_up_to_the_change_of_the_rule():
    _, draw = visited(LEARNER, THETA, SPLIT.test, KEY, LIFETIMES)
    seen, trace = draw.variables, draw.traces["e"]
    np.testing.assert_allclose(draw.change, 0.05 * seen.pre * seen.post + 0.2 * trace * seen.modulator, atol=1e-6)
    assert set(draw.projection) == {1}
    oja = term_values(parse("pre*post - post^2*weight"), seen)
    np.testing.assert_allclose(oja, seen.pre * seen.post - seen.post**2 * seen.weight)
    assert draw.others.shape == (0, draw.change.size)


def test_maps_show_the_rule_at_the_means_of_the_other_variables(found):
    first = next(one for one in found.maps if {one.x, one.y} == {"pre", "post"} and one.group == "projection 1")
    pre, post = np.meshgrid(first.x_values, first.y_values)
    assert (first.x, list(first.means)) == ("pre", ["weight"])
    np.testing.assert_allclose(first.change, 0.1 * (pre * post - post**2 * first.means["weight"]))
    second = [{one.x, one.y} for one in found.maps if one.group == "projection 2"]
    assert {"modulator", "e"} in second


def test_a_map_is_chosen_for_what_earlier_ones_do_not_show():
    axis, none = np.linspace(-1, 1, 5), np.zeros(0)
    first, second = np.meshgrid(axis, axis)
    changes = {"ac": 3 * first, "bc": 0.5 * first * second, "ab": 3 * first + first * second, "bd": second / 9}
    maps = [ChangeMap("", *names, axis, axis, change, {}, none, none) for names, change in changes.items()]
    assert [one.x + one.y for one in chosen_maps(maps)] == ["ab", "bc"]
    assert chosen_maps([maps[0]._replace(change=0 * first)]) == chosen_maps([]) == []


def test_updates_beyond_the_bound_are_counted():
    large = THETA.at[0].set(jnp.array([0.0, 0.0, 0.0, 5.0]))
    beyond = explain_rule(LEARNER, large, SPLIT.test, KEY, LIFETIMES).parts[0].beyond
    assert beyond > 0.5


def test_a_rule_without_changes_has_no_numbers():
    still = explain_rule(LEARNER, 0 * THETA, SPLIT.test, KEY, LIFETIMES)
    part = still.parts[0]
    assert (part.shares, part.cosines, part.mixture, part.deviation, part.beyond) == (None, {}, None, 0.0, 0.0)
    assert still.left_out == {"maps": "Δw varies with no two variables"}


def test_a_rule_under_which_all_lifetimes_diverge_is_refused():
    with pytest.raises(ConfigError, match="rule: all 24 lifetimes under it diverge"):
        explain_rule(LEARNER, jnp.full_like(THETA, jnp.nan), SPLIT.test, KEY, LIFETIMES)


@pytest.mark.long
def test_projections_of_a_shared_theta_are_parts_of_all_synapses():
    learner = Lifetime(rule=Polynomial(terms=("delta", "weight")), circuit=LEARNER.circuit, tasks=LEARNER.tasks)
    parts = explain_rule(learner, jnp.array([0.2, -0.01]), SPLIT.test, KEY, LIFETIMES).parts
    assert [one.part for one in parts] == [ALL, "projection 1", "projection 2"]
    assert [one.is_whole for one in parts] == [True, False, False]
    assert parts[0].samples == parts[1].samples + parts[2].samples


@pytest.mark.long
def test_a_rule_with_a_trace_of_its_own_is_found_among_those_by_name():
    learner = Lifetime(rule=Polynomial(terms=("bcm",)), circuit=Feedforward(hidden=()), tasks=LEARNER.tasks)
    theta = learner.init_theta(KEY) | {"coefficients": jnp.array([0.3])}
    (part,) = explain_rule(learner, theta, SPLIT.test, KEY, LIFETIMES).parts
    assert part.cosines["bcm"].mean == pytest.approx(1, abs=1e-6)
    assert part.shares["bcm"].mean == pytest.approx(1)
