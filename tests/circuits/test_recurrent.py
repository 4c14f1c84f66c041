from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, final_metrics, unroll
from metarule.circuits.recurrent import Recurrent
from metarule.lifetime.unroll import step_at
from metarule.types import Stimulus

KEY = jax.random.key(0)
INPUTS, OUTPUTS, STEPS = 4, 3, 6


def stimuli(steps=STEPS):
    return Stimulus(
        jax.random.normal(jax.random.key(7), (steps, INPUTS)), jax.random.uniform(jax.random.key(8), (steps, OUTPUTS))
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def draw(circuit, inputs=INPUTS, outputs=OUTPUTS):
    return circuit.init(KEY, inputs, outputs)


@partial(jax.jit, static_argnums=0)
def run(circuit, weights, wiring, activity):
    """Activity, output and local variables [steps, …]."""

    def step(activity, stimulus):
        after, output, projections, *_ = circuit.step(weights, wiring, activity, stimulus)
        return after, (after, output, projections)

    return jax.lax.scan(step, activity, stimuli())[1]


def steps_of(circuit, weights, wiring, activity):
    """The same as a list of steps."""
    results = jax.device_get(run(circuit, weights, wiring, activity))
    return [jax.tree.map(lambda leaf, t=t: leaf[t], results) for t in range(STEPS)]


def by_hand(circuit, weights, wiring):
    """The same network as a loop over neurons and synapses, in NumPy."""
    into, recurrent, out, mask = (np.asarray(matrix) for matrix in (*weights, wiring.mask))
    n, bias = circuit.neurons, [1.0] * circuit.bias
    potential = np.zeros(n)
    pre_traces, post_traces = [np.zeros(m.shape[0]) for m in weights], [np.zeros(m.shape[1]) for m in weights]
    sequence = stimuli()
    for signal, target in zip(np.asarray(sequence.input), np.asarray(sequence.target), strict=True):
        before, inputs = np.tanh(potential), [*signal, *bias]
        drive = np.zeros(n)
        for post in range(n):
            drive[post] += sum(x * into[pre, post] for pre, x in enumerate(inputs))
            drive[post] += sum(x * recurrent[pre, post] for pre, x in enumerate(before) if mask[pre, post])
        potential = (1 - circuit.leak) * potential + circuit.leak * drive
        rate = np.tanh(potential)
        rate_and_bias = np.array([*rate, *bias])
        output_potential = rate_and_bias @ out
        output = 1 / (1 + np.exp(-output_potential))
        error = target - output
        modulator = {"transpose": out[:n] @ error, "zero": np.zeros(n)}.get(circuit.feedback)
        modulator = error @ np.asarray(wiring.feedback) if modulator is None else modulator
        modulator = modulator * (1 - rate**2) if circuit.derivative else modulator
        pres, posts = (np.array(inputs), before, rate_and_bias), (rate, rate, output)
        yield {
            "pre": pres,
            "post": posts,
            "potential": (potential, potential, output_potential),
            "weight": (into, recurrent * mask, out),
            "modulator": (modulator, modulator, error),
            "pre_trace": tuple(pre_traces),
            "post_trace": tuple(post_traces),
            "neuromodulator": (-np.mean(error**2),) * 3,
        }
        d = circuit.trace_decay
        pre_traces = [d * trace + (1 - d) * activity for trace, activity in zip(pre_traces, pres)]
        post_traces = [d * trace + (1 - d) * activity for trace, activity in zip(post_traces, posts)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"leak": 1.0, "density": 1.0, "feedback": "transpose", "derivative": True},
        {"leak": 0.2, "bias": False, "feedback": "zero", "trace_decay": 0.9},
        {"density": 0.3, "derivative": True, "trace_decay": 0.0},
    ],
    ids=str,
)
def test_local_variables_equal_those_of_a_loop_in_numpy(options, float64):
    circuit = Recurrent(neurons=7, **options)
    weights, wiring, activity = draw(circuit)
    pairs = zip(steps_of(circuit, weights, wiring, activity), by_hand(circuit, weights, wiring), strict=True)
    for (_, output, projections), expected in pairs:
        np.testing.assert_array_equal(output, projections[2].post)
        for name, values in expected.items():
            for projection, value in zip(projections, values, strict=True):
                np.testing.assert_allclose(getattr(projection, name), value, rtol=1e-10, atol=1e-12, err_msg=name)


def test_traces_exclude_the_present_step():
    circuit = Recurrent(neurons=5, trace_decay=0.0)
    steps = steps_of(circuit, *draw(circuit))
    for (_, _, earlier), (_, _, later) in pairwise(steps):
        for one, two in zip(earlier, later, strict=True):
            np.testing.assert_array_equal(two.pre_trace, one.pre)
            np.testing.assert_array_equal(two.post_trace, one.post)
    assert not any(
        np.any(trace) for projection in steps[0][2] for trace in (projection.pre_trace, projection.post_trace)
    )


