"""The stated problem and those of configs in metarule, assembled as a user would."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Struct
from msgspec.structs import replace

from benchmarks.speeds.problem import BOUND, THETA, Lifetimes, Size
from benchmarks.timing import Program, compiled
from metarule import Feedforward, InnerLoop, Lifetime, Polynomial
from metarule.config.toml import ConfigError
from metarule.estimators.base import gradient_chunk_size
from metarule.estimators.reverse import Reverse
from metarule.kernels import why_not
from metarule.lifetime.unroll import segment_loss
from metarule.meta.gradient import Gradient
from metarule.meta.training_tasks import draw_lifetime
from metarule.parallel.batching import batch_lifetimes
from metarule.parallel.devices import sharded_jit
from metarule.prng import run_key
from metarule.protocols import Rule
from metarule.rules.lifting import complete
from metarule.runs.experiment import Experiment
from metarule.tasks.losses import BINARY_CROSS_ENTROPY, ActivatedLoss
from metarule.types import Integer, LearnerState, LifetimeContext, Metrics, PRNGKey, Split, Stimulus, Theta

__all__ = [
    "SEVEN",
    "Given",
    "Prepared",
    "descent",
    "gradients",
    "initial",
    "learner",
    "prepared",
    "prepared_experiment",
    "stated",
]


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


# Call of a kernel in the text of a program.
_KERNEL = 'custom_call_target="metarule_loop_'
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


class Prepared(NamedTuple):
    """Gradients that are ready to be computed.

    Attributes:
        call: returns losses and ∂loss/∂θ of every lifetime when all is done.
        seconds: for building the program.
        temporary_bytes: on all devices together.
        why_left: finds the reason for which the time loop is left to XLA; empty if the program has a kernel.
    """

    call: Callable[[], tuple[Array, Theta]]
    seconds: float
    temporary_bytes: int
    why_left: Callable[[], str]


def prepared(size: Size, bound: float, rule: Rule, lifetimes: Lifetimes) -> Prepared:
    """Compile the gradients of drawn lifetimes."""
    lifetime = learner(size, bound, rule)
    return _prepared(lifetime, rule.init(run_key(0)), *initial(lifetime, lifetimes))


def descent(experiment: Experiment) -> Gradient:
    """Read the optimiser of an experiment.

    Raises:
        ConfigError: it does not descend gradients by reverse mode.
    """
    optimizer = experiment.optimizer
    if isinstance(optimizer, Gradient) and isinstance(optimizer.estimator, Reverse):
        return optimizer
    raise ConfigError("optimizer: allowed: kind 'gradient' with the estimator 'reverse'")


def prepared_experiment(experiment: Experiment) -> Prepared:
    """Compile the gradients of the first meta-step of an experiment."""
    lifetime, optimizer, pool = experiment.lifetime, descent(experiment), experiment.split.train

    def first(number: Integer) -> tuple[LifetimeContext, LearnerState]:
        among = optimizer.train_tasks, optimizer.batch_size
        task, key = draw_lifetime(lifetime, pool, *among, 0, number, run_key(experiment.seed))
        return lifetime.init(lifetime.init_theta(key), key, task)

    started = jax.jit(jax.vmap(first))(jnp.arange(optimizer.batch_size))
    return _prepared(lifetime, lifetime.init_theta(run_key(experiment.seed)), *started)


def _prepared(lifetime: Lifetime, theta: Theta, context: LifetimeContext, state: LearnerState) -> Prepared:
    given = theta, context, state
    jax.clear_caches()  # what was traced for other programs would save time
    program = compiled(gradients(lifetime), *given)
    why_left = partial(_why_left, program, lifetime, *given)
    return Prepared(partial(program.run, *given), program.seconds, program.temporary_bytes * program.devices, why_left)


def _why_left(program: Program, lifetime: Lifetime, theta: Theta, context: LifetimeContext, state: LearnerState) -> str:
    if _KERNEL in program.text():
        return ""
    reasons = list[str]()

    def scan(body: Callable[[Any, Any], Any], carry: Any, xs: Any) -> tuple[Any, Any]:
        reasons.append(why_not(body, carry, xs))
        return jax.lax.scan(body, carry, xs)

    def loss(context: LifetimeContext, state: LearnerState) -> Array:
        return segment_loss(lifetime, theta, context, state, 0, lifetime.steps, scan)[0]

    jax.eval_shape(jax.vmap(loss), context, state)
    return reasons[0] or "steps are not differentiated one by one"


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
