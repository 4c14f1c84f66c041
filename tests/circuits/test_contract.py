"""The contract of every circuit of the package."""

import typing
from copy import copy
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import met

from metarule import (
    Boolean,
    Conditioning,
    ConditioningCircuit,
    Feedforward,
    InnerLoop,
    Lifetime,
    Polynomial,
    Recurrent,
    unroll,
)
from metarule.runs.experiment import Experiment
from metarule.tasks import Phase, Phenomenon, Schedule
from metarule.types import Circuit, Stimulus, Synapse, TaskFamily

KEY = jax.random.key(0)


class Case(NamedTuple):
    """A circuit, with tasks for it."""

    circuit: Circuit
    tasks: TaskFamily = Boolean(inputs=3)


BRIEF = Schedule(phases=(Phase(trials=("CS1+CS2 > US",), repetitions=(1, 2)),), final_targets={"CS1": 0.5})
CONDITIONING = Conditioning(
    phenomena=(Phenomenon(name="brief", animal=BRIEF, control=BRIEF, criteria=("after CS1 > 0",)),),
    delays=(1, 3),
    test_delays=(2,),
)
CASES = {
    "conditioning": Case(ConditioningCircuit(), CONDITIONING),
    **{
        f"feedforward, {path}": Case(Feedforward(hidden=(5, 4), feedback=path, derivative=path != "zero"))
        for path in ("transpose", "random", "learned", "zero")
    },
    "feedforward, no bias": Case(Feedforward(hidden=(5,), bias=False, feedback="learned")),
    "feedforward, no hidden layer": Case(Feedforward(hidden=(), feedback="learned")),
    **{
        f"recurrent, {path}": Case(Recurrent(neurons=5, feedback=path, derivative=path != "zero"))
        for path in ("transpose", "random", "zero")
    },
    "recurrent, no bias": Case(Recurrent(neurons=5, bias=False, density=1.0, activation="sigmoid")),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def draw(case, key=KEY):
    return case.circuit.init(key, case.tasks.inputs, case.tasks.outputs)


def stimulus(case, key=KEY):
    pre, post = jax.random.split(key)
    target = case.tasks.stimulus(case.tasks.sample(KEY, case.tasks.split(0).train, 0), 0, KEY).target
    return Stimulus(jax.random.normal(pre, (case.tasks.inputs,)), jax.random.uniform(post, target.shape))


@partial(jax.jit, static_argnums=0)
def two_steps(case, key=KEY):
    """Initial values, and (activity, output, projections) after two steps."""
    weights, wiring, activity = initial = draw(case, key)
    for step in range(2):
        presented = stimulus(case, jax.random.fold_in(key, step))
        activity, output, projections = case.circuit.step(weights, wiring, activity, presented)
    return initial, (activity, output, projections)


def test_every_circuit_has_the_protocol(case):
    assert isinstance(case.circuit, Circuit)
    assert set(case.circuit.offers) <= set(Synapse._fields)
    assert case.circuit.output == case.tasks.link
    assert hash(case.circuit) == hash(copy(case.circuit))


def test_each_weight_matrix_has_a_path_and_a_projection(case):
    (weights, _, _), (_, output, projections) = two_steps(case)
    assert len(weights) == len(case.circuit.paths) == len(projections)
    chex.assert_shape(output, (case.tasks.outputs,))
    for weight, synapses in zip(weights, projections, strict=True):
        pre, post = weight.shape
        chex.assert_shape(synapses.weight, (pre, post))
        chex.assert_shape((synapses.post, synapses.potential, synapses.modulator), (post,))
        chex.assert_shape(synapses.pre, (pre,))
        for trace, size in ((synapses.pre_trace, pre), (synapses.post_trace, post), (synapses.neuromodulator, None)):
            if trace is not None:
                chex.assert_shape(trace, () if size is None else (size,))


def test_local_variables_are_those_that_it_offers(case):
    for synapses in two_steps(case)[1][2]:
        assert {name for name, value in synapses._asdict().items() if value is not None} == set(case.circuit.offers)


def test_local_weights_are_those_of_the_circuit(case):
    """The weight of an absent synapse is 0."""
    (weights, _, _), (_, _, projections) = two_steps(case)
    for weight, synapses in zip(weights, projections, strict=True):
        existing = np.asarray(weight) != 0
        assert existing.any()
        np.testing.assert_array_equal(synapses.weight, np.where(existing, weight, 0))


@pytest.mark.parametrize("wide", [False, True])
def test_precision_is_kept(case, wide):
    with jax.enable_x64(wide):
        for leaf in jax.tree.leaves(two_steps(case)):
            assert leaf.dtype == (jnp.float64 if wide else jnp.float32)


def test_activity_keeps_its_shape_and_type(case):
    """A scan requires this."""
    (_, _, rest), (activity, _, _) = two_steps(case)
    chex.assert_trees_all_equal_shapes_and_dtypes(rest, activity)


def test_draws_and_steps_are_pure_and_traced_once(case):
    chex.clear_trace_counter()

    @partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(n=1)
    def step(case, key):
        return case.circuit.step(*draw(case, key), stimulus(case, key))

    one, same = step(case, KEY), step(Case(copy(case.circuit), case.tasks), KEY)
    jax.tree.map(np.testing.assert_array_equal, one, same)
    for synapses, other in zip(one[2], step(case, jax.random.key(1))[2], strict=True):
        assert not np.array_equal(synapses.weight, other.weight)


def test_everything_is_finite_at_rest(case):
    silence = Stimulus(jnp.zeros(case.tasks.inputs), jnp.zeros(case.tasks.outputs))

    @jax.jit
    def gradient(key):
        weights, wiring, activity = draw(case, key)

        def total(weights):
            _, output, projections = case.circuit.step(weights, wiring, activity, silence)
            return jnp.sum(output), (output, projections)

        return jax.grad(total, has_aux=True)(weights)

    chex.assert_tree_all_finite(gradient(KEY))


# One of each kind: the others differ in omitted parts.
KINDS = pytest.mark.parametrize(
    "name", ["conditioning", "feedforward, transpose", "feedforward, learned", "recurrent, random"]
)


@KINDS
def test_networks_can_be_vmapped(name):
    case = CASES[name]
    keys = jax.random.split(KEY, 2)
    batched = jax.device_get(jax.jit(jax.vmap(lambda key: two_steps(case, key)))(keys))
    for number, key in enumerate(keys):
        single = jax.tree.map(lambda leaf, number=number: leaf[number], batched)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), single, two_steps(case, key))


