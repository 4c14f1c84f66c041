import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from recorded import REWARDED, SIGMOID, STEPS, Values, learner_on, predictions, recording
from small import initial_theta

from metarule import (
    MLP,
    Boolean,
    Feedforward,
    InnerLoop,
    Lifetime,
    Polynomial,
    Recurrent,
    Reverse,
    Tabular,
    Trace,
    unroll,
)
from metarule.protocols import Learner
from metarule.types import CircuitStep, Stimulus, Synapse

KEY = jax.random.key(0)


def lifetime(rule=None, circuit=None, tasks=None, **inner_loop):
    return Lifetime(
        rule=rule or Polynomial(terms=("delta",), initial={"delta": 0.3}),
        circuit=circuit or Feedforward(),
        tasks=tasks or Boolean(),
        inner_loop=InnerLoop(**inner_loop),
    )


@partial(jax.jit, static_argnums=(0, 2))
def run(learner, theta, steps):
    """Context of a lifetime, its state after some steps, and the observables of these."""
    task = learner.tasks.sample(KEY, learner.tasks.split(0).train, 0)
    context, state = learner.init(theta, KEY, task)
    return context, *unroll(learner, theta, context, state, jnp.arange(steps))


def test_is_a_learner():
    assert isinstance(lifetime(), Learner)


def test_output_neurons_that_do_not_fit_the_loss_are_refused():
    with pytest.raises(ValueError, match="circuit.output = 'sigmoid': the loss of these tasks needs 'softmax'"):
        lifetime(tasks=Tabular())


def test_a_step_changes_weights_by_the_rule():
    learner, theta = lifetime(), jnp.array([0.3])
    context, state, _ = run(learner, theta, 0)
    stimulus = learner.tasks.stimulus(context.task, 0, KEY)
    _, output, projections, *_ = jax.jit(learner.circuit.step)(state.weights, context.wiring, (), stimulus)
    after, outputs = jax.jit(learner.step)(theta, context, state, stimulus)
    np.testing.assert_array_equal(outputs.output, output)
    for before, projection, weight in zip(state.weights, projections, after.weights, strict=True):
        np.testing.assert_allclose(weight, before + 0.3 * jnp.outer(projection.pre, projection.modulator), rtol=1e-6)


def test_weights_stay_within_their_bound():
    learner = lifetime(rule=Polynomial(terms=("weight",)), weight_bound=0.75)
    _, state, _ = run(learner, jnp.array([5.0]), 20)
    assert all(jnp.all(jnp.abs(weight) == 0.75) for weight in state.weights)


def test_weights_do_not_change_under_zero_theta():
    learner = lifetime()
    _, before, _ = run(learner, jnp.zeros(1), 0)
    _, state, _ = run(learner, jnp.zeros(1), 20)
    jax.tree.map(np.testing.assert_array_equal, before, state)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_meta_loss_is_the_weighted_sum_of_the_online_and_the_final_loss(weight):
    learner, theta = lifetime(steps=24, online_loss_weight=weight), jnp.array([0.3])
    context, state, outputs = run(learner, theta, 24)
    targets = jax.vmap(lambda t: learner.tasks.stimulus(context.task, t, KEY).target)(jnp.arange(24))
    online_loss = jnp.mean(jax.vmap(learner.tasks.loss)(outputs.output, targets))
    offline = lifetime(steps=24, online_loss_weight=0.0)
    final_loss, final = (jax.jit(one.evaluate)(theta, context, state)[0] for one in (offline, learner))
    expected = weight * online_loss + (1 - weight) * final_loss
    np.testing.assert_allclose(jnp.sum(outputs.loss) + final, expected, rtol=1e-5)


PENALISED = {
    "shared": (Polynomial(terms=("delta", "weight"), hebbian_scale=0.5), {}, lambda theta: theta, [1.0, 0.5]),
    "per_projection": (
        Polynomial(terms=("delta", "weight"), hebbian_scale=0.5),
        {"theta": "per_projection"},
        lambda theta: theta,
        [[1.0, 0.5]] * 2,
    ),
    "learned decays": (
        Polynomial(terms=("e*modulator",), traces={"e": Trace(of="pre*post", learned=True)}),
        {},
        lambda theta: theta["coefficients"],
        [1.0],
    ),
    "mlp": (MLP(hidden=(3,)), {}, lambda theta: ravel_pytree(theta)[0], 1.0),
}


