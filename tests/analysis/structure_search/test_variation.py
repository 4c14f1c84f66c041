"""Crossover and mutation of structures."""

from random import Random

import pytest
from msgspec.structs import replace
from small import EXPERIMENT

from metarule import MLP, Polynomial, Trace
from metarule.analysis.structure_search.variation import crossover, mutate, random_structure, term_library
from metarule.config.toml import ConfigError

TEXTS = ("1", "pre", "pre*post", "pre*post^2", "pre^2", "pre*post - weight")
TERMS = term_library(replace(EXPERIMENT, rule=Polynomial(terms=TEXTS)).lifetime)
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


def test_a_child_has_the_common_terms_and_no_new_ones():
    one, other = frozenset({0, 1, 2}), frozenset({0, 3})
    children = {crossover(one, other, Random(seed)) for seed in SEEDS}
    assert len(children) == 2**3
    assert all({0} <= child <= {0, 1, 2, 3} for child in children)
    assert {crossover(frozenset({1}), frozenset({2}), Random(seed)) for seed in SEEDS} == {
        frozenset({1}),
        frozenset({2}),
        frozenset({1, 2}),
    }


def test_a_mutation_adds_removes_or_changes_one_term():
    structure = frozenset({1, 3})
    mutations = {mutate(structure, TERMS, Random(seed)) for seed in SEEDS}
    more = {structure | {term} for term in (0, 2, 4, 5)}
    less = {frozenset({1}), frozenset({3})}
    changed = {frozenset({near, 3}) for near in (0, 2, 4)} | {frozenset({1, 2})}
    assert mutations == more | less | changed


def test_a_structure_has_at_least_one_term():
    assert all(mutate(frozenset({5}), TERMS, Random(seed)) for seed in SEEDS)
    assert all(1 <= len(random_structure(TERMS, Random(seed), 3)) <= 3 for seed in SEEDS)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (MLP(), "rule = MLP: it has no terms to choose from"),
        (Polynomial(terms=("pre", "post"), frozen=("pre",)), "frozen terms and learned decays are not allowed"),
        (Polynomial(terms=("trail*pre",), traces={"trail": Trace(of="post")}), "frozen terms and learned"),
    ],
    ids=["mlp", "frozen", "learned decay"],
)
def test_only_rules_of_free_terms_are_allowed(rule, message):
    with pytest.raises(ConfigError, match=message):
        term_library(replace(EXPERIMENT, rule=rule).lifetime)
