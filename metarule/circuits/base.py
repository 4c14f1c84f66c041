"""Facts about circuits, with defaults for the abilities that a circuit lacks."""

from typing import Any

import jax
import jax.numpy as jnp

from metarule.prng import run_key
from metarule.protocols import Circuit, PartlyPlastic, Paths, SignConstrained, Stochastic
from metarule.tracing import memoised, reads, returns_as_is
from metarule.types import CircuitStep, Stimulus, Synapse

__all__ = ["is_sampled", "is_stochastic", "lower_bounds_of", "network_shapes", "offered_variables", "paths_of"]
__all__ += ["plastic_of", "sees_own_weights", "target_dependent"]


@memoised
def offered_variables(circuit: Circuit, inputs: int, outputs: int) -> tuple[str, ...]:
    """Find the local variables that all synapses of a circuit see, fields of `Synapse`, by tracing its `step`."""
    response = jax.eval_shape(circuit.step, *_shapes(circuit, inputs, outputs))
    if not isinstance(response, CircuitStep):
        raise ValueError(f"circuit: step returns a {type(response).__name__}; allowed: a CircuitStep")
    synapses = response.synapses
    return tuple(name for name in Synapse._fields if all(getattr(one, name) is not None for one in synapses))


@memoised
def target_dependent(circuit: Circuit, inputs: int, outputs: int) -> tuple[str, ...]:
    """Find the local variables that depend on the target of a stimulus without reward, by tracing `step`."""
    weights, wiring, state, stimulus = _shapes(circuit, inputs, outputs)

    def depends(name: str) -> bool:
        def local(target: Any, signal: Any, *network: Any) -> list[Any]:
            weights, wiring, state = network
            step = circuit.step(weights, wiring, state, Stimulus(signal, target))
            return [getattr(synapse, name) for synapse in step.synapses]

        return reads(local, stimulus.target, stimulus.input, weights, wiring, state)[0]

    return tuple(name for name in Synapse._fields if depends(name))


@memoised
def sees_own_weights(circuit: Circuit, inputs: int, outputs: int) -> bool:
    """Tell whether synapses see the very weights that change, none of them masked, by tracing `step`."""

    def local_weights(*arguments: Any) -> tuple[Any, ...]:
        return tuple(synapse.weight for synapse in circuit.step(*arguments).synapses)

    return returns_as_is(local_weights, *_shapes(circuit, inputs, outputs))


@memoised
def paths_of(circuit: Circuit, inputs: int, outputs: int) -> tuple[str, ...]:
    """Path of each projection; without the ability `Paths` all are on one."""
    return circuit.paths if isinstance(circuit, Paths) else ("all",) * len(_shapes(circuit, inputs, outputs)[0])


@memoised
def network_shapes(circuit: Circuit, inputs: int, outputs: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Shapes of the weights of each projection, and of the activity of each population but the inputs."""
    shapes = _shapes(circuit, inputs, outputs)
    return tuple(shapes[0]), tuple(jax.eval_shape(circuit.step, *shapes).activity)


def plastic_of(circuit: Circuit, projections: int) -> tuple[bool, ...]:
    """Plasticity of each projection; without the ability `PartlyPlastic` all are."""
    return circuit.plastic if isinstance(circuit, PartlyPlastic) else (True,) * projections


def lower_bounds_of(circuit: Circuit, projections: int) -> tuple[float | None, ...]:
    """Lower bound of the weights of each projection; None, as without `SignConstrained`, for −weight_bound."""
    return circuit.lower_bounds if isinstance(circuit, SignConstrained) else (None,) * projections


def is_stochastic(circuit: Circuit) -> bool:
    """True if a circuit draws random numbers at each step."""
    return isinstance(circuit, Stochastic) and circuit.stochastic


@memoised
def is_sampled(circuit: Circuit, inputs: int, outputs: int) -> bool:
    """Tell whether a circuit samples, such as actions, by tracing its `step`; noise that is added is no sample.

    Raises:
        ValueError: a circuit that samples and does not say that it is stochastic, so that nobody gives it a key.
    """
    *network, stimulus = _shapes(circuit, inputs, outputs)
    key = jax.eval_shape(run_key, 0)
    samples = jax.eval_shape(circuit.step, *network, stimulus._replace(key=key)).log_probability is not None
    if samples and not is_stochastic(circuit):
        raise ValueError("circuit: step returns a log_probability, as it samples; allowed: with stochastic = True")
    return samples


def _shapes(circuit: Circuit, inputs: int, outputs: int) -> tuple[Any, Any, Any, Stimulus]:
    """Shapes of the arguments of `step`."""
    input_, target = (jax.ShapeDtypeStruct((size,), jnp.result_type(float)) for size in (inputs, outputs))
    initial = jax.eval_shape(lambda key: circuit.init(key, inputs, outputs), run_key(0))
    return (*initial, Stimulus(input_, target))  # type: ignore[arg-type]
