import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from metarule import (
    Boolean,
    Feedforward,
    InnerLoop,
    Lifetime,
    Mixture,
    Points,
    Polynomial,
    Tabular,
    delta_rule,
    learning_curves,
)
from metarule.analysis.comparison import (
    HELD_OUT,
    NOTHING_HELD_OUT,
    Contender,
    by_task,
    compare,
    describe_split,
    evaluation_steps,
    held_out_report,
    held_out_table,
    join_reports,
    rows_table,
    summarise,
)
from metarule.analysis.evaluation import Curves
from metarule.types import Split

KEY = jax.random.key(0)
LEARNER = delta_rule(
    Lifetime(
        rule=Polynomial(), circuit=Feedforward(hidden=(4,)), tasks=Boolean(inputs=2), inner_loop=InnerLoop(steps=20)
    )
)


# Ten steps on points in the plane, in rounds of two.
SHORT = Lifetime(rule=LEARNER.rule, circuit=LEARNER.circuit, tasks=Points(), inner_loop=InnerLoop(steps=10))


def curve(values, task=None, steps=(0, 2, 6, 10), diverged=0.0):
    values = np.array(values)
    tasks = np.arange(len(values)) if task is None else np.array(task)
    return Curves(np.array(steps), {"accuracy": values, "diverged": np.full(values.shape, diverged)}, tasks)


def test_steps_are_evenly_spaced_and_after_examples_of_each_class():
    assert evaluation_steps(LEARNER, 2) == (10, 20)
    assert evaluation_steps(SHORT, 1) == (2, 6, 10)
    assert evaluation_steps(LEARNER, 2, (2, 20)) == (10, 20, 40, 400)


def test_contenders_have_the_same_lifetimes():
    pool = LEARNER.tasks.split(0).test
    contenders = {
        name: Contender(LEARNER, jnp.array([rate])) for name, rate in (("one", 0.0), ("two", 0.0), ("three", 0.4))
    }
    curves = compare(contenders, pool, KEY, 12, (10, 20), tasks=3)
    np.testing.assert_array_equal(curves["one"].metrics["accuracy"], curves["two"].metrics["accuracy"])
    assert (curves["one"].metrics["accuracy"] != curves["three"].metrics["accuracy"]).any()
    few = learning_curves(LEARNER, jnp.array([0.4]), pool, KEY, 12, (10, 20), 3)
    np.testing.assert_array_equal(curves["three"].metrics["solved"], few.metrics["solved"])


def test_networks_of_one_task_are_averaged():
    values = np.array([[1.0], [2.0], [3.0], [4.0], [6.0]])
    np.testing.assert_array_equal(by_task(curve(values, [7, 3, 7, 5, 7], [10]), "accuracy"), [[2.0], [4.0], [10 / 3]])


def test_curves_use_the_given_number_of_tasks():
    pool = LEARNER.tasks.split(0).test
    initial = learning_curves(LEARNER, jnp.array([0.0]), pool, KEY, 6, 1, 1).metrics["accuracy"]
    expected = []
    for number in range(6):
        task_key, lifetime_key = jax.random.split(jax.random.fold_in(KEY, number))
        context, state = LEARNER.init(jnp.array([0.0]), lifetime_key, LEARNER.tasks.sample(task_key, pool, 0))
        expected.append(LEARNER.evaluate(jnp.array([0.0]), context, state)[1]["accuracy"])
    np.testing.assert_array_equal(initial[:, 0], expected)


def test_a_summary_by_hand():
    first = curve([[0.0, 0.4, 0.8, 1.0], [0.2, 0.6, 1.0, 1.0], [0.1, 0.5, 0.9, 1.0]])
    second = curve([[0.0, 0.2, 0.4, 0.6], [0.2, 0.2, 0.4, 0.8], [0.1, 0.2, 0.4, 0.7]])
    rows = summarise({"first": first, "second": second}, SHORT, threshold=0.9, reference="first")
    assert rows["first"]["mean"] == 1.0
    assert rows["first"]["steps_to_threshold"] == {"at": 6, "low": 6, "high": 10}
    assert rows["second"]["steps_to_threshold"] == {"at": None, "low": None, "high": None}  # .867 at the end, at best
    shots = {shots: row["mean"] for shots, row in rows["first"]["shots"].items()}
    assert shots == pytest.approx({"1": 0.5, "3": 0.9, "5": 1.0})
    # t(.975; 2)·.1/√3 = .248414
    difference = rows["second"]["difference"]
    assert (difference["mean"], difference["low"], difference["high"]) == pytest.approx(
        (0.3, 0.051586, 0.548414), abs=1e-5
    )
    assert "difference" not in rows["first"]


def test_intervals_are_over_tasks_not_over_networks():
    values = [[0.0] * 4, [1.0] * 4, [1.0] * 4, [0.0] * 4]
    separate = summarise({"one": curve(values)}, SHORT, 0.9, "one")["one"]
    shared = summarise({"one": curve(values, [0, 1, 0, 1])}, SHORT, 0.9, "one")["one"]
    assert separate["mean"] == shared["mean"] == 0.5
    assert np.isnan([shared["low"], shared["high"]]).all()
    assert separate["low"] < 0.5 < separate["high"]


