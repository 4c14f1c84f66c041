"""Facts about circuits, with defaults for the abilities that a circuit lacks."""

from typing import Any

import jax
import jax.numpy as jnp

from metarule.prng import run_key
from metarule.protocols import Circuit, PartlyPlastic, Paths
from metarule.tracing import memoised, returns_as_is
from metarule.types import CircuitStep, Stimulus, Synapse

__all__ = ["offered_variables", "paths_of", "plastic_of", "sees_own_weights"]


@memoised
def offered_variables(circuit: Circuit, inputs: int, outputs: int) -> tuple[str, ...]:
    """Find the local variables that all synapses of a circuit see, by tracing its `step`.

    Args:
        circuit: the circuit.
        inputs: number of input neurons.
        outputs: number of output neurons.

    Returns:
        Names of fields of `Synapse`.
    """
    state, stimulus = _shapes(circuit, inputs, outputs)
    synapses = _trace(circuit, state, stimulus).synapses
    return tuple(name for name in Synapse._fields if all(getattr(one, name) is not None for one in synapses))


@memoised
def sees_own_weights(circuit: Circuit, inputs: int, outputs: int) -> bool:
    """Find whether synapses see the very weights that change, none of them masked, by tracing `step`.

    Args:
        circuit: the circuit.
        inputs: number of input neurons.
        outputs: number of output neurons.

    Returns:
        The answer.
    """
    (weights, *rest), stimulus = _shapes(circuit, inputs, outputs)

    def local_weights(weights: Any, *others: Any) -> tuple[Any, ...]:
        return tuple(synapse.weight for synapse in circuit.step(weights, *others).synapses)

    return returns_as_is(local_weights, weights, *rest, stimulus)


@memoised
def paths_of(circuit: Circuit, inputs: int, outputs: int) -> tuple[str, ...]:
    """Path of each projection; without the ability `Paths` all are on one.

    Args:
        circuit: the circuit.
        inputs: number of input neurons.
        outputs: number of output neurons.

    Returns:
        One name a projection.
    """
    if isinstance(circuit, Paths):
        return circuit.paths
    (weights, *_), _ = _shapes(circuit, inputs, outputs)
    return ("all",) * len(weights)


def plastic_of(circuit: Circuit, projections: int) -> tuple[bool, ...]:
    """Plasticity of each projection; without the ability `PartlyPlastic` all are."""
    return circuit.plastic if isinstance(circuit, PartlyPlastic) else (True,) * projections


def _shapes(circuit: Circuit, inputs: int, outputs: int) -> tuple[Any, Stimulus]:
    state = jax.eval_shape(lambda key: circuit.init(key, inputs, outputs), run_key(0))
    input_, target = (jax.ShapeDtypeStruct((size,), jnp.result_type(float)) for size in (inputs, outputs))
    return state, Stimulus(input_, target)  # type: ignore[arg-type]


def _trace(circuit: Circuit, state: Any, stimulus: Stimulus) -> CircuitStep:
    return jax.eval_shape(circuit.step, *state, stimulus)
