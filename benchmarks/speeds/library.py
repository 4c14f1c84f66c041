"""The stated problem in metarule, assembled as a user would."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from benchmarks.speeds.given import Given
from benchmarks.speeds.problem import Lifetimes, Size
from metarule import Feedforward, InnerLoop, Lifetime, Polynomial
from metarule.estimators.base import gradient_chunk_size
from metarule.estimators.reverse import Reverse
from metarule.parallel.batching import batch_lifetimes
from metarule.parallel.devices import sharded_jit
from metarule.prng import run_key
from metarule.protocols import Rule
from metarule.rules.lifting import complete
from metarule.types import LearnerState, LifetimeContext, Stimulus, Theta

__all__ = ["SEVEN", "Given", "gradients", "initial", "learner"]

SEVEN = Polynomial(terms=("1", "pre", "potential", "modulator", "pre*modulator", "pre*potential", "pre*weight"))


def learner(size: Size, bound: float, rule: Rule = SEVEN) -> Lifetime:
    """Lifetime of a network with one hidden layer and a fixed random feedback path; the meta-loss is of all steps."""
    return Lifetime(
        rule=rule,
        circuit=Feedforward(hidden=(size.hidden,)),
        tasks=Given(inputs=size.inputs, outputs=size.outputs),
        inner_loop=InnerLoop(steps=size.steps, weight_bound=bound, online_loss_weight=1.0),
    )


def initial(lifetime: Lifetime, lifetimes: Lifetimes) -> tuple[LifetimeContext, LearnerState]:
    """Context and initial state of drawn lifetimes."""
    first, second, feedback, inputs, targets = map(jnp.asarray, lifetimes)
    keys = jax.random.split(run_key(0), len(first))
    memory = jax.vmap(lambda *weights: tuple(map(complete(lifetime.rule).memory, weights)))(first, second)
    return LifetimeContext(Stimulus(inputs, targets), (feedback,), keys), LearnerState((first, second), memory, ())


def gradients(
    lifetime: Lifetime,
) -> Callable[[Theta, LifetimeContext, LearnerState], tuple[Float[Array, " lifetimes"], Theta]]:
    """Build the function of losses and gradients, compiled when it is first called.

    Args:
        lifetime: of each network.

    Returns:
        Function of θ and of what `initial` returns; it returns losses and ∂loss/∂θ of every lifetime.
    """

    @sharded_jit()
    def every(theta: Theta, context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, " lifetimes"], Theta]:
        def one(context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, ""], Theta]:
            estimate = Reverse().from_start(lifetime, theta, context, state)
            return estimate.loss, estimate.gradient

        first = jax.tree.map(lambda leaf: leaf[0], state)
        return batch_lifetimes(one, gradient_chunk_size(Reverse(), lifetime, first))(context, state)

    return every
