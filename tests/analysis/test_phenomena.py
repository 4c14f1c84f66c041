import closed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from metarule import (
    Conditioning,
    ConditioningCircuit,
    InnerLoop,
    Lifetime,
    Polynomial,
    conditioned_responses,
    phenomena_shown,
)
from metarule.analysis.phenomena import Example, Responses, example_animals, interpolated_pool, timings
from metarule.kernels import kernels
from metarule.lifetime import scans
from metarule.tasks import STANDARD, Phenomenon, TrialPhase, TrialSchedule
from metarule.tasks.conditioning import FIELDS

KEY = jax.random.key(0)
PAIRING = Phenomenon(
    name="pairing",
    animal=TrialSchedule(phases=(TrialPhase(trials=("CS1 > US",), repetitions=(3, 5)),), final_targets={"CS1": 0.5}),
    control=TrialSchedule(phases=(TrialPhase(trials=("CS1", "US"), repetitions=(3, 5)),), final_targets={"CS1": 0.0}),
    criteria=("before CS1 < 0.1", "after CS1 >= 0.25", "control CS1 < 0.1", "after CS2 <= 1 before CS2"),
)
TASKS = Conditioning(
    phenomena=(PAIRING,), delays=(1, 3), gaps=(2, 4), test_delays=(2, 4), test_gaps=(3,), test_intensities=(0.5, 1.0)
)
LEARNER = Lifetime(
    rule=Polynomial(terms=("pre*modulator",)),
    circuit=ConditioningCircuit(),
    tasks=TASKS,
    inner_loop=InnerLoop(steps=TASKS.min_steps),
)


@pytest.fixture(scope="module")
def responses():
    return jax.device_get(conditioned_responses(LEARNER, jnp.array([0.1]), TASKS.split(0).train, KEY, 20))


def test_each_pairing_adds_the_rate_to_the_weight(responses):
    """Δw = 0.1·CS·US, so that the response in units of the US grows by 0.1·CS², in 3 or 5 trials."""
    assert responses.after.shape == (2, 20, 2)
    examples = jax.device_get(example_animals(LEARNER, jnp.array([0.1]), TASKS.split(0).train, KEY))
    animal = Example(*jax.tree.map(lambda leaf: leaf[0], tuple(examples)))
    np.testing.assert_allclose(animal.responses[[0, -1]], [responses.before[0, 0], responses.after[0, 0]], rtol=1e-6)
    intensity = animal.task.probes[0, 0]
    trials = np.count_nonzero(animal.task.stimuli[:, 2])
    assert trials in (3, 5)
    np.testing.assert_allclose(animal.responses[-1, 0] - animal.responses[0, 0], 0.1 * trials * intensity**2, rtol=1e-4)


def test_responses_to_unpaired_and_absent_stimuli_do_not_change(responses):
    np.testing.assert_allclose(responses.after[1], responses.before[1], rtol=1e-5)
    np.testing.assert_allclose(responses.after[0, :, 1], responses.before[0, :, 1], rtol=1e-5)


@pytest.mark.parametrize(
    ("mode", "steps", "unroll"), [("on", 3000, 1), ("off", TASKS.min_steps, 4), ("off", TASKS.min_steps + 1, 4)]
)
def test_responses_of_weights_that_do_not_change_are_equal_bit_for_bit(mode, steps, unroll, monkeypatch):
    """In loops that are cut into segments or unrolled, too: criteria compare responses with each other."""
    monkeypatch.setattr(scans, "_UNROLL", {"cpu": unroll})
    learner = replace(LEARNER, inner_loop=InnerLoop(steps=steps))
    with kernels(mode):
        still = conditioned_responses(learner, jnp.zeros(1), TASKS.split(0).train, jax.random.key(7), 5)
    assert np.unique(still.before).size > 5
    np.testing.assert_array_equal(still.after, still.before)
    np.testing.assert_array_equal(still.peak, still.before)


def test_animal_and_control_have_the_same_initial_weights_and_runs_differ(responses):
    np.testing.assert_array_equal(responses.before[0], responses.before[1])
    assert len(np.unique(responses.before[0, :, 0])) == 20


def test_phenomena_are_shown_by_their_criteria(responses):
    verdicts = phenomena_shown(TASKS, responses)["pairing"]
    expected = (responses.before[0, :, 0] < 0.1) & (responses.after[0, :, 0] >= 0.25)
    np.testing.assert_array_equal(verdicts, expected & (responses.after[1, :, 0] < 0.1))
    assert verdicts.any()
    assert not phenomena_shown(TASKS, responses._replace(before=responses.before + 1))["pairing"].any()


