import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Boolean, Conditioning, Points, Tabular
from metarule.tasks.base import primary_metric
from metarule.tasks.scores import scores_of

FAMILIES = [
    Boolean(inputs=2),
    Points(train_examples=3, test_examples=3),
    Tabular(train_examples=3, test_examples=3),
    Conditioning(),
]


def outputs_and_targets(tasks):
    """Right outputs to the examples of a task, and the targets."""
    target = tasks.examples(tasks.sample(jax.random.key(0), tasks.split(0).train, 0)).target
    return target[:, : tasks.outputs], target


@pytest.mark.parametrize("tasks", FAMILIES, ids=lambda one: type(one).__name__)
def test_a_diverged_network_has_solved_nothing(tasks):
    score = jax.jit(lambda weights, output, target: scores_of(tasks, tasks.metrics(output, target), (output, weights)))
    output, target = jax.jit(lambda: outputs_and_targets(tasks))()
    weights = (jnp.ones((2, 2)), jnp.ones((2, 1)))
    scores = score(weights, output, target)
    assert scores[primary_metric(tasks)] > 0.6
    assert scores["diverged"] == 0
    assert {name: float(value) for name, value in scores.items() if name != "diverged"} == pytest.approx(
        {name: float(value) for name, value in tasks.metrics(output, target).items()}, rel=1e-5
    )
    broken = [(weights, jnp.full_like(output, jnp.nan)), (weights, output.at[0, 0].set(jnp.inf))]
    broken += [((weights[0].at[1, 1].set(value), weights[1]), output) for value in (jnp.nan, -jnp.inf)]
    for some_weights, some_output in broken:
        diverged = score(some_weights, some_output, target)
        assert (diverged[primary_metric(tasks)], diverged["diverged"]) == (0, 1)
        assert all(
            np.isnan(value) for name, value in diverged.items() if name not in (primary_metric(tasks), "diverged")
        )


def test_the_metric_diverged_is_reserved():
    metrics = {"solved": jnp.ones(()), "diverged": jnp.zeros(())}
    with pytest.raises(ValueError, match="metric 'diverged' is reserved"):
        scores_of(Boolean(inputs=2), metrics, ())
