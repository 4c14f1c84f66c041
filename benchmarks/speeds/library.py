"""The stated problem in metarule, assembled as a user would."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Struct
from msgspec.structs import replace

from benchmarks.speeds.problem import BOUND, THETA, Lifetimes, Size
from benchmarks.timing import compiled
from metarule import Feedforward, InnerLoop, Lifetime, Polynomial
from metarule.estimators.base import gradient_chunk_size
from metarule.estimators.reverse import Reverse
from metarule.parallel.batching import batch_lifetimes
from metarule.parallel.devices import sharded_jit
from metarule.prng import run_key
from metarule.protocols import Rule
from metarule.rules.lifting import complete
from metarule.tasks.losses import BINARY_CROSS_ENTROPY, ActivatedLoss
from metarule.types import Integer, LearnerState, LifetimeContext, Metrics, PRNGKey, Split, Stimulus, Theta

__all__ = ["SEVEN", "Given", "gradients", "initial", "learner", "prepared", "stated"]


class Given(Struct, frozen=True, kw_only=True):
    """Tasks that are lists of stimuli, repeated in order; sampled ones have random linear teachers, one an output.

    Attributes:
        inputs: numbers in an input.
        outputs: numbers in a target.
        count: stimuli of a sampled task, and first stimuli of any that are evaluated.
    """

    inputs: int
    outputs: int
    count: int = 1

    @property
    def loss(self) -> ActivatedLoss:
        """Binary cross-entropy."""
        return BINARY_CROSS_ENTROPY

    def split(self, seed: Integer) -> Split:
        """Pools are numbers that are folded into the key of a task."""
        return Split(train=jnp.zeros((), int), test=jnp.ones((), int))

    def sample(self, key: PRNGKey, pool: Any, index: Integer) -> Stimulus:
        """Draw inputs and their teachers."""
        input_key, teacher_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, pool), index))
        signals = jax.random.normal(input_key, (self.count, self.inputs)) / self.inputs**0.5
        teachers = jax.random.normal(teacher_key, (self.inputs, self.outputs))
        return Stimulus(signals, jnp.asarray(signals @ teachers > 0, float))

    def stimulus(self, task: Stimulus, t: Integer, key: PRNGKey) -> Stimulus:
        """Stimulus t, modulo their number."""
        return jax.tree.map(lambda leaf: leaf[t % len(leaf)], task)

    def examples(self, task: Stimulus) -> Stimulus:
        """The first stimuli."""
        return jax.tree.map(lambda leaf: leaf[: self.count], task)

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n outputs"]) -> Metrics:
        """None."""
        return {}


def stated(*terms: str) -> Polynomial:
    """A rule that starts with the coefficients of the stated problem, as far as it has its terms."""
    rule = Polynomial(terms=terms)
    known = dict(zip(_TERMS, THETA, strict=True))
    return replace(rule, initial={name: known[name] for name in rule.names if name in known})


_TERMS = ("1", "pre", "potential", "modulator", "pre*modulator", "pre*potential", "pre*weight")
SEVEN = stated(*_TERMS)


def learner(size: Size, bound: float = BOUND, rule: Rule = SEVEN) -> Lifetime:
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


def prepared(size: Size, bound: float, rule: Rule, lifetimes: Lifetimes) -> tuple[Callable[[], Any], int]:
    """Compile the gradients of drawn lifetimes: (call, its temporary bytes on all devices together)."""
    lifetime, theta = learner(size, bound, rule), rule.init(run_key(0))
    given = theta, *initial(lifetime, lifetimes)
    program = compiled(gradients(lifetime), *given)
    return partial(program.run, *given), program.temporary_bytes * program.devices


def gradients(lifetime: Lifetime) -> Callable[[Theta, LifetimeContext, LearnerState], tuple[Array, Theta]]:
    """Build the compiled function from θ, contexts and states to losses and ∂loss/∂θ of every lifetime."""

    @sharded_jit()
    def every(theta: Theta, context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, " lifetimes"], Theta]:
        def one(context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, ""], Theta]:
            estimate = Reverse().from_start(lifetime, theta, context, state)
            return estimate.loss, estimate.gradient

        first = jax.tree.map(lambda leaf: leaf[0], state)
        return batch_lifetimes(one, gradient_chunk_size(Reverse(), lifetime, first))(context, state)

    return every
