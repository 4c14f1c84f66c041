from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Boolean, ExcitatoryInhibitory, InnerLoop, Lifetime, Polynomial, unroll
from metarule.kernels import kernels
from metarule.lifetime.unroll import is_compiled
from metarule.types import Stimulus

KEY = jax.random.key(0)
SMALL = ExcitatoryInhibitory(excitatory=5, inhibitory=3, output="identity", leak=0.3)
E_I = slice(1, 5)


@partial(jax.jit, static_argnums=(0, 1, 2))
def draw(circuit, inputs=3, outputs=2):
    return circuit.init(KEY, inputs, outputs)


def learner(**inner_loop):
    rule = Polynomial(terms=("seven",), initial_spread=0.3)
    return Lifetime(rule=rule, circuit=SMALL_SIGMOID, tasks=Boolean(inputs=3), inner_loop=InnerLoop(**inner_loop))


SMALL_SIGMOID = ExcitatoryInhibitory(excitatory=5, inhibitory=3)


def test_local_variables_equal_those_of_a_loop_in_numpy(float64):
    weights, wiring, state = draw(SMALL)
    into, ee, ei, ie, ii, out = (np.asarray(weight) for weight in weights)
    e, i, sigmoid = np.zeros(5), np.zeros(3), lambda x: 1 / (1 + np.exp(-x))
    respond, numbers = jax.jit(SMALL.step), np.random.default_rng(0)
    pre_traces, post_traces = [np.zeros(w.shape[0]) for w in weights], [np.zeros(w.shape[1]) for w in weights]
    for _ in range(4):
        signal, target = numbers.normal(size=3), numbers.normal(size=2)
        x, e_before, i_before = np.append(signal, 1), sigmoid(e), sigmoid(i)
        e = 0.7 * e + 0.3 * (into.T @ x + ee.T @ e_before - ie.T @ i_before)
        i = 0.7 * i + 0.3 * (ei.T @ e_before - ii.T @ i_before)
        rates = np.append(sigmoid(e), 1)
        output = out.T @ rates
        error = target - output
        to_e, to_i = (error @ np.asarray(feedback) for feedback in wiring)
        step = respond(weights, wiring, state, Stimulus(jnp.array(signal), jnp.array(target)))
        expected = {
            "pre": (x, e_before, e_before, i_before, i_before, rates),
            "post": (sigmoid(e), sigmoid(e), sigmoid(i), sigmoid(e), sigmoid(i), output),
            "potential": (e, e, i, e, i, output),
            "modulator": (to_e, to_e, to_i, to_e, to_i, error),
            "weight": (into, ee, ei, ie, ii, out),
            "pre_trace": tuple(pre_traces),
            "post_trace": tuple(post_traces),
            "neuromodulator": (-np.mean(error**2),) * 6,
        }
        for name, values in expected.items():
            for synapse, value in zip(step.synapses, values, strict=True):
                np.testing.assert_allclose(getattr(synapse, name), value, rtol=1e-10, atol=1e-12, err_msg=name)
        state = step.state
        pre_traces = [(trace + one) / 2 for trace, one in zip(pre_traces, expected["pre"], strict=True)]
        post_traces = [(trace + one) / 2 for trace, one in zip(post_traces, expected["post"], strict=True)]


def test_initial_sizes_have_the_stated_mean_and_no_neuron_connects_to_itself():
    circuit = ExcitatoryInhibitory(excitatory=200, inhibitory=100, excitation=1.5, inhibition=3.0)
    weights, wiring, _ = draw(circuit, 99, 50)
    assert [weight.shape for weight in weights] == [
        (100, 200),
        (200, 200),
        (200, 100),
        (100, 200),
        (100, 100),
        (201, 50),
    ]
    assert [one.shape for one in wiring] == [(50, 200), (50, 100)]
    assert np.std(weights[0]) == pytest.approx(0.1, rel=0.02)
    for weight, total in zip(weights[E_I], (1.5, 1.5, 3.0, 3.0), strict=True):
        assert np.min(weight) >= 0
        assert np.mean(np.sum(weight, 0)) == pytest.approx(total, rel=0.03)
    assert not np.any(np.diag(weights[1]))
    assert not np.any(np.diag(weights[4]))


def test_synapses_of_a_neuron_onto_itself_are_never_read():
    weights, wiring, state = draw(SMALL)
    drifted = [weight + 5 * jnp.eye(len(weight)) if n in (1, 4) else weight for n, weight in enumerate(weights)]
    stimulus, respond = Stimulus(jnp.ones(3), jnp.ones(2)), jax.jit(SMALL.step)
    one, two = (respond(tuple(w), wiring, state, stimulus) for w in (weights, drifted))
    jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.parametrize(("feedback", "silent"), [("transpose", (2, 4)), ("zero", (1, 2, 3, 4))])