@pytest.mark.parametrize(("rule", "inner_loop", "penalised", "scale"), PENALISED.values(), ids=PENALISED)
def test_every_parameter_but_decays_is_penalised(rule, inner_loop, penalised, scale):
    learner, plain = lifetime(rule=rule, l1=0.2, **inner_loop), lifetime(rule=rule, **inner_loop)
    theta = jax.tree.map(lambda leaf: leaf - 0.7, initial_theta(learner))
    context, state, _ = run(learner, theta, 0)
    penalty = 0.2 * np.sum(np.abs(penalised(theta)) / np.array(scale))
    loss, gradient = jax.jit(jax.value_and_grad(lambda theta: learner.evaluate(theta, context, state)[0]))(theta)
    np.testing.assert_allclose(loss - jax.jit(plain.evaluate)(theta, context, state)[0], penalty, rtol=1e-5)
    expected = 0.2 * np.sign(penalised(theta)) / np.array(scale)
    np.testing.assert_allclose(penalised(gradient), expected, rtol=1e-6)
    assert sum(map(np.count_nonzero, jax.tree.leaves(gradient))) == expected.size


def test_evaluation_scores_every_pattern_with_plasticity_off():
    learner, theta = lifetime(online_loss_weight=0.0), jnp.array([0.3])
    context, state, _ = run(learner, theta, 400)
    loss, metrics = jax.jit(learner.evaluate)(theta, context, state)
    examples, step = learner.tasks.examples(context.task), jax.jit(learner.circuit.step)
    pairs = zip(examples.input, examples.target, strict=True)
    outputs = np.stack([step(state.weights, context.wiring, (), Stimulus(*pair)).output for pair in pairs])
    outputs = outputs.astype(examples.target.dtype)
    assert float(metrics["accuracy"]) == np.mean((outputs > 0.5) == (examples.target > 0.5))
    np.testing.assert_allclose(loss, jnp.mean(jax.vmap(learner.tasks.loss)(outputs, examples.target)), rtol=1e-5)


def test_each_projection_may_have_its_own_theta():
    rule = Polynomial(terms=("delta", "weight"), initial={"delta": 0.3})
    learner = lifetime(rule=rule, circuit=Feedforward(hidden=(5, 4)), theta="per_projection")
    theta = learner.init_theta(KEY)
    chex.assert_shape((theta, learner.theta_scale()), (3, 2))
    one_nonzero = jnp.zeros((3, 2)).at[1, 0].set(0.3)
    _, before, _ = run(learner, one_nonzero, 0)
    _, state, _ = run(learner, one_nonzero, 9)
    changed = [not np.array_equal(a, b) for a, b in zip(before.weights, state.weights)]
    assert changed == [False, True, False]
    assert list(learner.describe(theta)) == ["projection 1", "projection 2", "projection 3"]
    assert learner.equation(one_nonzero) == "Δw₁ = 0\nΔw₂ = 0.3·pre·modulator\nΔw₃ = 0"


def test_equal_thetas_do_the_same_shared_or_not():
    rule = Polynomial(terms=("seven",))
    theta = 0.05 * jax.random.normal(KEY, (7,))
    _, shared, _ = run(lifetime(rule=rule), theta, 30)
    _, separate, _ = run(lifetime(rule=rule, theta="per_projection"), jnp.stack([theta, theta]), 30)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), shared, separate)


@pytest.mark.parametrize("tasks", [Boolean(), Tabular()], ids=["boolean", "tabular"])
def test_equal_lifetimes_share_one_trace(tasks):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def end(theta, key):
        task = learner.tasks.sample(key, learner.tasks.split(0).train, 0)
        return unroll(learner, theta, *learner.init(theta, key, task), jnp.arange(10))[0].weights

    output = tasks.loss.activation
    for seed in range(3):
        learner = lifetime(circuit=Feedforward(output=output), tasks=tasks)
        weights = end(jnp.array([0.1 * seed]), jax.random.key(seed))
        assert all(jnp.all(jnp.isfinite(weight)) for weight in weights)
    assert hash(lifetime()) == hash(lifetime())


