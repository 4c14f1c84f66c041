"""Scores of answers along a lifetime, for tasks in a closed loop."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from metarule.types import Metrics

__all__ = ["Answers", "counted", "no_answers"]


class Answers(NamedTuple):
    """Answers so far.

    Attributes:
        number: number of answers, n.
        right: number of right ones.
        accuracy: running share of right answers; 0 before the first.
    """

    number: Int[Array, ""]
    right: Int[Array, ""]
    accuracy: Float[Array, ""]

    def scores(self) -> Metrics:
        """Running accuracy, and that of all answers so far; 0 before the first."""
        least_one = jnp.maximum(self.number, 1).astype(float)
        return {"accuracy": self.accuracy, "mean_accuracy": self.right.astype(float) / least_one}


def no_answers() -> Answers:
    """Before the first answer."""
    return Answers(number=jnp.zeros((), jnp.int32), right=jnp.zeros((), jnp.int32), accuracy=jnp.zeros(()))


def counted(answers: Answers, answering: Bool[Array, ""], right: Bool[Array, ""], window: int) -> Answers:
    """Count the answer of a step, if there is one.

    a ← a + (x − a)/min(n, window), where x is 1 for a right answer and 0 for a wrong one

    Args:
        answers: answers before the step.
        answering: whether there is an answer in this step.
        right: whether it is right.
        window: number of answers n from which on older ones are forgotten.
    """
    number = jnp.where(answering, answers.number + 1, answers.number)
    rate = 1 / jnp.clip(number, 1, window).astype(float)
    accuracy = answers.accuracy + rate * (right.astype(float) - answers.accuracy)
    return Answers(
        number=number,
        right=jnp.where(answering & right, answers.right + 1, answers.right),
        accuracy=jnp.where(answering, accuracy, answers.accuracy),
    )
