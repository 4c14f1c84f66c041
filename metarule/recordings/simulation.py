"""Recordings of simulated animals, which learn by a known rule."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from msgspec import Meta, Struct

from metarule.circuits import AnyCircuit, Feedforward
from metarule.circuits.base import target_dependent
from metarule.config.schema import Checked
from metarule.lifetime.inner_loop import InnerLoop
from metarule.lifetime.learner import Lifetime
from metarule.prng import Purpose, run_key, stream
from metarule.protocols import Activated, Circuit, Rule
from metarule.recordings.animals import Animal
from metarule.recordings.environments import Trials
from metarule.recordings.rewards import centred
from metarule.recordings.settings import Simulation
from metarule.rules import MLP, Polynomial
from metarule.rules.lifting import local_variables
from metarule.types import Integer, LifetimeContext, Metrics, PRNGKey, Split, Stimulus, Theta

__all__ = ["SimulationExperiment", "simulate", "truth"]

# Most numbers of all recordings together, a gibibyte.
_MOST = 2**27


class SimulationExperiment(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a simulation.

    Attributes:
        seed: seed of all random numbers.
        rule: Δw = f(local variables; θ), with the initial θ.
        circuit: neurons and their projections.
        simulation: animals, their environment, and what is recorded.

    Raises:
        ValueError: components that do not fit together.
    """

    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    rule: Annotated[Polynomial | MLP, Meta(extra={"protocol": Rule})] = Polynomial(
        terms=("oja",), initial={"oja": 0.02}
    )
    circuit: Annotated[AnyCircuit, Meta(extra={"protocol": Circuit})] = Feedforward(
        hidden=(), output="identity", bias=False, feedback="zero"
    )
    simulation: Simulation = Simulation()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choices(self.simulation, self.circuit)
        _ = self.lifetime
        _check_variables(self)
        with jax.enable_x64(True):  # as `simulate`, which need not trace again
            theta = jax.eval_shape(lambda: self.theta)
            shapes = jax.eval_shape(partial(_simulated, self.simulation, self.lifetime), theta, run_key(0))
        if (numbers := sum(leaf.size for leaf in jax.tree.leaves(shapes))) > _MOST:
            raise ValueError(f"simulation: {numbers} numbers of all animals together; allowed: up to {_MOST}")

    @property
    def lifetime(self) -> Lifetime:
        """The learner; its weights are not bounded."""
        tasks, inner_loop = _Environment(self.simulation), InnerLoop(steps=self.simulation.steps, weight_bound=math.inf)
        return Lifetime(rule=self.rule, circuit=self.circuit, tasks=tasks, inner_loop=inner_loop)

    @property
    def theta(self) -> Theta:
        """θ of the rule, which is its initial one."""
        return self.rule.init(stream(run_key(self.seed), Purpose.THETA))


class _Environment(Struct, frozen=True):
    """Task family whose tasks are the trials of animals; targets and rewards follow the choices, outside of it."""

    settings: Simulation

    @property
    def inputs(self) -> int:
        return self.settings.inputs

    @property
    def outputs(self) -> int:
        return self.settings.outputs

    def split(self, seed: Integer) -> Split:
        return Split(jnp.zeros(1), jnp.zeros(1))

    def sample(self, key: PRNGKey, pool: Any, index: Integer) -> Trials:
        return self.settings.trials(key)

    def stimulus(self, task: Trials, t: Integer, key: PRNGKey) -> Stimulus:
        return Stimulus(task.inputs[t], jnp.zeros(self.outputs))

    def examples(self, task: Trials) -> Stimulus:
        return Stimulus(task.inputs, jnp.zeros((self.settings.steps, self.outputs)))

    def loss(self, output: Float[Array, " outputs"], target: Float[Array, " outputs"]) -> Float[Array, ""]:
        return jnp.zeros((), output.dtype)

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n outputs"]) -> Metrics:
        return {}


