"""Contract of circuits: `check_circuit(MyCircuit(), inputs=3, outputs=1)`."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from metarule.circuits.base import is_stochastic, lower_bounds_of, offered_variables, paths_of, plastic_of
from metarule.prng import run_key
from metarule.protocols import Circuit, LearnedInitial, Sized
from metarule.testing.common import assert_equal_by_value, assert_one_trace, assert_precision, named, run_checks
from metarule.tracing import reads
from metarule.types import CircuitStep, PRNGKey, Stimulus

__all__ = ["CIRCUIT_CHECKS", "check_circuit"]


class _Subject(NamedTuple):
    """A circuit, its numbers of inputs and outputs, and the number of targets of the stimuli."""

    circuit: Any
    inputs: int
    outputs: int
    targets: int


def check_circuit(
    circuit: Any,
    inputs: int = 3,
    outputs: int = 1,
    *,
    targets: int | None = None,
    checks: Sequence[str] | None = None,
    seed: int = 0,
) -> None:
    """Check that a circuit keeps the contract that metarule relies on.

    Args:
        circuit: a circuit.
        inputs: number of input neurons; a circuit that fixes its sizes decides itself.
        outputs: number of output neurons; likewise.
        targets: entries of the target of a stimulus; by default one an output.
        checks: names of checks, all by default.
        seed: decides weights and stimuli.

    Raises:
        AssertionError: naming the circuit, the check that it fails, and how.
        RuntimeError: Python runs without assertions, so that nothing would be checked.
    """
    if isinstance(circuit, Sized) and circuit.sizes is not None:
        inputs, outputs = circuit.sizes
    subject = _Subject(circuit, inputs, outputs, outputs if targets is None else targets)
    run_checks(subject, CIRCUIT_CHECKS, checks, seed, type(circuit).__name__)


def _protocol(subject: _Subject, seed: int) -> None:
    """It has `init` and `step`, and is equal by value, so that equal circuits share compiled programs."""
    assert isinstance(subject.circuit, Circuit), "it has no methods init and step"
    assert_equal_by_value(subject.circuit)


def _shapes(subject: _Subject, seed: int) -> None:
    """Output, local variables, paths and plasticity fit the weights, and the state keeps its form."""
    (weights, _, state), result = jax.eval_shape(partial(_two_steps, subject), run_key(seed))
    assert result.output.shape == (subject.outputs,), f"its output has shape {result.output.shape}"
    chex.assert_trees_all_equal_shapes_and_dtypes(state, result.state)
    counts = len(weights), len(result.synapses), len(paths_of(subject.circuit, subject.inputs, subject.outputs))
    assert len(set(counts)) == 1, f"it has {counts[0]} weight matrices, {counts[1]} synapses and {counts[2]} paths"
    plastic = plastic_of(subject.circuit, len(weights))
    assert len(plastic) == len(weights), f"it has {len(weights)} projections, and `plastic` {len(plastic)} entries"
    for weight, synapse in zip(weights, result.synapses, strict=True):
        pre, post = weight.shape
        assert synapse.weight.shape == (pre, post), f"a synapse sees weights {synapse.weight.shape} of {weight.shape}"
        wanted = {"pre": (pre,), "pre_trace": (pre,), "neuromodulator": ()}
        for name in ("pre", "post", "potential", "modulator", "pre_trace", "post_trace", "neuromodulator"):
            value, shape = getattr(synapse, name), wanted.get(name, (post,))
            assert value is None or value.shape == shape, f"{name} has shape {value.shape}; it needs {shape}"


def _offered_variables(subject: _Subject, seed: int) -> None:
    """All projections offer the same local variables."""
    offered = set(offered_variables(subject.circuit, subject.inputs, subject.outputs))
    for synapse in jax.eval_shape(partial(_two_steps, subject), run_key(seed))[1].synapses:
        own = {name for name, value in synapse._asdict().items() if value is not None}
        assert own == offered, f"one projection offers {sorted(own)}, all offer {sorted(offered)}"


def _own_weights(subject: _Subject, seed: int) -> None:
    """Synapses see their own weights; an absent synapse sees 0."""
    (weights, *_), result = _compiled(subject, run_key(seed))
    for weight, synapse in zip(weights, result.synapses, strict=True):
        own = (synapse.weight == weight) | (synapse.weight == 0)
        assert np.all(own), "a synapse sees a weight that is not its own"


def _dtypes(subject: _Subject, seed: int) -> None:
    """Everything is computed in the precision that JAX is set to."""
    assert_precision(lambda: jax.eval_shape(partial(_two_steps, subject), run_key(seed)))


def _one_trace(subject: _Subject, seed: int) -> None:
    """Equal circuits share one compiled program, and give the same result for the same key."""
    with assert_one_trace(lambda circuit, key: _two_steps(subject._replace(circuit=circuit), key)) as run:
        results = [run(subject.circuit, run_key(seed)) for _ in range(2)]
    chex.assert_trees_all_equal(*results)


def _batch(subject: _Subject, seed: int) -> None:
    """A batch of networks gives the results of each."""
    keys = jax.random.split(run_key(seed), 2)
    together = jax.jit(jax.vmap(partial(_two_steps, subject)))(keys)
    for number, key in enumerate(keys):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], together)
        chex.assert_trees_all_close(one, _compiled(subject, key), rtol=1e-5, atol=1e-6)


def _finite_at_rest(subject: _Subject, seed: int) -> None:
    """Without any input, output, local variables and derivatives by the weights are finite."""
    silence = Stimulus(jnp.zeros(subject.inputs), jnp.zeros(subject.targets))

    def gradient(key: PRNGKey) -> Any:
        weights, wiring, state = subject.circuit.init(key, subject.inputs, subject.outputs)

        def total(weights: Any) -> Any:
            result = subject.circuit.step(weights, wiring, state, silence)
            return jnp.sum(result.output), result

        return jax.grad(total, has_aux=True)(weights)

    chex.assert_tree_all_finite(jax.jit(gradient)(run_key(seed)))


def _gradients(subject: _Subject, seed: int) -> None:
    """Derivatives of outputs and local variables by the weights equal finite differences."""
    with jax.enable_x64(True):
        weights, wiring, state = _network(subject, run_key(seed))

        @jax.jit
        def respond(weights: Any) -> Any:
            result = subject.circuit.step(weights, wiring, state, _stimulus(subject, run_key(seed)))
            return result.output, [synapse._asdict() for synapse in result.synapses]

        check_grads(respond, (weights,), order=1, modes=("fwd", "rev"), rtol=1e-5, atol=1e-6)


def _randomness(subject: _Subject, seed: int) -> None:
    """It reads the key of the stimulus if, and only if, it says that it is stochastic."""

    def respond(key: PRNGKey) -> Any:
        network = subject.circuit.init(run_key(seed), subject.inputs, subject.outputs)
        return subject.circuit.step(*network, _stimulus(subject, run_key(seed))._replace(key=key))

    (is_read,), stochastic = reads(respond, run_key(seed)), is_stochastic(subject.circuit)
    message = f"a step reads the key of its stimulus: {is_read}, and `stochastic` is {stochastic}"
    assert is_read == stochastic, message


def _lower_bounds(subject: _Subject, seed: int) -> None:
    """It has one lower bound a projection, and no initial weight is below."""
    weights, _, _ = _network(subject, run_key(seed))
    bounds = lower_bounds_of(subject.circuit, len(weights))
    assert len(bounds) == len(weights), f"it has {len(weights)} projections, and {len(bounds)} lower bounds"
    for number, (weight, bound) in enumerate(zip(weights, bounds, strict=True)):
        least = float(jnp.min(weight))
        assert bound is None or least >= bound, f"a weight of projection {number} is {least:g}, and its bound {bound:g}"


def _initial_values(subject: _Subject, seed: int) -> None:
    """Initial values that are learned replace those of another network."""
    circuit = subject.circuit
    if not isinstance(circuit, LearnedInitial) or not circuit.learns_initial:
        return
    one, other = (_network(subject, run_key(seed + number))[:2] for number in range(2))
    values = circuit.initial_values(*one)
    placed = circuit.with_initial_values(values, *other)
    chex.assert_trees_all_equal_shapes_and_dtypes(placed, other)
    chex.assert_trees_all_equal(circuit.initial_values(*placed), values)


_OF_STEPS = (_own_weights, _dtypes, _one_trace, _batch, _finite_at_rest, _gradients, _randomness)
CIRCUIT_CHECKS = named((_protocol, _shapes, _offered_variables, *_OF_STEPS, _lower_bounds, _initial_values))


def _stimulus(subject: _Subject, key: PRNGKey) -> Stimulus:
    input_key, target_key = jax.random.split(key)
    return Stimulus(jax.random.normal(input_key, (subject.inputs,)), jax.random.uniform(target_key, (subject.targets,)))


def _two_steps(subject: _Subject, key: PRNGKey) -> tuple[tuple[Any, Any, Any], CircuitStep]:
    """Initial (weights, wiring, state), and the result of the second of two steps."""
    weights, wiring, state = initial = subject.circuit.init(key, subject.inputs, subject.outputs)
    for number in range(2):
        result = subject.circuit.step(weights, wiring, state, _stimulus(subject, jax.random.fold_in(key, number)))
        state = result.state
    return initial, result


@partial(jax.jit, static_argnums=0)
def _network(subject: _Subject, key: PRNGKey) -> tuple[Any, Any, Any]:
    """Initial weights, wiring and state."""
    return subject.circuit.init(key, subject.inputs, subject.outputs)


@partial(jax.jit, static_argnums=0)
def _compiled(subject: _Subject, key: PRNGKey) -> tuple[tuple[Any, Any, Any], CircuitStep]:
    return _two_steps(subject, key)
