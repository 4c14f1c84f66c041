"""Scores of answers along a lifetime, for tasks in a closed loop."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from metarule.types import Metrics

__all__ = ["Answers", "counted", "no_answers"]


class Answers(NamedTuple):
    """Answers so far; numbers are floats, because the derivative of a loop with integers in its state is not compiled.

    Attributes:
        number: number of answers, n.
        right: number of right ones.
        accuracy: running share of right answers; 0 before the first.
    """

    number: Float[Array, ""]
    right: Float[Array, ""]
    accuracy: Float[Array, ""]

    def scores(self) -> Metrics:
        """Running accuracy, and that of all answers so far; 0 before the first."""
        return {"accuracy": self.accuracy, "mean_accuracy": self.right / jnp.maximum(self.number, 1)}


def no_answers() -> Answers:
    """Before the first answer."""
    return Answers(number=jnp.zeros(()), right=jnp.zeros(()), accuracy=jnp.zeros(()))


def counted(answers: Answers, answering: Bool[Array, ""], right: Bool[Array, ""], window: int) -> Answers:
    """Count the answer of a step, if there is one.

    a ← a + (x − a)/min(n, window), where x is 1 for a right answer and 0 for a wrong one

    Args:
        answers: answers before the step.
        answering: whether there is an answer in this step.
        right: whether it is right.
        window: number of answers n from which on older ones are forgotten.
    """
    number, is_right = answers.number + answering.astype(float), right.astype(float)
    accuracy = answers.accuracy + (is_right - answers.accuracy) / jnp.clip(number, 1, window)
    return Answers(
        number=number,
        right=answers.right + jnp.where(answering, is_right, 0.0),
        accuracy=jnp.where(answering, accuracy, answers.accuracy),
    )
