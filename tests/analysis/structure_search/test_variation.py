"""How forms vary."""

from random import Random

import pytest
from msgspec.structs import replace
from small import EXPERIMENT

from metarule import MLP, Polynomial, Trace
from metarule.analysis.structure_search import library
from metarule.analysis.structure_search.variation import crossed, drawn, mutated
from metarule.config.toml import ConfigError

TEXTS = ("1", "pre", "pre*post", "pre*post^2", "pre^2", "pre*post - weight")
TERMS = library(replace(EXPERIMENT, rule=Polynomial(terms=TEXTS)).lifetime)
SEEDS = range(200)


def test_neighbours_differ_by_one_factor():
    names = dict(zip(TERMS.names, ({TERMS.names[other] for other in near} for near in TERMS.neighbours), strict=True))
    assert names == {
        "1": {"pre"},
        "pre": {"1", "pre*post", "pre^2"},
        "pre*post": {"pre", "pre*post^2"},
        "pre*post^2": {"pre*post"},
        "pre^2": {"pre"},
        "pre*post - weight": set(),
    }


def test_a_child_has_what_both_parents_have_and_nothing_that_neither_has():
    one, other = frozenset({0, 1, 2}), frozenset({0, 3})
    children = {crossed(one, other, Random(seed)) for seed in SEEDS}
    assert len(children) == 2**3
    assert all({0} <= child <= {0, 1, 2, 3} for child in children)
    assert {crossed(frozenset({1}), frozenset({2}), Random(seed)) for seed in SEEDS} == {
        frozenset({1}),
        frozenset({2}),
        frozenset({1, 2}),
    }


def test_a_mutation_is_one_term_more_less_or_changed_by_a_factor():
    form = frozenset({1, 3})
    found = {mutated(form, TERMS, Random(seed)) for seed in SEEDS}
    more = {form | {term} for term in (0, 2, 4, 5)}
    less = {frozenset({1}), frozenset({3})}
    changed = {frozenset({near, 3}) for near in (0, 2, 4)} | {frozenset({1, 2})}
    assert found == more | less | changed


def test_a_form_always_has_a_term():
    assert all(mutated(frozenset({5}), TERMS, Random(seed)) for seed in SEEDS)
    assert all(1 <= len(drawn(TERMS, Random(seed), 3)) <= 3 for seed in SEEDS)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (MLP(), "rule = MLP: it has no terms to choose from"),
        (Polynomial(terms=("pre", "post"), frozen=("pre",)), "frozen terms and learned decays are no terms"),
        (
            Polynomial(terms=("trail*pre",), traces={"trail": Trace(of="post")}),
            "frozen terms and learned",
        ),
    ],
    ids=["mlp", "frozen", "learned decay"],
)
def test_a_rule_without_free_terms_alone_is_refused(rule, says):
    with pytest.raises(ConfigError, match=says):
        library(replace(EXPERIMENT, rule=rule).lifetime)
