"""What every circuit keeps to, whoever is wired to whom in it."""

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
from metarule.tasks.base import min_steps
from metarule.types import Circuit, Stimulus, Synapse, TaskFamily

KEY = jax.random.key(0)


class Case(NamedTuple):
    """A circuit, and tasks that it can live through."""

    circuit: Circuit
    tasks: TaskFamily = Boolean(inputs=3)


BRIEF = Schedule(phases=(Phase(trials=("CS1+CS2 > US",), times=(1, 2)),), after={"CS1": 0.5})
REFLEX = Conditioning(
    phenomena=(Phenomenon(name="brief", animal=BRIEF, control=BRIEF, shown=("after CS1 > 0",)),),
    delays=(1, 3),
    test_delays=(2,),
)
CASES = {
    "conditioning": Case(ConditioningCircuit(), REFLEX),
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


def born(case, key=KEY):
    return case.circuit.init(key, case.tasks.inputs, case.tasks.outputs)


def stimulus(case, key=KEY):
    pre, post = jax.random.split(key)
    target = case.tasks.stimulus(case.tasks.sample(KEY, case.tasks.split(0).train, 0), 0, KEY).target
    return Stimulus(jax.random.normal(pre, (case.tasks.inputs,)), jax.random.uniform(post, target.shape))


@partial(jax.jit, static_argnums=0)
def train_examples(case, key=KEY):
    """What was drawn, and (activity, output, projections) after two steps."""
    weights, wiring, activity = drawn = born(case, key)
    for step in range(2):
        seen = stimulus(case, jax.random.fold_in(key, step))
        activity, output, projections = case.circuit.step(weights, wiring, activity, seen)
    return drawn, (activity, output, projections)


def test_it_is_a_circuit(case):
    assert isinstance(case.circuit, Circuit)
    assert set(case.circuit.offers) <= set(Synapse._fields)
    assert case.circuit.output == case.tasks.loss.activation
    assert hash(case.circuit) == hash(copy(case.circuit))


def test_one_path_and_one_projection_to_each_weight_matrix(case):
    (weights, _, _), (_, output, projections) = train_examples(case)
    assert len(weights) == len(case.circuit.paths) == len(projections)
    chex.assert_shape(output, (case.tasks.outputs,))
    for weight, seen in zip(weights, projections, strict=True):
        pre, post = weight.shape
        chex.assert_shape(seen.weight, (pre, post))
        chex.assert_shape((seen.post, seen.potential, seen.modulator), (post,))
        chex.assert_shape(seen.pre, (pre,))
        for trace, size in ((seen.pre_trace, pre), (seen.post_trace, post), (seen.neuromodulator, None)):
            if trace is not None:
                chex.assert_shape(trace, () if size is None else (size,))


def test_synapses_see_what_it_offers_and_nothing_else(case):
    for seen in train_examples(case)[1][2]:
        assert {name for name, value in seen._asdict().items() if value is not None} == set(case.circuit.offers)


def test_synapses_see_their_own_weights(case):
    """Where they exist: an absent synapse sees 0."""
    (weights, _, _), (_, _, projections) = train_examples(case)
    for weight, seen in zip(weights, projections, strict=True):
        existing = np.asarray(weight) != 0
        assert existing.any()
        np.testing.assert_array_equal(seen.weight, np.where(existing, weight, 0))


@pytest.mark.parametrize("wide", [False, True])
def test_precision_is_kept(case, wide):
    with jax.enable_x64(wide):
        for leaf in jax.tree.leaves(train_examples(case)):
            assert leaf.dtype == (jnp.float64 if wide else jnp.float32)


def test_activity_keeps_its_form(case):
    """As a scan needs it."""
    (_, _, rest), (activity, _, _) = train_examples(case)
    chex.assert_trees_all_equal_shapes_and_dtypes(rest, activity)


def test_draws_and_steps_are_pure_and_traced_once(case):
    chex.clear_trace_counter()

    @partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(n=1)
    def step(case, key):
        return case.circuit.step(*born(case, key), stimulus(case, key))

    one, again = step(case, KEY), step(Case(copy(case.circuit), case.tasks), KEY)
    jax.tree.map(np.testing.assert_array_equal, one, again)
    for seen, other in zip(one[2], step(case, jax.random.key(1))[2], strict=True):
        assert not np.array_equal(seen.weight, other.weight)


def test_everything_is_finite_at_rest(case):
    silence = Stimulus(jnp.zeros(case.tasks.inputs), jnp.zeros(case.tasks.outputs))

    @jax.jit
    def gradient(key):
        weights, wiring, activity = born(case, key)

        def total(weights):
            _, output, projections = case.circuit.step(weights, wiring, activity, silence)
            return jnp.sum(output), (output, projections)

        return jax.grad(total, has_aux=True)(weights)

    chex.assert_tree_all_finite(gradient(KEY))


# One of each way in which a circuit computes: the others differ in what is left out.
WAYS = pytest.mark.parametrize(
    "name", ["conditioning", "feedforward, transpose", "feedforward, learned", "recurrent, random"]
)


@WAYS
def test_networks_live_side_by_side(name):
    case = CASES[name]
    keys = jax.random.split(KEY, 2)
    together = jax.device_get(jax.jit(jax.vmap(lambda key: train_examples(case, key)))(keys))
    for number, key in enumerate(keys):
        alone = jax.tree.map(lambda leaf, number=number: leaf[number], together)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), alone, train_examples(case, key)
        )


@WAYS
def test_gradient_of_a_life_equals_finite_differences(name, float64):
    case = CASES[name]
    offered = [name for name in case.circuit.offers if name not in ("pre", "modulator", "weight")]
    rule = Polynomial(terms=("delta", "weight", *(f"pre*{name}" for name in offered)))
    inner_loop = InnerLoop(steps=max(5, min_steps(case.tasks)), theta="per_path")
    context = Lifetime(rule=rule, circuit=case.circuit, tasks=case.tasks, inner_loop=inner_loop)
    task = met(case.tasks, 3)

    def loss(theta):
        constant, state = context.init(KEY, task)
        state, seen = unroll(context, theta, constant, state, jnp.arange(context.steps))
        return jnp.sum(seen.loss) + context.evaluate(theta, constant, state)[0]

    point = 0.05 * np.random.default_rng(5).normal(size=context.theta(KEY).shape)
    shifts = 1e-6 * np.eye(point.size).reshape(point.size, *point.shape)
    losses = np.asarray(jax.jit(jax.vmap(loss))(np.concatenate([point[None] + shifts, point[None] - shifts])))
    numeric = (losses[: point.size] - losses[point.size :]) / 2e-6
    gradient = jax.jit(jax.grad(loss))(point)
    chex.assert_tree_all_finite(gradient)
    assert np.abs(gradient).max() > 1e-3
    np.testing.assert_allclose(gradient.reshape(-1), numeric, rtol=1e-6, atol=1e-8)


def test_no_kind_of_circuit_is_left_out():
    kinds = typing.get_args(typing.get_type_hints(Experiment)["circuit"])
    assert set(kinds) <= {type(case.circuit) for case in CASES.values()}