@pytest.mark.parametrize("feedback", ["transpose", "random", "zero"])
@pytest.mark.parametrize("bias", [True, False])
def test_without_memory_it_equals_a_layered_network(feedback, bias):
    options = {"bias": bias, "feedback": feedback, "derivative": True}
    circuit = Recurrent(neurons=6, leak=1.0, recurrent_scale=0.0, **options)
    layered = Feedforward(hidden=(6,), **options)
    (into, recurrent, out), wiring, activity = draw(circuit)
    respond = jax.jit(layered.step)
    feedback_weights = (wiring.feedback,) if feedback == "random" else ()
    for stimulus, (_, output, (first, _, last)) in zip(
        zip(stimuli().input, stimuli().target, strict=True),
        steps_of(circuit, (into, recurrent, out), wiring, activity),
        strict=True,
    ):
        _, same, projections, *_ = respond((into, out), feedback_weights, (), Stimulus(*stimulus))
        np.testing.assert_allclose(output, same, rtol=1e-6)
        for one, two in zip((first, last), projections, strict=True):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
                one._replace(pre_trace=None, post_trace=None),
                two,
            )


class TestAbsentSynapses:
    CIRCUIT = Recurrent(neurons=6, density=0.5)

    def outputs(self, recurrent):
        (into, _, out), wiring, activity = draw(self.CIRCUIT)
        return run(self.CIRCUIT, (into, recurrent, out), wiring, activity)[1]

    def test_initial_weights_are_zero_and_self_connections_absent(self):
        weights, wiring, _ = draw(self.CIRCUIT)
        assert set(np.unique(wiring.mask)) == {0, 1}
        assert not np.any(np.diag(wiring.mask))
        np.testing.assert_array_equal(weights[1] != 0, wiring.mask == 1)

    @pytest.mark.parametrize("drift", [5.0, np.inf, np.nan])
    def test_are_never_read(self, drift):
        weights, wiring, activity = draw(self.CIRCUIT)
        drifted = (weights[0], jnp.where(wiring.mask > 0, weights[1], drift), weights[2])
        one, two = (steps_of(self.CIRCUIT, w, wiring, activity) for w in (weights, drifted))
        jax.tree.map(np.testing.assert_array_equal, one, two)

    @pytest.mark.parametrize("drift", [0.0, np.nan])
    def test_have_no_gradient(self, drift):
        weights, wiring, _ = draw(self.CIRCUIT)
        recurrent = jnp.where(wiring.mask > 0, weights[1], drift)
        gradient = jax.grad(lambda recurrent: self.outputs(recurrent)[-1].sum())(recurrent)
        np.testing.assert_array_equal(gradient != 0, wiring.mask == 1)
        assert np.all(np.isfinite(gradient))

    def test_changes_of_their_weights_have_no_effect(self):
        """Compare a rule that changes every weight with a lifetime whose absent weights are reset to 0 at each step."""
        lifetime = learner(self.CIRCUIT, Polynomial(terms=("delta", "1")), steps=30)
        theta = jnp.array([0.1, 0.01])
        context, state = jax.jit(
            lambda: lifetime.init(theta, KEY, lifetime.tasks.sample(KEY, lifetime.tasks.split(0).train, 6))
        )()
        other, step, evaluate = state, jax.jit(partial(step_at, lifetime)), jax.jit(lifetime.evaluate)
        for t in range(30):
            state, one = step(theta, context, state, t)
            other, two = step(theta, context, other, t)
            into, recurrent, out = other.weights
            other = other._replace(weights=(into, recurrent * context.wiring.mask, out))
            jax.tree.map(np.testing.assert_array_equal, one, two)
        absent = context.wiring.mask == 0
        assert np.all(state.weights[1][absent] != 0)
        jax.tree.map(np.testing.assert_array_equal, evaluate(theta, context, state), evaluate(theta, context, other))


def test_initial_weights_have_the_stated_scale():
    circuit = Recurrent(neurons=400, density=0.25, weight_scale=2.0, recurrent_scale=1.5, feedback_scale=3.0)
    weights, wiring, _ = draw(circuit, 99, 400)
    assert np.mean(wiring.mask) == pytest.approx(0.25, rel=0.02)
    assert np.std(weights[0]) == pytest.approx(2.0 / 100**0.5, rel=0.02)
    assert np.std(weights[2]) == pytest.approx(2.0 / 401**0.5, rel=0.02)
    assert np.std(wiring.feedback) == pytest.approx(3.0 / 400**0.5, rel=0.02)
    assert np.abs(np.linalg.eigvals(weights[1])).max() == pytest.approx(1.5, rel=0.1)


def test_at_full_density_all_other_neurons_are_connected():
    _, wiring, _ = draw(Recurrent(neurons=50, density=1.0))
    np.testing.assert_array_equal(wiring.mask, 1 - np.eye(50))


def test_draws_do_not_depend_on_density_or_feedback_path():
    base = Recurrent(neurons=20, density=1.0)
    full, wiring, _ = draw(base)
    sparse, sparse_wiring, _ = draw(replace(base, density=0.25))
    np.testing.assert_allclose(sparse[1], 2 * full[1] * sparse_wiring.mask, rtol=1e-6)
    np.testing.assert_array_equal(sparse_wiring.feedback, wiring.feedback)
    for feedback in ("transpose", "zero"):
        weights, other_wiring, _ = draw(replace(base, feedback=feedback))
        assert other_wiring.feedback is None
        jax.tree.map(np.testing.assert_array_equal, weights, full)