class _Track(NamedTuple):
    """Recording of one animal, or of all along a leading axis, as arrays of JAX or of NumPy.

    Attributes:
        inputs: activity of the input neurons [steps, inputs].
        activity: activity of the recorded neurons [steps, neurons], if it is recorded.
        weights: weights before each step by projection [steps, pre, post], if they are recorded.
        choices: whether the choice was 1 [steps], if animals choose.
        rewards: reward after each choice [steps], NaN where none was given, if there are rewards.
        plastic: whether a reward was given [steps], if there are rewards.
        is_finite: whether activity and new weights were finite [steps].
        initial_weights: weights before the first step by projection [pre, post].
    """

    inputs: Any
    activity: Any
    weights: tuple[Any, ...]
    choices: Any
    rewards: Any
    plastic: Any
    is_finite: Any
    initial_weights: tuple[Any, ...] = ()


def simulate(experiment: SimulationExperiment, key: PRNGKey | None = None) -> tuple[Animal, ...]:
    """Simulate animals that learn by the rule of an experiment, in double precision.

    Args:
        experiment: rule, circuit and animals.
        key: source of weights, inputs, choices and noise; by default that of the seed.

    Returns:
        Recordings, one an animal; the first ones do not depend on the number of animals.

    Raises:
        ValueError: a network whose weights or activity are not finite.
    """
    settings = experiment.simulation
    with jax.enable_x64(True):
        key = stream(run_key(experiment.seed), Purpose.SIMULATION) if key is None else key
        tracks = jax.device_get(_simulated(settings, experiment.lifetime, experiment.theta, key))
    names = [f"animal-{number + 1:0{len(str(settings.animals))}d}" for number in range(settings.animals)]
    if not tracks.is_finite.all():
        number, step = np.argwhere(~tracks.is_finite)[0]
        allowed = "allowed: coefficients and inputs with which weights stay finite"
        raise ValueError(f"rule: {names[number]} diverged at step {step}; {allowed}")
    single = [jax.tree.map(lambda leaf, number=number: leaf[number], tracks) for number in range(settings.animals)]
    return tuple(_animal(settings, *pair) for pair in zip(names, single, strict=True))


def truth(experiment: SimulationExperiment) -> dict[str, Any]:
    """Equation of the rule and its parameters by name."""
    with jax.enable_x64(True):
        lifetime, theta = experiment.lifetime, experiment.theta
        coefficients: Mapping[str, Any] = lifetime.describe(theta)
        named = {name: float(value) for name, value in coefficients.items()}
        return {"equation": lifetime.equation(theta), "coefficients": named}


def _animal(settings: Simulation, name: str, track: _Track) -> Animal:
    session = np.arange(settings.steps) // (settings.steps // settings.sessions)
    initial = dict(enumerate(track.initial_weights)) if settings.initial_weights == "recorded" else {}
    return Animal(
        name,
        track.inputs,
        activity=track.activity,
        weights=dict(enumerate(track.weights)),
        choices=None if track.choices is None else track.choices.astype(int),
        rewards=track.rewards,
        plastic=None if track.plastic is None else track.plastic.astype(int),
        session=session if settings.sessions > 1 else None,
        initial_weights=initial,
    )


