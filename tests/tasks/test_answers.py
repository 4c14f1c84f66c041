import jax
import jax.numpy as jnp
import numpy as np

from metarule.tasks.answers import counted, no_answers


def test_answers_are_counted_and_averaged_with_a_window():
    answering = jnp.array([0, 1, 1, 0, 1, 1], bool)
    right = jnp.array([1, 1, 0, 1, 0, 1], bool)
    answers, seen = jax.lax.scan(
        lambda answers, step: ((after := counted(answers, *step, 2)), after.scores()), no_answers(), (answering, right)
    )
    assert (int(answers.number), int(answers.right)) == (4, 2)
    np.testing.assert_allclose(seen["accuracy"], [0, 1, 0.5, 0.5, 0.25, 0.625])
    np.testing.assert_allclose(seen["mean_accuracy"], [0, 1, 0.5, 0.5, 1 / 3, 0.5], rtol=1e-6)


def test_scores_before_the_first_answer_are_0():
    assert {name: float(score) for name, score in no_answers().scores().items()} == {"accuracy": 0, "mean_accuracy": 0}
