"""Every task family that ships keeps the contract."""

import typing

import pytest

from metarule import Boolean, Conditioning, Points, Tabular
from metarule.runs.experiment import Experiment
from metarule.testing import TASK_CHECKS, check_tasks

SHIPPED = {
    "boolean": Boolean(inputs=2),
    "boolean, nothing held out": Boolean(inputs=2, split_by="none"),
    "points": Points(train_examples=3, test_examples=3),
    "tabular": Tabular(dataset="iris", test_classes="all", ways=2, train_examples=3, test_examples=3),
    "tabular, features": Tabular(features=5, train_examples=3, test_examples=3, scaling="standardised"),
    "conditioning": Conditioning(),
}


@pytest.mark.parametrize("check", TASK_CHECKS)
@pytest.mark.parametrize("tasks", SHIPPED)
def test_every_family_keeps_the_contract(tasks, check):
    check_tasks(SHIPPED[tasks], checks=(check,))


def test_no_kind_of_task_is_left_out():
    kinds = typing.get_args(typing.get_type_hints(Experiment)["tasks"])
    assert set(kinds) <= {type(tasks) for tasks in SHIPPED.values()}
