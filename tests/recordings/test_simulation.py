"""Simulated animals: weights, choices and rewards against plain NumPy, and settings that do not fit together."""

import jax
import numpy as np
import pytest
from msgspec.structs import replace

import metarule as mr
from metarule.circuits import ConditioningCircuit
from metarule.recordings.rewards import third_factor
from metarule.recordings.simulation import truth

RATE = 0.05
OJA = mr.SimulationExperiment(
    rule=mr.Polynomial(terms=("oja",), initial={"oja": RATE}),
    simulation=mr.Simulation(animals=3, steps=30, inputs=4, outputs=2, record=("activity", "weights")),
)
SIGMOID = mr.Feedforward(hidden=(), bias=False, feedback="zero")
REINFORCE = mr.Polynomial(terms=("pre*modulator*neuromodulator",), initial={"pre*modulator*neuromodulator": 0.5})
FLIES = mr.SimulationExperiment(
    rule=mr.Polynomial(terms=("pre*neuromodulator",), initial={"pre*neuromodulator": 0.5}),
    circuit=SIGMOID,
    simulation=mr.Simulation(
        animals=40,
        steps=100,
        inputs=2,
        outputs=1,
        environment="odours",
        block=30,
        reward="centred",
        record=("choices", "weights"),
    ),
)
# Largest |z| of a frequency: exceeded with probability 1e-5.
LARGEST_Z = 4.42


@pytest.fixture(scope="module")
def flies():
    return mr.simulate(FLIES)


def z_of(observed, probability):
    return (observed - probability).sum() / np.sqrt((probability * (1 - probability)).sum())


def probability_of(animal):
    return 1 / (1 + np.exp(-np.einsum("ti,ti->t", animal.inputs, animal.weights[0][:, :, 0])))


def test_weights_and_activity_are_those_of_a_plain_loop():
    for animal in mr.simulate(OJA):
        weights = animal.initial_weights[0]
        for t, pre in enumerate(animal.inputs):
            np.testing.assert_allclose(animal.weights[0][t], weights, rtol=0, atol=2e-15)
            post = pre @ weights
            np.testing.assert_allclose(animal.activity[t], post, rtol=0, atol=4e-15)
            weights = weights + RATE * (np.outer(pre, post) - post**2 * weights)
        assert animal.choices is animal.rewards is animal.plastic is animal.session is None


def test_the_truth_is_the_rule():
    assert truth(OJA) == {"equation": "Δw = 0.05·(pre·post − post²·weight)", "coefficients": {"oja": RATE}}


def test_the_seed_or_a_key_decides_all_numbers_and_animals_do_not_depend_on_each_other():
    first, again, other = mr.simulate(OJA), mr.simulate(OJA), mr.simulate(replace(OJA, seed=1))
    keyed = mr.simulate(OJA, jax.random.key(7))
    fewer = mr.simulate(replace(OJA, simulation=replace(OJA.simulation, animals=2)))
    assert np.array_equal(first[1].activity, again[1].activity)
    assert np.array_equal(first[1].inputs, fewer[1].inputs)
    for different in (other[1], keyed[1], first[2]):
        assert not np.isclose(first[1].inputs, different.inputs).any()


def test_choices_are_as_frequent_as_their_probability(flies):
    chosen = np.concatenate([animal.choices for animal in flies])
    assert abs(z_of(chosen, np.concatenate([probability_of(animal) for animal in flies]))) < LARGEST_Z
    assert set(chosen) == {0, 1}


