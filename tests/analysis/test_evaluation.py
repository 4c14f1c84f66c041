import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from msgspec.structs import replace

from metarule import (
    Boolean,
    Feedforward,
    InnerLoop,
    Lifetime,
    Points,
    Polynomial,
    Recurrent,
    Tabular,
    backprop,
    delta_rule,
    evaluate,
    final_metrics,
    learning_curves,
    unroll,
)
from metarule.analysis.evaluation import paired_curves
from metarule.tasks.base import primary_metric, task_id

KEY = jax.random.key(0)
LEARNER = delta_rule(
    Lifetime(
        rule=Polynomial(), circuit=Feedforward(hidden=(4,)), tasks=Boolean(inputs=2), inner_loop=InnerLoop(steps=50)
    )
)
POOL = LEARNER.tasks.split(0).test
THETA = jnp.array([0.3])


@pytest.mark.parametrize("points", [1, 3, 50])
def test_points_are_evenly_spaced(points):
    curves = learning_curves(LEARNER, THETA, POOL, KEY, 4, points)
    np.testing.assert_array_equal(curves.steps, np.round(np.linspace(0, 50, points + 1)))
    assert curves.metrics["solved"].shape == (4, points + 1)


def test_curves_equal_those_of_single_lifetimes():
    curves = learning_curves(LEARNER, THETA, POOL, KEY, 5, 2)

    @jax.jit
    def expected(number):
        task_key, lifetime_key = jax.random.split(jax.random.fold_in(KEY, number))
        context, state = LEARNER.init(THETA, lifetime_key, LEARNER.tasks.sample(task_key, POOL, number))
        ends = [unroll(LEARNER, THETA, context, state, jnp.arange(end))[0] for end in (0, 25, 50)]
        return [LEARNER.evaluate(THETA, context, state)[1]["accuracy"] for state in ends]

    for number in range(5):
        np.testing.assert_array_equal(curves.metrics["accuracy"][number], expected(number))


def test_curves_of_several_learners_equal_those_of_each_alone():
    learners, thetas = (LEARNER, backprop(LEARNER), LEARNER), (THETA, THETA, 0 * THETA)
    together = paired_curves(learners, thetas, POOL, KEY, 6, (10, 50), 3)
    for learner, theta, curves in zip(learners, thetas, together, strict=True):
        alone = learning_curves(learner, theta, POOL, KEY, 6, (10, 50), 3)
        jax.tree.map(np.testing.assert_array_equal, curves, alone)
    other = replace(LEARNER, tasks=Boolean(inputs=2, functions="separable"))
    with pytest.raises(ValueError, match="their tasks differ"):
        paired_curves((LEARNER, other), (THETA, THETA), POOL, KEY, 6, 1)
    assert together[0].metrics["accuracy"][:, -1].mean() > together[2].metrics["accuracy"][:, -1].mean()


def test_the_first_lifetimes_do_not_depend_on_their_number():
    few, many = (final_metrics(LEARNER, THETA, POOL, KEY, lifetimes) for lifetimes in (7, 300))
    np.testing.assert_array_equal(few["accuracy"], many["accuracy"][:7])
    assert many["accuracy"].shape == (300,)


def test_evaluate_has_the_means_of_final_metrics_with_the_primary_metric_first():
    means, metrics = evaluate(LEARNER, THETA, POOL, KEY, 16), final_metrics(LEARNER, THETA, POOL, KEY, 16)
    assert list(means) == ["solved", "accuracy", "diverged"]
    assert {name: float(value) for name, value in means.items()} == pytest.approx(
        {name: float(values.mean()) for name, values in metrics.items()}
    )


@pytest.mark.parametrize("statement", ["import metarule.evaluate", "from metarule.commands import evaluate"])
def test_the_name_evaluate_stays_the_function(statement):
    """`metarule.evaluate` is also the module of `python -m metarule.evaluate`."""
    program = f"import metarule as mr; {statement}; assert mr.evaluate is mr.analysis.evaluation.evaluate"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_learning_raises_the_score():
    scores = learning_curves(LEARNER, THETA, POOL, KEY, 64, 1).metrics["accuracy"]
    assert scores[:, -1].mean() > scores[:, 0].mean() + 0.2


@pytest.mark.parametrize("tasks", [Boolean(inputs=2, split_by="none"), Points()], ids=["boolean", "points"])
def test_diverged_networks_have_solved_nothing(tasks):
    """NaN is not above ½, which is the right answer for a constant function."""
    lifetime = Lifetime(
        rule=Polynomial(terms=("pre*modulator", "weight"), initial={"weight": 0.5}),
        circuit=Recurrent(activation="identity"),
        tasks=tasks,
        inner_loop=InnerLoop(steps=200, weight_bound=2.0),
    )
    theta = lifetime.init_theta(jax.random.key(0))
    curves = learning_curves(lifetime, theta, small.split(tasks, 0).test, jax.random.key(1), 16, (1, 200))
    np.testing.assert_array_equal(curves.metrics[primary_metric(tasks)][:, -1], 0.0)
    np.testing.assert_array_equal(curves.metrics["diverged"][:, 1:], [[0.0, 1.0]] * 16)


def test_tasks_that_differ_only_in_labels_order_or_examples_have_one_id():
    def ids(tasks, count=64):
        pool = small.split(tasks, 0).test
        return np.asarray(jax.vmap(lambda index: task_id(tasks, pool, index))(jnp.arange(count))), pool

    functions, pool = ids(Boolean(inputs=2))
    np.testing.assert_array_equal(functions, np.tile(pool.members[:8], 8))
    assert np.unique(ids(Boolean(inputs=2, split_by="leave_one_out"))[0]).size == 1
    assert np.unique(ids(Points())[0]).size == 64
    # Three of four held-out digits, in any order.
    classes, pool = ids(Tabular(ways=3, test_classes=4))
    assert {int(one) for one in classes} == {sum(2 ** int(one) for one in pool if one != left) for left in pool}
    assert np.unique(ids(Tabular(dataset="iris", test_classes="all", train_examples=5, test_examples=5))[0]).size == 1
    assert np.unique(ids(Tabular(ways=3, test_classes=4, features=8))[0]).size == 64