def test_a_leak_leaves_part_of_the_potential():
    """With no input, bias or recurrence, a potential decays as (1 − leak)ᵗ."""
    circuit = Recurrent(neurons=5, leak=0.25, recurrent_scale=0.0, bias=False)
    weights, wiring, activity = draw(circuit)
    activity, step = activity._replace(potential=jnp.arange(5.0)), jax.jit(circuit.step)
    for t in range(1, 5):
        activity = step(weights, wiring, activity, Stimulus(jnp.zeros(INPUTS), jnp.zeros(OUTPUTS))).state
        np.testing.assert_allclose(activity.potential, 0.75**t * np.arange(5), rtol=1e-5)


def test_a_stimulus_of_the_wrong_size_is_refused():
    circuit = Recurrent()
    with pytest.raises(AssertionError):
        circuit.step(*circuit.init(KEY, INPUTS, OUTPUTS), Stimulus(jnp.ones(INPUTS + 1), jnp.ones(OUTPUTS)))


def learner(circuit, rule=None, **inner_loop):
    return Lifetime(
        rule=rule or Polynomial(terms=("delta",), initial={"delta": 0.1}),
        circuit=circuit,
        tasks=Boolean(inputs=2, split_by="none"),
        inner_loop=InnerLoop(**inner_loop),
    )


def test_the_delta_rule_learns_boolean_functions():
    """Chance solves 1 function in 16. Patterns come in random order, so that memory does not help."""
    lifetime = learner(Recurrent(feedback="random"), steps=200)
    pool = lifetime.tasks.split(0).train
    solved = lambda theta: final_metrics(lifetime, theta, pool, jax.random.key(1), 256)["solved"].mean()
    assert solved(jnp.zeros(1)) < 0.15
    assert solved(lifetime.init_theta(KEY)) > 0.75


def test_the_previous_input_can_be_learned():
    """The target is the sign of the previous input: without memory accuracy is at chance."""

    def accuracy(leak, recurrent_scale):
        circuit = Recurrent(neurons=32, leak=leak, recurrent_scale=recurrent_scale, density=1.0, feedback="transpose")
        weights, wiring, activity = circuit.init(KEY, 1, 1)
        signs = jnp.sign(jax.random.normal(jax.random.key(3), (1001, 1)))
        rule = Polynomial(terms=("delta",))

        def step(state, pair):
            weights, activity = state
            activity, output, projections, *_ = circuit.step(weights, wiring, activity, Stimulus(*pair))
            changes = [rule.update(jnp.array([0.05]), (), projection)[0] for projection in projections]
            changes[0], changes[1] = 0 * changes[0], 0 * changes[1]
            weights = tuple(weight + change for weight, change in zip(weights, changes, strict=True))
            return (weights, activity), output

        _, outputs = jax.lax.scan(step, (weights, activity), (signs[1:], (signs[:-1] + 1) / 2))
        return jnp.mean(((outputs[500:] > 0.5) == (signs[500:-1] > 0)).astype(float))

    assert jax.jit(lambda: accuracy(1.0, 1.0))() > 0.95
    assert jax.jit(lambda: accuracy(1.0, 0.0))() < 0.6


def test_each_path_may_have_its_own_theta():
    lifetime = learner(Recurrent(), Polynomial(terms=("delta", "pre_trace*modulator")), theta="per_path", steps=20)
    theta = jnp.zeros((3, 2)).at[1, 1].set(0.1)
    assert lifetime.init_theta(KEY).shape == theta.shape
    assert list(lifetime.describe(theta)) == ["input", "recurrent", "output"]

    @jax.jit
    def weights():
        context, state = lifetime.init(theta, KEY, lifetime.tasks.sample(KEY, lifetime.tasks.split(0).train, 6))
        return state.weights, unroll(lifetime, theta, context, state, jnp.arange(20))[0].weights

    changed = [not np.array_equal(*pair) for pair in zip(*weights(), strict=True)]
    assert changed == [False, True, False]


def test_fixed_projections_keep_their_weights():
    learner = Lifetime(
        rule=Polynomial(terms=("delta",), initial={"delta": 0.3}),
        circuit=Recurrent(neurons=4, fixed=(0, 1)),
        tasks=Boolean(inputs=2),
        inner_loop=InnerLoop(steps=5),
    )

    @jax.jit
    def weights():
        task = learner.tasks.sample(KEY, learner.tasks.split(0).train, 0)
        theta = learner.init_theta(KEY)
        context, state = learner.init(theta, KEY, task)
        return state.weights, unroll(learner, theta, context, state, jnp.arange(5))[0].weights

    before, after = weights()
    assert [bool(jnp.all(one == other)) for one, other in zip(before, after)] == [True, True, False]
    with pytest.raises(
        ValueError, match=r"^fixed = \[0, 1, 2\]; allowed: distinct numbers from 0 to 2, not all of them$"
    ):
        Recurrent(fixed=(0, 1, 2))
