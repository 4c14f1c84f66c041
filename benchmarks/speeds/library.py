"""The stated problem in metarule: its components put together as any user would."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Struct

from benchmarks.speeds.problem import Lives, Size
from metarule import Feedforward, InnerLoop, Lifetime, Polynomial
from metarule.estimators.chunk_size import at_once
from metarule.estimators.reverse import Reverse
from metarule.parallel.batching import abreast
from metarule.parallel.devices import everywhere
from metarule.prng import run_key
from metarule.tasks.losses import binary_cross_entropy
from metarule.types import Carry, Integer, Life, Metrics, PRNGKey, Rule, Split, Stimulus, Theta

__all__ = ["SEVEN", "Given", "born", "gradients", "learner"]

SEVEN = Polynomial(terms=("1", "pre", "potential", "modulator", "pre*modulator", "pre*potential", "pre*weight"))


class Given(Struct, frozen=True, kw_only=True):
    """Tasks that are the presentations themselves, and of which one alone is assessed.

    Attributes:
        inputs: numbers in an input.
        outputs: numbers in a target.
    """

    inputs: int
    outputs: int

    @property
    def link(self) -> str:
        """Output activation that the loss is made for."""
        return "sigmoid"

    @property
    def score(self) -> str:
        """There is none: a life is judged by its loss."""
        return "none"

    @property
    def needs(self) -> int:
        """A life of any length will do."""
        return 1

    @property
    def shot(self) -> int:
        """Presentations are not in rounds."""
        return 0

    def identity(self, pool: Any, index: Integer) -> Integer:
        """No two tasks are the same."""
        return index

    def split(self, seed: Integer) -> Split:
        """Nothing is drawn."""
        return Split(train=jnp.zeros(()), test=jnp.zeros(()))

    def sample(self, key: PRNGKey, pool: Any, index: Integer) -> Stimulus:
        """A task without meaning, for its shape alone."""
        return Stimulus(jnp.zeros((1, self.inputs)), jnp.zeros((1, self.outputs)))

    def stimulus(self, task: Stimulus, time: Integer, key: PRNGKey) -> Stimulus:
        """The presentation whose turn it is."""
        return jax.tree.map(lambda leaf: leaf[time], task)

    def examples(self, task: Stimulus) -> Stimulus:
        """The first of them, for something has to be assessed."""
        return jax.tree.map(lambda leaf: leaf[:1], task)

    def loss(self, output: Float[Array, " outputs"], target: Float[Array, " outputs"]) -> Float[Array, ""]:
        """Binary cross-entropy."""
        return binary_cross_entropy(output, target)

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n outputs"]) -> Metrics:
        """None."""
        return {}


def learner(size: Size, bound: float, rule: Rule = SEVEN) -> Lifetime:
    """Who lives: one hidden layer, a fixed random way back, and the loss along the way."""
    return Lifetime(
        rule=rule,
        circuit=Feedforward(hidden=(size.hidden,)),
        tasks=Given(inputs=size.inputs, outputs=size.outputs),
        inner_loop=InnerLoop(presentations=size.presentations, weight_bound=bound, loss_along=1.0),
    )


def born(who: Lifetime, lives: Lives) -> tuple[Life, Carry]:
    """Networks with the weights that are drawn, about to meet what is drawn."""
    first, second, backward, inputs, targets = map(jnp.asarray, lives)
    keys = jax.random.split(run_key(0), len(first))
    memory = jax.vmap(lambda *weights: tuple(map(who.rule.memory, weights)))(first, second)
    return Life(Stimulus(inputs, targets), (backward,), keys), Carry((first, second), memory, ())


def gradients(who: Lifetime) -> Callable[[Theta, Life, Carry], tuple[Float[Array, " lives"], Theta]]:
    """Build the function of losses and their gradients, which is compiled once called.

    Args:
        who: the learner.

    Returns:
        From θ and what `born` gives to losses and ∂loss/∂θ of every life.
    """

    @everywhere()
    def every(theta: Theta, life: Life, carry: Carry) -> tuple[Float[Array, " lives"], Theta]:
        def one(life: Life, carry: Carry) -> tuple[Float[Array, ""], Theta]:
            estimate = Reverse().from_birth(who, theta, life, carry)
            return estimate.loss, estimate.gradient

        first = jax.tree.map(lambda leaf: leaf[0], carry)
        return abreast(one, at_once(Reverse(), who, first))(life, carry)

    return every
