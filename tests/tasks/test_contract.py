"""The contract of every task family of the package."""

import typing

import pytest

from metarule import Bandit, Boolean, Conditioning, Memory, Mixture, Navigation, Points, SymbolSequence, Tabular
from metarule.recordings import Recordings
from metarule.runs.experiment import Experiment
from metarule.testing import TASK_CHECKS, check_tasks

FAMILIES = {
    "boolean": Boolean(inputs=2),
    "boolean, nothing held out": Boolean(inputs=2, split_by="none"),
    "points": Points(train_examples=3, test_examples=3),
    "tabular": Tabular(dataset="iris", test_classes="all", ways=2, train_examples=3, test_examples=3),
    "tabular, features": Tabular(features=5, train_examples=3, test_examples=3, scaling="standardised"),
    "conditioning": Conditioning(),
    "bandit": Bandit(),
    "navigation": Navigation(),
    "navigation, place fields": Navigation(size=4, place_width=0.8, test_fraction=0.1),
    "bandit, many arms, no delay": Bandit(arms=5, delay=0, reversal=0),
    "memory, match": Memory(delays=(0, 3)),
    "memory, n-back": Memory(task="n_back", features=4),
    "mixture": Mixture(families=(Boolean(inputs=2), Points(train_examples=3, test_examples=4))),
    "sequence": SymbolSequence(symbols=5, length=5),
    "sequence, symbols repeat": SymbolSequence(symbols=2, length=8, distinct=False),
}


@pytest.mark.parametrize("check", TASK_CHECKS)
@pytest.mark.parametrize("tasks", FAMILIES)
def test_every_family_satisfies_the_contract(tasks, check):
    check_tasks(FAMILIES[tasks], checks=(check,))


def test_every_kind_of_family_is_tested():
    kinds = typing.get_args(typing.get_type_hints(Experiment)["tasks"])
    # Recordings take files, which tests/recordings/test_family.py writes.
    assert set(kinds) - {Recordings} <= {type(tasks) for tasks in FAMILIES.values()}