def test_horizons_are_beyond_a_lifetime():
    curves = {
        "one": curve([[0.5, 1.0, 0.2, 0.4]] * 2, steps=(0, 10, 20, 200)),
        "two": curve([[0.5, 0.9, 0.9, 0.9]] * 2),
    }
    curves["two"] = curves["two"]._replace(steps=curves["one"].steps)
    rows = summarise(curves, SHORT, 0.9, "one")
    assert {at: row["mean"] for at, row in rows["one"]["horizon"].items()} == {"1": 1.0, "2": 0.2, "20": 0.4}
    assert rows["one"]["mean"] == 1.0
    assert rows["one"]["steps_to_threshold"]["at"] == 10
    assert rows["two"]["difference"]["mean"] == pytest.approx(0.1)
    lines = rows_table("tasks", "accuracy", rows, 0.9).splitlines()
    assert lines[-3].split()[-6:] == ["1", "×", "2", "×", "20", "×"]
    assert lines[-2].split() == ["one", "1.0000", "0.2000", "0.4000"]
    rows["two"]["horizon"].pop("2")
    assert rows_table("tasks", "accuracy", rows, 0.9).splitlines()[-3].split()[-4:] == ["1", "×", "20", "×"]


def test_the_table_has_differences_and_steps_to_threshold():
    curves = {"first": curve([[0.0, 0.4, 0.8, 1.0]] * 2), "second": curve([[0.0, 0.2, 0.4, 0.6]] * 2, diverged=1.0)}
    rows = summarise(curves, SHORT, 0.7, "first")
    lines = rows_table("tasks", "accuracy", rows, 0.7).splitlines()
    assert "first − other" in lines[0]
    assert lines[1].split()[:2] == ["first", "1.0000"]
    assert "+0.4000" in lines[2]
    assert lines[2].split()[5:7] == ["2", "never"]


def report(learned, initial):
    curves = {"learned": curve([[0.0, 0.0, 0.0, learned]] * 2), "initial": curve([[0.0, 0.0, 0.0, initial]] * 2)}
    return held_out_report(SHORT, curves, {}, HELD_OUT)


def test_differences_are_paired_by_seed():
    joint = join_reports([report(0.9, 0.7), report(0.8, 0.6), report(0.7, 0.5)])
    assert (joint["seeds"], joint["tasks"]) == (3, 2)
    assert joint["learned"]["by_seed"] == pytest.approx([0.9, 0.8, 0.7])
    # logit(.8) ± t(.975; 2)·(.1/√3)/(.8·.2)
    assert joint["learned"]["low"] == pytest.approx(1 / (1 + np.exp(-1.386294 + 1.552587)), abs=1e-5)
    assert joint["learned"]["high"] == pytest.approx(1 / (1 + np.exp(-1.386294 - 1.552587)), abs=1e-5)
    assert joint["initial"]["difference"]["mean"] == pytest.approx(0.2)
    assert "difference" not in joint["learned"]
    assert "held-out tasks, 3 seeds" in held_out_table(joint)


def test_the_table_warns_if_the_learned_rule_is_worse_than_the_initial_one():
    assert "below its initial rule: -0.2000" in held_out_table(report(0.5, 0.7))
    assert "below" not in held_out_table(report(0.7, 0.5))


def test_each_family_of_a_mixture_counts_as_much_as_the_others():
    """Two networks on one task of a family, and a network on each of two tasks of another."""
    curves = curve([[0.2], [0.4], [1.0], [0.8]], task=[5, 5, 7, 9])._replace(family=np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(by_task(curves, "accuracy", balanced=False)[:, 0], [0.3, 1.0, 0.8])
    values, weights = by_task(curves, "accuracy")[:, 0], np.array([1.5, 0.75, 0.75])
    assert values.mean() == pytest.approx((0.3 + 0.9) / 2)
    error = np.sqrt(np.sum((weights * (np.array([0.3, 1.0, 0.8]) - 0.6)) ** 2) / (3 * 2))
    assert values.std(ddof=1) / np.sqrt(3) == pytest.approx(error)


def test_without_held_out_tasks_they_are_called_training_tasks():
    assert describe_split(small.split(Boolean(inputs=2), 0)) == HELD_OUT
    assert describe_split(small.split(Boolean(inputs=2, split_by="none"), 0)) == NOTHING_HELD_OUT
    assert (
        describe_split(small.split(Tabular(dataset="iris", test_classes="all", train_examples=5, test_examples=5), 0))
        != HELD_OUT
    )
    assert describe_split(small.split(Points(), 0)) == HELD_OUT
    families = [Boolean(inputs=2), Points(), Boolean(inputs=3, split_by="none")]
    assert describe_split(small.split(Mixture(families=families[:2]), 0)) == HELD_OUT
    assert describe_split(small.split(Mixture(families=families), 0)) == f"{HELD_OUT} and {NOTHING_HELD_OUT}"
    key = small.split(Points(), 0).train
    assert describe_split(Split(train=key, test=key)) == NOTHING_HELD_OUT
