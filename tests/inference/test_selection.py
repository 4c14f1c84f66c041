import math

import numpy as np
import pytest
from two_terms import TRUTH

from metarule.inference import selection as selection_module
from metarule.inference.problem import Fitted, Problem
from metarule.inference.selection import select
from metarule.meta.curvature import Curvature
from metarule.meta.levenberg import Iterate, Point
from metarule.runs.inference import in_double_precision


def names(problem, selection):
    return {problem.terms[number] for number in selection.terms}


def test_the_true_terms_are_selected_from_noisy_recordings(noisy, selection):
    assert names(noisy, selection) == set(TRUTH)
    for number in selection.terms:
        assert selection.fitted.shared[number] == pytest.approx(TRUTH[noisy.terms[number]], abs=0.002)
    assert [trial[:2] for trial in selection.trials] == [("added", "pre*post"), ("added", "weight")]


def test_the_true_terms_are_selected_from_exact_recordings(exact, empty):
    found = select(exact, empty)
    assert names(exact, found) == set(TRUTH)
    truth = [TRUTH.get(name, 0.0) for name in exact.terms]
    np.testing.assert_allclose(found.fitted.shared, truth, rtol=0, atol=1e-9)
    assert found.fitted.directions.shape == (2, 8)


@pytest.mark.parametrize("known", [0, 2, 100])
def test_a_stopped_selection_goes_on_and_gives_the_same_bits(known, noisy, empty, selection, recalled):
    trials, stored = [], dict(list(recalled.items())[:known])

    def recall(name, compute):
        if name not in stored:
            assert known < len(recalled), "a stored result was computed again"
            stored[name] = compute()
        return stored[name]

    again = select(noisy, empty, trials.append, recall)
    assert again.terms == selection.terms
    assert again.trials == selection.trials == tuple(trials)
    for one, other in zip(again.fitted[1:], selection.fitted[1:], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.fitted.shared, selection.fitted.shared)


@pytest.fixture(scope="module")
@in_double_precision()
def recalled(noisy, empty):
    """Results of a selection that a stopped inference has stored."""
    stored = {}
    select(noisy, empty, recall=lambda name, compute: stored.setdefault(name, compute()))
    return stored


class Table(Problem):
    """A problem with given log-likelihoods of sets of terms, those of fitted and of held-out animals."""

    def directions(self, terms):
        return tuple(terms)

    def fit_each(self, starts, directions, steps=None, weights=None, l1=False, fits=0, settled=True):
        return [self.fit_of(start, terms) for start, terms in zip(starts, directions, strict=True)]

    def fit_of(self, start, terms):
        values = self.learner["".join(sorted(self.terms[number] for number in terms))]
        curvature = Curvature(np.full((2, 1), 50.0), None, None, None)
        return Fitted(Iterate(start, curvature, *[None] * 5), None, None, np.array(values), len(terms))


def selected(likelihoods, is_fitted=(True, False), **start):
    """Terms that are selected, and the steps to them."""
    terms, names = ("a", "b", "c"), [""]
    for name in terms:
        names += [one + name for one in names]
    table = dict.fromkeys(names, (-1000.0, -1000.0)) | {"": (0, 0)}
    table |= {name: one if isinstance(one, tuple) else (one, one) for name, one in likelihoods.items()}
    problem = Table(table, None, np.array(is_fitted), terms, np.ones(3), None, 3)
    point = Point(np.zeros(3), np.zeros((2, 0)))
    if start:
        start["whole"] = problem.fit_of(point, range(3))
    found = select(problem, point, **start)
    return "".join(terms[number] for number in found.terms), [f"{step} {term}" for step, term, *_ in found.trials]


# A term has to be worth ½·ln(50) + ln(3) = 3.05 nats.
PRICE = math.log(50) / 2 + math.log(3)


def test_a_term_is_added_if_it_is_worth_its_coefficient():
    assert selected({"a": PRICE - 0.01, "b": 1, "c": 2}) == ("", [])
    assert selected({"a": PRICE + 0.01, "b": 1, "c": 2}) == ("a", ["added a"])


def test_a_term_that_is_worse_for_held_out_animals_does_not_stay():
    assert selected({"a": (100, -0.1)}) == ("", ["added a", "removed a"])
    assert selected({"a": 100}, is_fitted=(True, True)) == ("a", ["added a"])


def test_a_term_that_the_later_ones_replace_is_removed():
    likelihoods = {"a": 50, "b": 50, "c": 100, "ac": 150, "bc": 140, "ab": 300, "abc": 302}
    assert selected(likelihoods) == ("ab", ["added c", "added a", "added b", "removed c"])


def test_a_term_is_exchanged_for_a_better_one():
    likelihoods = {"a": 50, "b": 50, "c": 100, "ac": 150, "bc": 140, "ab": 300, "abc": 151}
    assert selected(likelihoods) == ("ab", ["added c", "added a", "exchanged b"])
    assert selected(likelihoods | {"ab": (300, 140)}) == ("ab", ["added c", "added a", "exchanged b"])
    assert selected(likelihoods | {"ab": (160, 130)}) == ("ac", ["added c", "added a"])


def test_terms_that_are_useful_together_only_are_found_from_a_known_rule(monkeypatch):
    monkeypatch.setattr(selection_module, "_largest", lambda problem, whole: [])
    likelihoods = {"a": 1, "b": 1, "c": 10, "ab": 100, "abc": 100, "ac": 10, "bc": 10}
    assert selected(likelihoods) == ("c", ["added c"])
    assert selected(likelihoods, known=[(0, 1), ()]) == ("ab", ["added c", "restarted a + b"])
    assert selected(likelihoods | {"ab": 11}, known=[(0, 1)]) == ("c", ["added c"])


def test_fits_that_diverge_are_not_selected():
    nothing = (math.nan, math.nan)
    assert selected({"a": nothing, "b": 10, "c": nothing, "ab": nothing}) == ("b", ["added b"])
