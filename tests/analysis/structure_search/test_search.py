"""NSGA-II over forms, on a problem whose front is known."""

from metarule.analysis.structure_search import Candidate, Library, evolve, first_generation, front

TERMS = Library(tuple(map(str, range(20))), tuple(tuple({max(n - 1, 0), min(n + 1, 19)} - {n}) for n in range(20)))
# Every one of these is worth as much less as it stands further back; all other terms are of no use.
USEFUL = {3: 0.4, 11: 0.3, 17: 0.2}


class Fit:
    """The meta-loss of a form: what it lacks of the useful terms."""

    def __init__(self):
        self.fitted = []

    def __call__(self, forms):
        self.fitted += forms
        return [round(1.0 - sum(USEFUL.get(term, 0.0) for term in form), 3) for form in forms]


def generations(count, fit, seed=0, start=None):
    generation = start or first_generation(TERMS, 12, seed, fit)
    for _ in range(count):
        generation = evolve(generation, TERMS, 12, seed, fit)
    return generation


def test_it_finds_the_front():
    best = front(generations(25, Fit()).population)
    assert [sorted(one.form) for one in best] == [[3], [3, 11], [3, 11, 17]]


def test_no_form_is_fitted_twice_and_none_is_forgotten():
    fit = Fit()
    last = generations(10, fit)
    assert len(set(fit.fitted)) == len(fit.fitted) == len(last.met)
    assert set(fit.fitted) == set(last.met)
    assert len(last.population) == 12


def test_what_comes_depends_on_the_seed_and_the_generation_alone():
    whole, half = generations(8, Fit()), generations(4, Fit())
    assert generations(4, Fit(), start=half) == whole
    assert generations(8, Fit(), seed=1) != whole


def test_where_every_form_was_met_it_goes_on():
    two = Library(("a", "b"), ((), ()))
    fit = Fit()
    generation = first_generation(two, 4, 0, fit)
    for _ in range(5):
        generation = evolve(generation, two, 4, 0, fit)
    assert len(generation.met) == 3


def test_the_front_is_what_none_beats_in_both():
    losses = (({1}, 0.5), ({2}, 0.4), ({1, 2}, 0.4), ({1, 2, 3}, 0.3))
    some = [Candidate(frozenset(form), loss) for form, loss in losses]
    assert front(some) == [some[1], some[3]]


def test_a_form_without_a_finite_loss_is_on_no_front():
    assert front([Candidate(frozenset({1}), float("inf")), Candidate(frozenset({1, 2}), 0.4)])[0].loss == 0.4
    fit = lambda forms: [float("inf")] * len(forms)
    assert len(evolve(first_generation(TERMS, 12, 0, fit), TERMS, 12, 0, fit).population) == 12