def test_modulators_of_other_feedback_paths(feedback, silent):
    circuit = ExcitatoryInhibitory(excitatory=5, inhibitory=3, feedback=feedback)
    weights, wiring, state = draw(circuit)
    synapses = circuit.step(weights, wiring, state, Stimulus(jnp.ones(3), jnp.ones(2))).synapses
    assert wiring == ()
    for number in range(1, 5):
        expected = 0 if number in silent else weights[5][:5] @ synapses[5].modulator
        np.testing.assert_allclose(synapses[number].modulator, expected, rtol=1e-6)


def test_neurons_keep_their_sign_under_a_random_rule():
    one = learner(steps=400)

    @jax.jit
    @jax.vmap
    def run(key):
        theta = one.init_theta(key)
        context, state = one.init(theta, key, one.tasks.sample(key, one.tasks.split(0).train, 3))
        after, _ = unroll(one, theta, context, state, jnp.arange(400))

        def potentials(rates):
            # Potentials of sigmoid neurons that fire at given rates.
            before = after.circuit._replace(potentials=jax.tree.map(lambda rate: jnp.log(rate / (1 - rate)), rates))
            zero = Stimulus(jnp.zeros(3), jnp.zeros(1))
            response = one.circuit.step(after.weights, context.wiring, before, zero)
            return [response.synapses[1].potential, response.synapses[2].potential]

        # Less the leak, with which each neuron acts on itself.
        rates = jnp.full(5, 0.5), jnp.full(3, 0.5)
        return state.weights, after.weights, jax.jacfwd(potentials)(rates)

    before, after, ((ee, ie), (ei, ii)) = run(jax.random.split(KEY, 8))
    for one_before, one_after in zip(before[E_I], after[E_I], strict=True):
        assert np.min(one_after) == 0
        assert np.max(one_after) > 0
        assert np.abs(one_after - one_before).max() > 0.5
    assert np.min(after[0]) < 0
    other = lambda matrices: np.asarray(matrices)[:, ~np.eye(matrices.shape[1], dtype=bool)]
    assert np.min(other(ee)) >= 0
    assert np.min(ei) >= 0
    assert np.max(ie) <= 0
    assert np.max(other(ii)) <= 0


def test_each_type_of_synapse_may_have_its_own_theta():
    one = learner(theta="per_path", steps=20)
    assert one.theta_groups == ("input", "EE", "EI", "IE", "II", "output")
    theta = one.init_theta(KEY)
    assert theta.shape == (6, 7)
    assert not one.invertible
    alone = theta.at[jnp.array([0, 1, 2, 4, 5])].set(0.0)

    @jax.jit
    def run(theta):
        context, state = one.init(theta, KEY, one.tasks.sample(KEY, one.tasks.split(0).train, 3))
        return state.weights, unroll(one, theta, context, state, jnp.arange(20))[0].weights

    changed = [not np.array_equal(*pair) for pair in zip(*run(alone), strict=True)]
    assert changed == [False, False, False, True, False, False]


@pytest.mark.parametrize("activation", ["relu", "softplus", "sigmoid"])
@pytest.mark.parametrize("drive", [0.0, 1.0])
def test_initial_activity_is_stable(activation, drive):
    circuit = ExcitatoryInhibitory(activation=activation)

    @jax.jit
    @jax.vmap
    def run(key):
        weights, wiring, state = circuit.init(key, 4, 2)
        signals = drive * jax.random.normal(key, (600, 4))

        def step(state, signal):
            result = circuit.step(weights, wiring, state, Stimulus(signal, jnp.zeros(2)))
            return result.state, result.activity[:2]

        return jax.lax.scan(step, state, signals)[1]

    e, i = (np.asarray(rates) for rates in run(jax.random.split(KEY, 16)))
    for rates in (e, i):
        early, late = rates[:, 100:300], rates[:, 400:]
        assert np.min(rates) >= 0
        assert np.max(rates) < 6
        assert 0.03 < late.mean() < 0.7
        assert late.mean() == pytest.approx(early.mean(), rel=0.15)
        if drive == 0:
            assert np.ptp(late, axis=1).max() < 1e-3


def test_of_a_learned_size_the_absolute_value_counts():
    circuit = ExcitatoryInhibitory(excitatory=5, inhibitory=3, initial="learned")
    weights, wiring, _ = draw(circuit)
    values = {name: -value for name, value in circuit.initial_values(weights, wiring).items()}
    assert set(values) == {*(f"weights_{n}" for n in range(6)), "feedback_0", "feedback_1"}
    placed, feedback = circuit.with_initial_values(values, weights, wiring)
    jax.tree.map(np.testing.assert_array_equal, placed[E_I], weights[E_I])
    np.testing.assert_array_equal(placed[0], -weights[0])
    np.testing.assert_array_equal(feedback[1], -wiring[1])


def test_the_loop_of_a_lifetime_is_compiled():
    one = learner(steps=20, theta="per_path")
    theta = one.init_theta(KEY)
    task = one.tasks.sample(KEY, one.tasks.split(0).train, 3)
    with kernels("on"):
        assert is_compiled(one, theta, *one.init(theta, KEY, task))