@KINDS
def test_gradient_of_a_lifetime_equals_finite_differences(name, float64):
    case = CASES[name]
    offered = [name for name in case.circuit.offers if name not in ("pre", "modulator", "weight")]
    rule = Polynomial(terms=("delta", "weight", *(f"pre*{name}" for name in offered)))
    inner_loop = InnerLoop(steps=max(5, case.tasks.min_steps), theta="per_path")
    lifetime = Lifetime(rule=rule, circuit=case.circuit, tasks=case.tasks, inner_loop=inner_loop)
    task = met(case.tasks, 3)

    def loss(theta):
        context, state = lifetime.init(KEY, task)
        state, outputs = unroll(lifetime, theta, context, state, jnp.arange(lifetime.steps))
        return jnp.sum(outputs.loss) + lifetime.evaluate(theta, context, state)[0]

    point = 0.05 * np.random.default_rng(5).normal(size=lifetime.theta(KEY).shape)
    shifts = 1e-6 * np.eye(point.size).reshape(point.size, *point.shape)
    losses = np.asarray(jax.jit(jax.vmap(loss))(np.concatenate([point[None] + shifts, point[None] - shifts])))
    numeric = (losses[: point.size] - losses[point.size :]) / 2e-6
    gradient = jax.jit(jax.grad(loss))(point)
    chex.assert_tree_all_finite(gradient)
    assert np.abs(gradient).max() > 1e-3
    np.testing.assert_allclose(gradient.reshape(-1), numeric, rtol=1e-6, atol=1e-8)


def test_every_kind_of_circuit_is_tested():
    kinds = typing.get_args(typing.get_type_hints(Experiment)["circuit"])
    assert set(kinds) <= {type(case.circuit) for case in CASES.values()}
