"""The stated problem in metarule: its components put together as any user would."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Struct

from benchmarks.speeds.problem import Lives, Size
from metarule import Feedforward, InnerLoop, Lifetime, Polynomial
from metarule.estimators.base import gradient_chunk_size
from metarule.estimators.reverse import Reverse
from metarule.parallel.batching import batch_lifetimes
from metarule.parallel.devices import sharded_jit
from metarule.prng import run_key
from metarule.rules.lifting import complete
from metarule.tasks.losses import BINARY_CROSS_ENTROPY, ActivatedLoss
from metarule.types import Integer, LearnerState, LifetimeContext, Metrics, PRNGKey, Rule, Split, Stimulus, Theta

__all__ = ["SEVEN", "Given", "born", "gradients", "learner"]

SEVEN = Polynomial(terms=("1", "pre", "potential", "modulator", "pre*modulator", "pre*potential", "pre*weight"))


class Given(Struct, frozen=True, kw_only=True):
    """Tasks that are the steps themselves, and of which one alone is assessed.

    Attributes:
        inputs: numbers in an input.
        outputs: numbers in a target.
    """

    inputs: int
    outputs: int

    def split(self, seed: Integer) -> Split:
        """Nothing is drawn."""
        return Split(train=jnp.zeros(()), test=jnp.zeros(()))

    def sample(self, key: PRNGKey, pool: Any, index: Integer) -> Stimulus:
        """A task without meaning, for its shape alone."""
        return Stimulus(jnp.zeros((1, self.inputs)), jnp.zeros((1, self.outputs)))

    def stimulus(self, task: Stimulus, t: Integer, key: PRNGKey) -> Stimulus:
        """The step whose turn it is."""
        return jax.tree.map(lambda leaf: leaf[t], task)

    def examples(self, task: Stimulus) -> Stimulus:
        """The first of them, for something has to be assessed."""
        return jax.tree.map(lambda leaf: leaf[:1], task)

    @property
    def loss(self) -> ActivatedLoss:
        """Binary cross-entropy."""
        return BINARY_CROSS_ENTROPY

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n outputs"]) -> Metrics:
        """None."""
        return {}


def learner(size: Size, bound: float, rule: Rule = SEVEN) -> Lifetime:
    """Who lives: one hidden layer, a fixed random way back, and the loss along the way."""
    return Lifetime(
        rule=rule,
        circuit=Feedforward(hidden=(size.hidden,)),
        tasks=Given(inputs=size.inputs, outputs=size.outputs),
        inner_loop=InnerLoop(steps=size.steps, weight_bound=bound, online_loss_weight=1.0),
    )


def born(who: Lifetime, lifetimes: Lives) -> tuple[LifetimeContext, LearnerState]:
    """Networks with the weights that are drawn, about to meet what is drawn."""
    first, second, feedback, inputs, targets = map(jnp.asarray, lifetimes)
    keys = jax.random.split(run_key(0), len(first))
    memory = jax.vmap(lambda *weights: tuple(map(complete(who.rule).memory, weights)))(first, second)
    return LifetimeContext(Stimulus(inputs, targets), (feedback,), keys), LearnerState((first, second), memory, ())


def gradients(who: Lifetime) -> Callable[[Theta, LifetimeContext, LearnerState], tuple[Float[Array, " lives"], Theta]]:
    """Build the function of losses and their gradients, which is compiled once called.

    Args:
        who: the learner.

    Returns:
        From θ and what `born` gives to losses and ∂loss/∂θ of every lifetime.
    """

    @sharded_jit()
    def every(theta: Theta, context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, " lives"], Theta]:
        def one(context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, ""], Theta]:
            estimate = Reverse().from_start(who, theta, context, state)
            return estimate.loss, estimate.gradient

        first = jax.tree.map(lambda leaf: leaf[0], state)
        return batch_lifetimes(one, gradient_chunk_size(Reverse(), who, first))(context, state)

    return every
