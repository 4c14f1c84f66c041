"""Pairs of runs, and the points at which runs are evaluated."""

import numpy as np
import pytest
from msgspec.structs import replace
from small import EXPERIMENT, finished_run

from metarule import Boolean, Feedforward
from metarule.runs.differences import Compared, Measured, common_points, difference, open_runs, summary_row
from metarule.runs.finished import load

NONE = np.zeros(3)
SCORES = {1: 0.5, 2: 0.75, 3: 1.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    top = tmp_path_factory.mktemp("runs")
    longer = replace(EXPERIMENT, inner_loop=replace(EXPERIMENT.inner_loop, steps=40))
    other = replace(EXPERIMENT, tasks=Boolean(inputs=3), circuit=Feedforward(hidden=(2,)))
    experiments = {"one": EXPERIMENT, "seed": EXPERIMENT.of_seed(9), "longer": longer, "tasks": other}
    return {name: load(finished_run(top / name, experiment)) for name, experiment in experiments.items()}


def measured(runs, *names, scores=SCORES, length=20):
    several = tuple(runs[name] for name in names)
    curves = np.array([[0.0, score, score / 2] for score in scores.values()])
    return Measured(
        Compared("name", several[0].directory, several, "held-out tasks"),
        (0, length, 2 * length),
        tuple(scores),
        curves,
        NONE,
    )


def test_runs_of_the_same_tasks_and_seed_are_paired_over_tasks(runs):
    better = {task: score - 0.25 for task, score in SCORES.items()}
    found, pairs = difference(measured(runs, "one"), measured(runs, "longer", scores=better, length=40))
    assert (found.mean, pairs) == (0.25, 3)


def test_runs_of_several_seeds_are_paired_over_shared_seeds(runs):
    both = measured(runs, "one", "seed"), measured(runs, "one", "seed", scores={2: 0.5, 3: 0.5, 4: 0.0})
    found, pairs = difference(*both)
    assert (found.mean, pairs) == (0.375, 2)


@pytest.mark.parametrize(
    ("first", "other", "scores", "reason"),
    [
        (("one",), ("one", "seed"), SCORES, "only one of the two has several seeds"),
        (("one",), ("tasks",), SCORES, "other tasks"),
        (("one",), ("seed",), SCORES, "another seed, and with it other held-out tasks"),
        (("one",), ("longer",), {1: 0.5}, "another number of held-out tasks"),
        (("one", "seed"), ("one", "seed"), {8: 0.5}, "no seed in common"),
    ],
)
def test_other_runs_have_no_difference_and_a_reason(first, other, scores, reason, runs):
    assert difference(measured(runs, *first), measured(runs, *other, scores=scores)) == reason


def test_runs_are_summarised_at_the_end_of_their_own_lifetime(runs):
    row = summary_row(measured(runs, "one"), 0.7)
    assert (row["mean"], row["steps_to_threshold"]["at"], row["horizon"]["2"]["mean"]) == (0.75, 20, 0.375)


def test_points_are_those_of_all_without_horizons_of_unequal_lengths(runs):
    def points(*names):
        return common_points([Compared(name, runs[name].directory, (runs[name],), "held-out tasks") for name in names])

    assert points("one", "seed") == (10, 20, 40, 100, 400)
    assert points("one", "longer") == (10, 20, 40)


def test_names_are_paths_without_what_they_share(runs):
    top = runs["one"].directory.parent
    assert [one.name for one in open_runs([f"{top}/one", f"{top}/../{top.name}/seed/"])] == ["one", "seed"]