@pytest.mark.parametrize("rule", [Polynomial(terms=("sixteen",), initial={"pre*modulator": 0.3}), MLP()])
def test_bfloat16_changes_little_and_theta_keeps_its_precision(rule):
    def loss(learner, theta):
        context, state, outputs = run(learner, theta, 40)
        return jnp.sum(outputs.loss) + learner.evaluate(theta, context, state)[0]

    full, half = (lifetime(rule, steps=40, bfloat16=bfloat16) for bfloat16 in (False, True))
    theta = rule.init(KEY)
    assert {leaf.dtype for leaf in jax.tree.leaves(run(half, theta, 3)[1])} == {jnp.dtype("bfloat16")}
    one, other = (jax.jit(jax.value_and_grad(partial(loss, learner)))(theta) for learner in (full, half))
    chex.assert_trees_all_equal_dtypes(one, other)
    np.testing.assert_allclose(other[0], one[0], rtol=0.02)
    full_gradient, half_gradient = (ravel_pytree(gradient)[0] for _, gradient in (one, other))
    assert full_gradient @ half_gradient > 0.97 * jnp.linalg.norm(full_gradient) * jnp.linalg.norm(half_gradient)


@dataclasses.dataclass(frozen=True)
class OwnRule:
    """A rule with the two required methods alone."""

    rate: float = 0.1

    def init(self, key):
        return jnp.asarray(self.rate)

    def delta(self, theta, memory, synapse):
        return theta * synapse.pre * synapse.modulator, memory


def test_a_rule_with_two_methods_is_completed():
    own, polynomial = lifetime(rule=OwnRule(), steps=20), lifetime(rule=Polynomial(terms=("delta",)), steps=20)
    _, state, _ = run(polynomial, jnp.array([0.1]), 20)
    _, other, _ = run(own, jnp.asarray(0.1), 20)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state.weights, other.weights)
    assert own.equation(jnp.asarray(0.1)) == "Δw = OwnRule(θ = 0.1)"


class Gated(Boolean, frozen=True, kw_only=True, tag="gated"):
    """Boolean functions, with plasticity in the first ten steps only."""

    def stimulus(self, task, t, key):
        return super().stimulus(task, t, key)._replace(plasticity=jnp.where(t < 10, 1.0, 0.0))


def test_a_gate_switches_plasticity_off():
    theta = jnp.array([0.3])
    _, gated, _ = run(lifetime(tasks=Gated(inputs=2), steps=40), theta, 40)
    _, ten, _ = run(lifetime(tasks=Boolean(inputs=2), steps=40), theta, 10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), gated.weights, ten.weights)


class GivenWeights(Boolean, frozen=True, kw_only=True, tag="given"):
    """Boolean functions for networks whose initial weights are all ½."""

    def initial_weights(self, task, weights):
        return jax.tree.map(lambda weight: jnp.full_like(weight, 0.5), weights)


def test_a_task_may_give_the_initial_weights():
    learner = lifetime(tasks=GivenWeights(inputs=2))
    _, state, _ = run(learner, initial_theta(learner), 0)
    for weight in state.weights:
        np.testing.assert_array_equal(weight, 0.5)


class ReadoutOnly(Feedforward, frozen=True, kw_only=True, tag="readout"):
    """A layered network of which only the last projection is plastic."""

    @property
    def plastic(self):
        return (False,) * len(self.hidden) + (True,)


def test_a_projection_that_is_not_plastic_keeps_its_weights():
    learner = lifetime(circuit=ReadoutOnly(hidden=(4,)), steps=20)
    _, before, _ = run(learner, jnp.array([0.3]), 0)
    _, after, _ = run(learner, jnp.array([0.3]), 20)
    np.testing.assert_array_equal(before.weights[0], after.weights[0])
    assert np.any(np.asarray(before.weights[1]) != np.asarray(after.weights[1]))


def test_a_step_returns_the_activity_of_all_neurons():
    learner = lifetime(circuit=Feedforward(hidden=(4, 3)), steps=5)
    _, _, outputs = run(learner, jnp.array([0.3]), 5)
    assert [layer.shape for layer in outputs.activity] == [(5, 4), (5, 3), (5, 1)]
    np.testing.assert_array_equal(outputs.activity[-1], outputs.output)


@dataclasses.dataclass(frozen=True)
class Bare:
    """A circuit with the two required methods alone."""

    def init(self, key, inputs, outputs):
        return (jax.random.normal(key, (inputs, outputs)),), (), ()

    def step(self, weights, wiring, state, stimulus):
        potential = stimulus.input @ weights[0]
        output = jax.nn.sigmoid(potential)
        return CircuitStep(
            (), output, (Synapse(stimulus.input, output, potential, weights[0], stimulus.target - output),)
        )