def test_timings_have_at_most_one_value_outside_the_trained_range():
    entries = timings(TASKS)
    values = [(entry.field, entry.value, entry.side) for entry in entries]
    assert values[:6] == [
        ("delays", 1, "trained"),
        ("delays", 2, "between"),
        ("delays", 3, "trained"),
        ("delays", 4, "above"),
        ("gaps", 2, "trained"),
        ("gaps", 3, "between"),
    ]
    assert ("intensities", 0.5, "below") in values
    assert len({jax.tree.map(jnp.shape, entry.pool) for entry in entries}) == 1  # so that they share one program
    for entry in entries:
        others = "trained" if entry.side == "trained" else "between"
        for name in FIELDS:
            expected = (entry.value,) if name == entry.field else TASKS.values(name, others)
            np.testing.assert_allclose(np.unique(getattr(entry.pool, name)), sorted(expected), rtol=1e-6)
        assert entry.pool.parity == (entry.side != "trained")


def test_all_values_of_interpolated_schedules_are_held_out():
    pool = interpolated_pool(TASKS)
    for name in FIELDS:
        assert set(np.asarray(getattr(pool, name)).tolist()) == set(TASKS.values(name, "between"))
    assert pool.parity == 1
    assert jax.tree.map(jnp.shape, pool) == jax.tree.map(jnp.shape, timings(TASKS)[0].pool)


# By phenomenon: responses to (CS1, CS2) before, at the peak, after and of the control.
# Only the first row satisfies the criteria.
VERDICTS = {
    "habituation": [
        ((0.06, 0), (0.06, 0), (0.03, 0), (0.06, 0)),
        ((0.06, 0), (0.06, 0), (0.031, 0), (0.07, 0)),
        ((0.06, 0), (0.06, 0), (0.01, 0), (0.01, 0)),
    ],
    "sensitisation": [((0, 0), (0, 0), (0.09, 0), (0.06, 0)), ((0, 0), (0, 0), (0.089, 0), (0.06, 0))],
    "acquisition": [
        ((0.09, 0), (0, 0), (0.5, 0), (0.4, 0)),
        ((0.09, 0), (0, 0), (0.5, 0), (0.5, 0)),
        ((0.1, 0), (0, 0), (0.5, 0), (0.4, 0)),
    ],
    "extinction": [
        ((0, 0), (0.8, 0), (0.15, 0), (0.5, 0)),
        ((0, 0), (0.4, 0), (0.15, 0), (0.5, 0)),
        ((0, 0), (0.8, 0), (0.15, 0), (0.49, 0)),
        ((0, 0), (0.8, 0), (0.2, 0), (0.5, 0)),
    ],
    "blocking": [((0, 0), (0, 0), (0, 0.1), (0, 0.4)), ((0, 0), (0, 0), (0, 0.13), (0, 0.4))],
    "second-order conditioning": [
        ((0, 0), (0, 0), (0.6, 0.2), (0, 0.09)),
        ((0, 0), (0, 0), (0.6, 0.2), (0, 0.1)),
        ((0, 0), (0, 0), (0.7, 0.2), (0, 0.09)),
    ],
}


@pytest.mark.parametrize("name", VERDICTS)
def test_standard_criteria_are_the_stated_ones(name):
    (phenomenon,) = (one for one in STANDARD if one.name == name)
    for number, readings in enumerate(VERDICTS[name]):
        before, peak, after, control = (np.array(pair, float)[None, None] for pair in readings)
        both = lambda animal, other: np.concatenate([animal, other])
        responses = Responses(both(before, before), both(peak, peak), both(after, control))
        assert phenomena_shown(Conditioning(phenomena=(phenomenon,)), responses)[name] == (number == 0)


def test_responses_that_are_not_finite_show_no_phenomenon(responses):
    """For example because the US does not drive the motor neuron, so that responses have no unit."""
    infinite = jax.tree.map(lambda leaf: np.full_like(leaf, np.inf), responses)
    for phenomenon in STANDARD[:6]:
        assert not phenomena_shown(Conditioning(phenomena=(phenomenon,)), infinite)[phenomenon.name].any()


def test_phenomena_of_other_tasks_are_refused():
    pool = TASKS.split(0).train
    with pytest.raises(ValueError, match=r"^tasks: phenomena are those of Conditioning; these are Arms"):
        conditioned_responses(closed.LEARNER, jnp.ones(2), pool, KEY, 2)
