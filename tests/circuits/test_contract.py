"""The contract of every circuit of the package."""

import typing
from functools import cache
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import training_task

from metarule import (
    Bandit,
    Boolean,
    Conditioning,
    ConditioningCircuit,
    ExcitatoryInhibitory,
    Feedforward,
    InnerLoop,
    Lifetime,
    Polynomial,
    Recurrent,
    unroll,
)
from metarule.circuits.base import offered_variables
from metarule.protocols import Circuit, TaskFamily
from metarule.runs.experiment import Experiment
from metarule.tasks import Phenomenon, TrialPhase, TrialSchedule
from metarule.tasks.base import min_steps, output_activation
from metarule.testing import CIRCUIT_CHECKS, check_circuit

KEY = jax.random.key(0)


class Case(NamedTuple):
    """A circuit, with tasks for it."""

    circuit: Circuit
    tasks: TaskFamily = Boolean(inputs=3)


BRIEF = TrialSchedule(phases=(TrialPhase(trials=("CS1+CS2 > US",), repetitions=(1, 2)),), final_targets={"CS1": 0.5})
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
    "feedforward, fixed": Case(Feedforward(hidden=(5,), feedback="learned", fixed=(0, 2))),
    "recurrent, fixed": Case(Recurrent(neurons=5, fixed=(1,))),
    **{
        f"excitatory_inhibitory, {path}": Case(
            ExcitatoryInhibitory(excitatory=4, inhibitory=3, feedback=path, derivative=path != "zero")
        )
        for path in ("transpose", "random", "zero")
    },
    "feedforward, choice": Case(
        Feedforward(hidden=(5,), output="choice", noise=0.1, initial="learned"), Bandit(arms=3)
    ),
    "recurrent, choice": Case(Recurrent(neurons=5, output="choice", noise=0.1), Bandit(arms=3)),
    "excitatory_inhibitory, choice": Case(
        ExcitatoryInhibitory(excitatory=4, inhibitory=3, bias=False, activation="softplus", output="choice", noise=0.1),
        Bandit(arms=3),
    ),
    "recurrent, no bias": Case(Recurrent(neurons=5, bias=False, density=1.0, activation="sigmoid")),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@cache
def targets(tasks):
    """Number of targets of a stimulus."""
    stimulus = lambda: tasks.stimulus(tasks.sample(KEY, tasks.split(0).train, 0), 0, KEY)
    return jax.eval_shape(stimulus).target.size


@pytest.mark.parametrize("check", CIRCUIT_CHECKS)
def test_every_circuit_satisfies_the_contract(case, check):
    check_circuit(case.circuit, case.tasks.inputs, case.tasks.outputs, targets=targets(case.tasks), checks=(check,))


def test_the_output_activation_fits_the_loss(case):
    assert case.circuit.output == output_activation(case.tasks)


# One of each kind: the others differ in omitted parts.
KINDS = pytest.mark.parametrize(
    "name",
    [
        "conditioning",
        "feedforward, transpose",
        "feedforward, learned",
        "recurrent, random",
        "excitatory_inhibitory, random",
    ],
)


@KINDS
def test_gradient_of_a_lifetime_equals_finite_differences(name, float64):
    case = CASES[name]
    offered = [
        name
        for name in offered_variables(case.circuit, case.tasks.inputs, case.tasks.outputs)
        if name not in ("pre", "modulator", "weight")
    ]
    rule = Polynomial(terms=("delta", "weight", *(f"pre*{name}" for name in offered)))
    inner_loop = InnerLoop(steps=max(5, min_steps(case.tasks)), theta="per_path")
    lifetime = Lifetime(rule=rule, circuit=case.circuit, tasks=case.tasks, inner_loop=inner_loop)
    task = training_task(case.tasks, 3)

    def loss(theta):
        context, state = lifetime.init(theta, KEY, task)
        state, outputs = unroll(lifetime, theta, context, state, jnp.arange(lifetime.steps))
        return jnp.sum(outputs.loss) + lifetime.evaluate(theta, context, state)[0]

    point = 0.05 * np.random.default_rng(5).normal(size=lifetime.init_theta(KEY).shape)
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