def test_an_accepted_odour_is_rewarded_with_its_probability_which_rotates_at_each_block(flies):
    better, worse = [], []
    for animal in flies:
        is_given = ~np.isnan(animal.rewards)
        assert np.array_equal(is_given, animal.choices == 1)
        assert np.array_equal(is_given, animal.plastic == 1)
        is_better = (animal.inputs.argmax(1) + np.arange(100) // 30) % 2 == 0
        better += [*animal.rewards[is_given & is_better]]
        worse += [*animal.rewards[is_given & ~is_better]]
    for rewards, probability in ((better, 0.8), (worse, 0.2)):
        assert abs(z_of(np.array(rewards), np.full(len(rewards), probability))) < LARGEST_Z


@pytest.mark.parametrize("reward", ["centred", "raw"])
def test_weights_follow_the_third_factor_of_the_recorded_rewards(flies, reward):
    settings = replace(FLIES.simulation, reward=reward)
    animal = (flies if reward == "centred" else mr.simulate(replace(FLIES, simulation=settings)))[0]
    with jax.enable_x64(True):
        factor = np.asarray(third_factor(jax.numpy.array(animal.rewards), 0.9 if reward == "centred" else None))
    changes = 0.5 * animal.plastic[:, None] * factor[:, None] * animal.inputs
    np.testing.assert_allclose(np.diff(animal.weights[0][:, :, 0], axis=0), changes[:-1], rtol=0, atol=1e-14)


def test_discrimination_rewards_the_sign_of_the_first_input_and_the_modulator_is_choice_minus_probability():
    settings = mr.Simulation(animals=2, inputs=1, outputs=1, environment="discrimination", record=("weights",))
    circuit = mr.Feedforward(hidden=(), feedback="zero")
    for animal in mr.simulate(mr.SimulationExperiment(rule=REINFORCE, circuit=circuit, simulation=settings)):
        correct = animal.inputs[:, 0] > 0
        assert np.array_equal(animal.rewards, animal.choices == correct)
        assert animal.plastic.all()
        pre = np.stack([animal.inputs[:, 0], np.ones(50)], axis=1)
        weights = animal.weights[0][:, :, 0]
        modulator = animal.choices - 1 / (1 + np.exp(-(pre * weights).sum(1)))
        changes = 0.5 * (animal.rewards * modulator)[:, None] * pre
        np.testing.assert_allclose(np.diff(weights, axis=0), changes[:-1], rtol=0, atol=1e-14)


def test_what_is_recorded_has_noise_and_gaps_and_changes_nothing_else():
    noisy = replace(
        OJA.simulation,
        neurons=(1,),
        activity_noise=0.5,
        weight_noise=0.1,
        missing=0.3,
        initial_weights="hidden",
    )
    exact, recorded = mr.simulate(OJA), mr.simulate(replace(OJA, simulation=noisy))
    gaps = np.stack([np.isnan(animal.activity) for animal in recorded])
    assert abs(z_of(gaps, np.full(gaps.shape, 0.3))) < LARGEST_Z
    noise = np.stack([two.activity - one.activity[:, 1:] for one, two in zip(exact, recorded, strict=True)])
    assert abs(np.nanstd(noise) - 0.5) < LARGEST_Z * 0.5 / np.sqrt(2 * (~gaps).sum())
    errors = np.stack([two.weights[0] - one.weights[0] for one, two in zip(exact, recorded, strict=True)])
    assert abs(errors.std() - 0.1) < LARGEST_Z * 0.1 / np.sqrt(2 * errors.size)
    assert np.array_equal(exact[0].inputs, recorded[0].inputs)
    assert recorded[0].initial_weights == {}


@pytest.mark.long
def test_activity_starts_anew_in_each_session():
    settings = mr.Simulation(animals=1, steps=6, sessions=2, inputs=1, outputs=1, input_scale=0.0)
    recurrent = mr.Recurrent(neurons=3, output="identity", feedback="zero", leak=0.2)
    still = mr.Polynomial(terms=("pre",), initial={})
    (animal,) = mr.simulate(mr.SimulationExperiment(rule=still, circuit=recurrent, simulation=settings))
    assert animal.session.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(animal.activity[:3], animal.activity[3:])
    assert np.ptp(animal.activity) > 0
    assert [animal.initial_weights[number].shape for number in range(3)] == [(2, 3), (3, 3), (4, 1)]


def test_a_rule_that_diverges_is_refused_with_animal_and_step():
    hebb = mr.Polynomial(terms=("pre^3*post^3",), initial={"pre^3*post^3": 9.0})
    with pytest.raises(ValueError, match=r"^rule: animal-1 diverged at step \d+; allowed: coefficients and inputs"):
        mr.simulate(replace(OJA, rule=hebb))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sessions": 4}, "sessions = 4: allowed: divisors of steps = 30"),
        ({"neurons": (0, 2)}, r"neurons = \[0, 2\]: allowed: distinct numbers from 0 to 1"),
        ({"neurons": (0, 0)}, r"neurons = \[0, 0\]: allowed: distinct"),
        ({"reward": "centred"}, "reward = centred: environment = 'noise' has none; allowed: odours or discrimination"),
        ({"environment": "odours"}, r"reward_probabilities = \[0.8, 0.2\]: allowed: as many as inputs = 4"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(OJA.simulation, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"simulation": mr.Simulation(record="choices")}, "simulation.outputs = 3: allowed: 1, because animals choose"),
        (
            {"simulation": mr.Simulation(outputs=1, record="choices")},
            "circuit.output = 'identity': allowed: sigmoid, the probability",
        ),
        ({"circuit": ConditioningCircuit()}, r"circuit: it has 3 input and 1 output neurons"),
        ({"rule": mr.Polynomial(terms=("delta",))}, "rule: it reads modulator, and there are no targets; allowed: sim"),
        ({"rule": REINFORCE}, "rule: it reads neuromodulator, and no reward is given; allowed: simulation.environment"),
        ({"simulation": mr.Simulation(animals=10**5, steps=10**6)}, r"simulation: \d+ numbers of all animals"),
    ],
)
def test_components_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(OJA, **change)


@pytest.mark.long
def test_a_modulator_that_is_a_neuron_needs_no_target_and_choices_need_no_reward():
    aplysia = mr.Simulation(animals=1, steps=5, inputs=3, outputs=1)
    rule = mr.Polynomial(terms=("pre*modulator*neuromodulator",))
    assert mr.SimulationExperiment(rule=rule, circuit=ConditioningCircuit(), simulation=aplysia)
    choosing = mr.Simulation(animals=1, steps=5, outputs=1, record="choices")
    (animal,) = mr.simulate(
        mr.SimulationExperiment(rule=mr.Polynomial(terms=("delta",)), circuit=SIGMOID, simulation=choosing)
    )
    assert set(animal.choices) <= {0, 1}
    assert animal.rewards is None
