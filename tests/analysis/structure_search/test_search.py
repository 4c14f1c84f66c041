"""NSGA-II on a problem with a known Pareto front."""

from metarule.analysis.structure_search.search import Candidate, first_generation, next_generation, pareto_front
from metarule.analysis.structure_search.variation import TermLibrary

TERMS = TermLibrary(tuple(map(str, range(20))), tuple(tuple({max(n - 1, 0), min(n + 1, 19)} - {n}) for n in range(20)))
# Decrease of the loss by each useful term; all other terms have no effect.
USEFUL = {3: 0.4, 11: 0.3, 17: 0.2}


class Fit:
    """Meta-loss of a structure: 1 − the sum of its useful terms."""

    def __init__(self):
        self.fitted = []

    def __call__(self, structures):
        self.fitted += structures
        return [round(1.0 - sum(USEFUL.get(term, 0.0) for term in structure), 3) for structure in structures]


def generations(count, fit, seed=0, start=None):
    generation = start or first_generation(TERMS, 12, seed, fit)
    for _ in range(count):
        generation = next_generation(generation, TERMS, 12, seed, fit)
    return generation


def test_the_search_finds_the_pareto_front():
    best = pareto_front(generations(25, Fit()).population)
    assert [sorted(one.structure) for one in best] == [[3], [3, 11], [3, 11, 17]]


def test_every_structure_is_fitted_once_and_recorded():
    fit = Fit()
    last = generations(10, fit)
    assert len(set(fit.fitted)) == len(fit.fitted) == len(last.evaluated)
    assert set(fit.fitted) == set(last.evaluated)
    assert len(last.population) == 12


def test_a_search_depends_only_on_seed_and_generation():
    full, half = generations(8, Fit()), generations(4, Fit())
    assert generations(4, Fit(), start=half) == full
    assert generations(8, Fit(), seed=1) != full


def test_the_search_continues_without_new_structures():
    two = TermLibrary(("a", "b"), ((), ()))
    fit = Fit()
    generation = first_generation(two, 4, 0, fit)
    for _ in range(5):
        generation = next_generation(generation, two, 4, 0, fit)
    assert len(generation.evaluated) == 3


def test_the_front_has_the_candidates_that_none_beats_in_both_objectives():
    losses = (({1}, 0.5), ({2}, 0.4), ({1, 2}, 0.4), ({1, 2, 3}, 0.3))
    candidates = [Candidate(frozenset(terms), loss) for terms, loss in losses]
    assert pareto_front(candidates) == [candidates[1], candidates[3]]


def test_a_candidate_with_infinite_loss_is_not_on_the_front():
    assert pareto_front([Candidate(frozenset({1}), float("inf")), Candidate(frozenset({1, 2}), 0.4)])[0].loss == 0.4
    fit = lambda structures: [float("inf")] * len(structures)
    assert len(next_generation(first_generation(TERMS, 12, 0, fit), TERMS, 12, 0, fit).population) == 12
