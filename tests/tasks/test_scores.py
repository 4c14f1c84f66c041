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
    """Right answers, where there are any, to the assessed examples of a task; and what is wanted."""
    wanted = tasks.examples(tasks.sample(jax.random.key(0), tasks.split(0).train, 0)).target
    return wanted[:, : tasks.outputs], wanted


@pytest.mark.parametrize("tasks", FAMILIES, ids=lambda one: type(one).__name__)
def test_a_network_that_diverged_has_solved_nothing(tasks):
    score = jax.jit(lambda weights, *answers: scores_of(tasks, weights, *answers))
    output, wanted = jax.jit(lambda: outputs_and_targets(tasks))()
    weights = (jnp.ones((2, 2)), jnp.ones((2, 1)))
    alive = score(weights, output, wanted)
    assert alive[primary_metric(tasks)] > 0.6
    assert alive["diverged"] == 0
    assert {name: float(value) for name, value in alive.items() if name != "diverged"} == pytest.approx(
        {name: float(value) for name, value in tasks.metrics(output, wanted).items()}, rel=1e-5
    )
    broken = [(weights, jnp.full_like(output, jnp.nan)), (weights, output.at[0, 0].set(jnp.inf))]
    broken += [((weights[0].at[1, 1].set(value), weights[1]), output) for value in (jnp.nan, -jnp.inf)]
    for numbers, answers in broken:
        dead = score(numbers, answers, wanted)
        assert (dead[primary_metric(tasks)], dead["diverged"]) == (0, 1)
        assert all(np.isnan(value) for name, value in dead.items() if name not in (primary_metric(tasks), "diverged"))


def test_no_family_measures_what_every_network_is_measured_by():
    class Other(Boolean):
        def metrics(self, output, target):
            return {"solved": jnp.ones(()), "diverged": jnp.zeros(())}

    with pytest.raises(ValueError, match="'diverged' is no name for a metric"):
        scores_of(Other(inputs=2), (), jnp.ones((4, 1)), jnp.ones((4, 1)))