@pytest.mark.parametrize("sharing", ["shared", "per_path", "per_projection"])
def test_a_circuit_with_two_methods_is_enough(sharing):
    bare = lifetime(circuit=Bare(), steps=20, theta=sharing)
    layered = lifetime(circuit=Feedforward(hidden=(), bias=False), steps=20, theta=sharing)
    theta = bare.init_theta(KEY) + 0.2
    assert theta.shape == layered.init_theta(KEY).shape
    context, state, _ = run(bare, theta, 20)
    assert np.isfinite(jax.jit(bare.evaluate)(theta, context, state)[0])
    with pytest.raises(ValueError, match="synapses of this circuit see no pre_trace"):
        lifetime(rule=Polynomial(terms=("pre_trace",)), circuit=Bare())


RULE = Polynomial(terms=REWARDED, initial=dict(zip(REWARDED, (0.1, -0.05, 0.02, 0.3))))
DOING = recording(outputs=1, choices=True, plastic=np.arange(STEPS) % 3 > 0)
LONGER = recording(outputs=1, choices=True, steps=STEPS + 2, seed=1, plastic=np.ones(STEPS + 2))


def by_hand(arrays, theta):
    """Misfit of an animal, from a loop in NumPy."""
    found, loss = predictions(arrays, Values(theta, arrays["initial_weights"]), "sigmoid"), 0.0
    for kind in ("activity", "weights"):
        observed = arrays[kind].reshape(found[kind].shape)
        deviation = np.nanstd(np.concatenate([DOING[kind].reshape(-1), LONGER[kind].reshape(-1)])) or 1.0
        loss += np.nansum(((found[kind] - observed) / deviation) ** 2) / 2 / observed.shape[1]
    p, choices = found["choices"][:, 0], arrays["choices"]
    return loss - np.nansum(choices * np.log(p) + (1 - choices) * np.log(1 - p))


def test_meta_loss_of_recordings_is_the_mean_misfit_of_a_step(tmp_path, float64):
    learner = learner_on(tmp_path, [DOING, LONGER], RULE, SIGMOID)
    pool, theta = learner.tasks.split(0).train, learner.init_theta(KEY)
    estimate = jax.jit(lambda theta, task: Reverse().estimate(learner, theta, task, (), KEY)[0])
    for row, number in enumerate(pool.number):
        arrays = (DOING, LONGER)[int(number)]
        found = estimate(theta, jax.tree.map(lambda leaf, row=row: leaf[row], pool))
        expected = lambda theta, arrays=arrays: by_hand(arrays, theta) / learner.steps
        point, shifts = np.asarray(theta), 1e-6 * np.eye(theta.size)
        np.testing.assert_allclose(found.loss, expected(point), rtol=1e-12)
        numeric = [(expected(point + shift) - expected(point - shift)) / 2e-6 for shift in shifts]
        np.testing.assert_allclose(found.gradient, numeric, rtol=1e-6, atol=1e-9)


class Sessions(Boolean, frozen=True, kw_only=True, tag="sessions"):
    """Boolean functions in sessions, of which one starts at each of some steps."""

    starts: tuple[int, ...] = ()

    def stimulus(self, task, t, key):
        restart = jnp.any(jnp.asarray(t) == jnp.array((-1, *self.starts)))
        return super().stimulus(task, t, key)._replace(restart=restart.astype(float))


def test_a_session_starts_with_activity_and_traces_anew_but_not_with_weights():
    rule = Polynomial(terms=("e*modulator", "pre_trace"), traces={"e": Trace(of="pre*post", learned=False)})
    of = lambda *starts: lifetime(rule=rule, circuit=Recurrent(neurons=4), tasks=Sessions(starts=starts), steps=6)
    learner, theta = of(4), jnp.array([0.1, 0.05])
    context, before, _ = run(learner, theta, 4)
    _, start, _ = run(learner, theta, 0)

    @partial(jax.jit, static_argnums=0)
    def step(learner, state):
        return learner.step(theta, context, state, learner.stimulus(context, 4))[0]

    chex.assert_trees_all_equal(step(learner, before), step(of(), start._replace(weights=before.weights)))
    assert not np.allclose(step(learner, before).memory[1]["e"], step(of(), before).memory[1]["e"])
    # At the first step of a lifetime all is new anyway.
    chex.assert_trees_all_equal(run(of(0), theta, 6)[1], run(of(), theta, 6)[1])


def test_recordings_are_not_computed_in_chunks(tmp_path):
    rule = Polynomial(terms=("pre*post",))
    assert lifetime(rule=rule, circuit=SIGMOID).chunkable
    assert not learner_on(tmp_path, [DOING], rule, SIGMOID).chunkable
