import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, curves, delta, final_metrics, live

KEY = jax.random.key(0)
LIFE = delta(
    Lifetime(
        rule=Polynomial(),
        circuit=Feedforward(hidden=(4,)),
        tasks=Boolean(inputs=2),
        inner_loop=InnerLoop(presentations=50),
    )
)
POOL = LIFE.tasks.split(0).test
THETA = jnp.array([0.3])


@pytest.mark.parametrize("points", [1, 3, 50])
def test_points_are_spread_over_the_life(points):
    seen = curves(LIFE, THETA, POOL, KEY, 4, points)
    np.testing.assert_array_equal(seen.presentations, np.round(np.linspace(0, 50, points + 1)))
    assert seen.metrics["solved"].shape == (4, points + 1)


def test_curves_are_those_of_lives_lived_one_by_one():
    seen = curves(LIFE, THETA, POOL, KEY, 5, 2)

    @jax.jit
    def alone(number):
        task_key, life_key = jax.random.split(jax.random.fold_in(KEY, number))
        life, carry = LIFE.birth(life_key, LIFE.tasks.sample(task_key, POOL, number))
        ends = [live(LIFE, THETA, life, carry, jnp.arange(end))[0] for end in (0, 25, 50)]
        return [LIFE.assess(THETA, life, lived)[1]["accuracy"] for lived in ends]

    for number in range(5):
        np.testing.assert_array_equal(seen.metrics["accuracy"][number], alone(number))


def test_more_lives_begin_with_the_same_lives():
    few, many = (final_metrics(LIFE, THETA, POOL, KEY, lives) for lives in (7, 300))
    np.testing.assert_array_equal(few["accuracy"], many["accuracy"][:7])
    assert many["accuracy"].shape == (300,)


def test_learning_raises_the_score():
    scores = curves(LIFE, THETA, POOL, KEY, 64, 1).metrics["accuracy"]
    assert scores[:, -1].mean() > scores[:, 0].mean() + 0.2
