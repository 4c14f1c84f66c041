import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Points, Polynomial, curves, delta
from metarule.comparison import Contender, by_task, compare, points_of, rows_table, summarise
from metarule.evaluation import Curves

KEY = jax.random.key(0)
LIFE = delta(
    Lifetime(
        rule=Polynomial(),
        circuit=Feedforward(hidden=(4,)),
        tasks=Boolean(inputs=2),
        inner_loop=InnerLoop(presentations=20),
    )
)


def curve(values):
    return Curves(np.array([0, 2, 6, 10]), {"accuracy": np.array(values)})


def test_points_are_evenly_spread_and_after_examples_of_each_class():
    assert points_of(LIFE, 2) == (10, 20)
    points = Lifetime(rule=LIFE.rule, circuit=LIFE.circuit, tasks=Points(), inner_loop=InnerLoop(presentations=8))
    assert points_of(points, 2) == (2, 4, 6, 8)


def test_contenders_meet_the_same_lives():
    pool = LIFE.tasks.split(0).test
    met = {name: Contender(LIFE, jnp.array([rate])) for name, rate in (("one", 0.0), ("two", 0.0), ("three", 0.4))}
    seen = compare(met, pool, KEY, 12, (10, 20), tasks=3)
    np.testing.assert_array_equal(seen["one"].metrics["accuracy"], seen["two"].metrics["accuracy"])
    assert (seen["one"].metrics["accuracy"] != seen["three"].metrics["accuracy"]).any()
    few = curves(LIFE, jnp.array([0.4]), pool, KEY, 12, (10, 20), 3)
    np.testing.assert_array_equal(seen["three"].metrics["solved"], few.metrics["solved"])


def test_lives_meet_tasks_in_turn():
    np.testing.assert_array_equal(by_task(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), 3), [2.5, 3.5, 4.5])
    np.testing.assert_array_equal(by_task(np.array([1.0, 2.0]), None), [1.0, 2.0])


def test_curves_with_a_number_of_tasks_meet_these_alone():
    pool = LIFE.tasks.split(0).test
    birth = curves(LIFE, jnp.array([0.0]), pool, KEY, 6, 1, 1).metrics["accuracy"]
    alone = []
    for number in range(6):
        task_key, life_key = jax.random.split(jax.random.fold_in(KEY, number))
        life, carry = LIFE.birth(life_key, LIFE.tasks.sample(task_key, pool, 0))
        alone.append(LIFE.assess(jnp.array([0.0]), life, carry)[1]["accuracy"])
    np.testing.assert_array_equal(birth[:, 0], alone)


def test_a_summary_by_hand():
    first = curve([[0.0, 0.4, 0.8, 1.0], [0.2, 0.6, 1.0, 1.0]])
    second = curve([[0.0, 0.2, 0.4, 0.6], [0.2, 0.2, 0.4, 0.8]])
    rows = summarise({"first": first, "second": second}, "accuracy", shot=2, reach=0.9, first="first")
    assert rows["first"]["mean"] == 1.0
    assert rows["first"]["reached"] == {"at": 6, "low": 6, "high": 10}
    assert rows["second"]["reached"] == {"at": None, "low": None, "high": None}
    assert {shots: row["mean"] for shots, row in rows["first"]["shots"].items()} == {"1": 0.5, "3": 0.9, "5": 1.0}
    assert rows["second"]["behind"]["mean"] == pytest.approx(0.3)
    assert (rows["second"]["behind"]["low"], rows["second"]["behind"]["high"]) == pytest.approx((0.2, 0.4))
    assert "behind" not in rows["first"]


def test_intervals_are_over_tasks_where_their_number_is_given():
    values = [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    lives = summarise({"one": curve(values)}, "accuracy", 0, 0.9, "one")["one"]
    tasks = summarise({"one": curve(values)}, "accuracy", 0, 0.9, "one", tasks=2)["one"]
    assert lives["mean"] == tasks["mean"] == 0.5
    assert (tasks["low"], tasks["high"]) == (0.5, 0.5)
    assert lives["low"] < 0.5 < lives["high"]


def test_the_table_says_who_is_ahead_and_when():
    seen = {"first": curve([[0.0, 0.4, 0.8, 1.0]] * 2), "second": curve([[0.0, 0.2, 0.4, 0.6]] * 2)}
    rows = summarise(seen, "accuracy", 2, 0.7, "first")
    lines = rows_table("tasks", "accuracy", rows, 0.7).splitlines()
    assert "first ahead by" in lines[0]
    assert lines[1].split()[:2] == ["first", "1.0000"]
    assert "+0.4000" in lines[2]
    assert " never " in lines[2]
