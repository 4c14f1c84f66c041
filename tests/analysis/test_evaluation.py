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
    Points,
    Polynomial,
    Recurrent,
    Tabular,
    delta,
    final_metrics,
    learning_curves,
    unroll,
)
from metarule.tasks.base import primary_metric, task_id

KEY = jax.random.key(0)
LIFE = delta(
    Lifetime(
        rule=Polynomial(),
        circuit=Feedforward(hidden=(4,)),
        tasks=Boolean(inputs=2),
        inner_loop=InnerLoop(steps=50),
    )
)
POOL = LIFE.tasks.split(0).test
THETA = jnp.array([0.3])


@pytest.mark.parametrize("points", [1, 3, 50])
def test_points_are_spread_over_the_life(points):
    seen = learning_curves(LIFE, THETA, POOL, KEY, 4, points)
    np.testing.assert_array_equal(seen.steps, np.round(np.linspace(0, 50, points + 1)))
    assert seen.metrics["solved"].shape == (4, points + 1)


def test_curves_are_those_of_lives_lived_one_by_one():
    seen = learning_curves(LIFE, THETA, POOL, KEY, 5, 2)

    @jax.jit
    def alone(number):
        task_key, lifetime_key = jax.random.split(jax.random.fold_in(KEY, number))
        context, state = LIFE.init(lifetime_key, LIFE.tasks.sample(task_key, POOL, number))
        ends = [unroll(LIFE, THETA, context, state, jnp.arange(end))[0] for end in (0, 25, 50)]
        return [LIFE.evaluate(THETA, context, lived)[1]["accuracy"] for lived in ends]

    for number in range(5):
        np.testing.assert_array_equal(seen.metrics["accuracy"][number], alone(number))


def test_more_lives_begin_with_the_same_lives():
    few, many = (final_metrics(LIFE, THETA, POOL, KEY, lifetimes) for lifetimes in (7, 300))
    np.testing.assert_array_equal(few["accuracy"], many["accuracy"][:7])
    assert many["accuracy"].shape == (300,)


def test_learning_raises_the_score():
    scores = learning_curves(LIFE, THETA, POOL, KEY, 64, 1).metrics["accuracy"]
    assert scores[:, -1].mean() > scores[:, 0].mean() + 0.2


@pytest.mark.parametrize("tasks", [Boolean(inputs=2, split_by="none"), Points()], ids=["boolean", "points"])
def test_networks_that_diverge_have_solved_nothing(tasks):
    """Weights that grow without bounds end as NaN, which is not above ½: of a constant function the right answer."""
    lifetime = Lifetime(
        rule=Polynomial(terms=("pre*modulator", "weight"), initial={"weight": 0.5}),
        circuit=Recurrent(activation="identity"),
        tasks=tasks,
        inner_loop=InnerLoop(steps=200, weight_bound=2.0),
    )
    theta = lifetime.init_theta(jax.random.key(0))
    seen = learning_curves(lifetime, theta, small.split(tasks, 0).test, jax.random.key(1), 16, (1, 200))
    np.testing.assert_array_equal(seen.metrics[primary_metric(tasks)][:, -1], 0.0)
    np.testing.assert_array_equal(seen.metrics["diverged"][:, 1:], [[0.0, 1.0]] * 16)


def test_tasks_are_the_same_if_they_differ_in_labels_order_or_examples_alone():
    def met(tasks, count=64):
        pool = small.split(tasks, 0).test
        return np.asarray(jax.vmap(lambda index: task_id(tasks, pool, index))(jnp.arange(count))), pool

    functions, pool = met(Boolean(inputs=2))
    np.testing.assert_array_equal(functions, np.tile(pool.members[:8], 8))
    assert np.unique(met(Boolean(inputs=2, split_by="leave_one_out"))[0]).size == 1
    assert np.unique(met(Points())[0]).size == 64
    # Three of four held-out digits, in any order.
    classes, pool = met(Tabular(ways=3, test_classes=4))
    assert {int(one) for one in classes} == {sum(2 ** int(one) for one in pool if one != left) for left in pool}
    assert np.unique(met(Tabular(dataset="iris", test_classes="all", train_examples=5, test_examples=5))[0]).size == 1
    assert np.unique(met(Tabular(ways=3, test_classes=4, features=8))[0]).size == 64