@partial(jax.jit, static_argnums=(0, 1))  # not the seed, so that all seeds share a program
def _simulated(settings: Simulation, learner: Lifetime, theta: Theta, key: PRNGKey) -> _Track:
    """Recordings of all animals, along the leading axis of each array."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(settings.animals))
    return jax.vmap(partial(_recording, settings, learner, theta))(keys)


def _recording(settings: Simulation, learner: Lifetime, theta: Theta, key: PRNGKey) -> _Track:
    network_key, choice_key, noise_key, trials_key = jax.random.split(key, 4)
    trials = learner.tasks.sample(trials_key, (), 0)
    context, state = learner.init(theta, network_key, trials)
    draws = jax.random.uniform(choice_key, (settings.steps,))
    step = partial(_step, settings, learner, theta, context)
    start = state, jnp.zeros((), draws.dtype)
    _, track = jax.lax.scan(step, start, (jnp.arange(settings.steps), draws))
    activity, weights = _observed(settings, noise_key, track.activity, track.weights)
    return track._replace(inputs=trials.inputs, activity=activity, weights=weights, initial_weights=state.weights)


def _step(
    settings: Simulation, learner: Lifetime, theta: Theta, context: LifetimeContext, carry: Any, given: Any
) -> tuple[Any, _Track]:
    """Respond, choose, get the reward, and learn."""
    (state, average), (t, draw) = carry, given
    restart = t % (settings.steps // settings.sessions) == 0
    stimulus = learner.stimulus(context, t)._replace(restart=restart.astype(draw.dtype))
    choice: Any = None
    reward: Any = None
    plastic: Any = None
    if settings.has_choices:
        probability = learner.step(theta, context, state, stimulus)[1].output[0]
        choice = draw < probability
        stimulus = stimulus._replace(target=jnp.full(settings.outputs, choice, draw.dtype))
    if settings.is_rewarded:
        reward = context.task.payoffs[t, choice.astype(int)]
        plastic = ~jnp.isnan(reward)
        third = jnp.where(plastic, reward, 0.0)
        if settings.reward == "centred":
            third, average = centred(reward, average, settings.reward_decay)
        stimulus = stimulus._replace(reward=third, plasticity=plastic.astype(draw.dtype))
    after, seen = learner.step(theta, context, state, stimulus)
    is_finite = jnp.stack([jnp.all(jnp.isfinite(array)) for array in (seen.output, *after.weights)]).all()
    weights = state.weights if "weights" in settings.record else ()
    return (after, average), _Track((), seen.output, weights, choice, reward, plastic, is_finite)


def _observed(
    settings: Simulation,
    key: PRNGKey,
    output: Float[Array, "steps outputs"],
    weights: tuple[Float[Array, "steps _ _"], ...],
) -> tuple[Float[Array, "steps neurons"] | None, tuple[Float[Array, "steps _ _"], ...]]:
    """Recorded activity and weights, with noise and gaps."""
    activity_key, missing_key, *keys = jax.random.split(key, 2 + len(weights))
    noisy = [w + settings.weight_noise * jax.random.normal(one, w.shape) for one, w in zip(keys, weights, strict=True)]
    if "activity" not in settings.record:
        return None, tuple(noisy)
    activity = output[:, jnp.array(settings.neurons or range(settings.outputs))]
    activity += settings.activity_noise * jax.random.normal(activity_key, activity.shape)
    gaps = jax.random.bernoulli(missing_key, settings.missing, activity.shape)
    return jnp.where(gaps, jnp.nan, activity), tuple(noisy)


def _check_choices(settings: Simulation, circuit: Any) -> None:
    """Refuse choices without a single neuron whose activity is a probability."""
    if not settings.has_choices:
        return
    if settings.outputs != 1:
        raise ValueError(f"simulation.outputs = {settings.outputs}: allowed: 1, because animals choose")
    if isinstance(circuit, Activated) and circuit.output != "sigmoid":
        raise ValueError(f"circuit.output = '{circuit.output}': allowed: sigmoid, the probability of a choice of 1")


def _check_variables(experiment: SimulationExperiment) -> None:
    """Refuse a rule that reads a target or a reward where there is none."""
    settings = experiment.simulation
    dependent = target_dependent(experiment.circuit, settings.inputs, settings.outputs)
    unknown = [name for name in local_variables(experiment.rule) if name in dependent]
    if "neuromodulator" in unknown and not settings.is_rewarded:
        allowed = "simulation.environment odours or discrimination"
        raise ValueError(f"rule: it reads neuromodulator, and no reward is given; allowed: {allowed}")
    if unknown and not settings.has_choices:
        allowed = "simulation.environment odours or discrimination, or choices in simulation.record"
        raise ValueError(f"rule: it reads {' and '.join(unknown)}, and there are no targets; allowed: {allowed}")
