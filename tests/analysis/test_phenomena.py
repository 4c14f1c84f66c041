import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Conditioning, ConditioningCircuit, InnerLoop, Lifetime, Polynomial, respond, shown
from metarule.analysis.phenomena import Example, Responses, interpolated, timings
from metarule.tasks import STANDARD, Phase, Phenomenon, Schedule
from metarule.tasks.conditioning import FIELDS

KEY = jax.random.key(0)
PAIRING = Phenomenon(
    name="pairing",
    animal=Schedule(phases=(Phase(trials=("CS1 > US",), times=(3, 5)),), after={"CS1": 0.5}),
    control=Schedule(phases=(Phase(trials=("CS1", "US"), times=(3, 5)),), after={"CS1": 0.0}),
    shown=("before CS1 < 0.1", "after CS1 >= 0.25", "control CS1 < 0.1", "after CS2 <= 1 before CS2"),
)
TASKS = Conditioning(
    phenomena=(PAIRING,), delays=(1, 3), gaps=(2, 4), test_delays=(2, 4), test_gaps=(3,), test_intensities=(0.5, 1.0)
)
LIFE = Lifetime(
    rule=Polynomial(terms=("pre*modulator",)),
    circuit=ConditioningCircuit(),
    batch_size=TASKS,
    inner_loop=InnerLoop(steps=TASKS.min_steps),
)


@pytest.fixture(scope="module")
def responses():
    return jax.device_get(respond(LIFE, jnp.array([0.1]), TASKS.split(0).train, KEY, 20))


def test_a_pairing_adds_the_rate_to_the_weight_each_time(responses):
    """Δw = 0.1·CS·US, so that the response in units of the US grows by 0.1·CS², in 3 or 5 trials."""
    assert responses.after.shape == (2, 20, 2)
    animal = Example(*jax.tree.map(lambda leaf: leaf[0], tuple(responses.example)))
    intensity = animal.task.probes[0, 0]
    trials = np.count_nonzero(animal.task.stimuli[:, 2])
    assert trials in (3, 5)
    np.testing.assert_allclose(animal.responses[-1, 0] - animal.responses[0, 0], 0.1 * trials * intensity**2, rtol=1e-4)


def test_unpaired_controls_and_silent_stimuli_learn_nothing(responses):
    np.testing.assert_allclose(responses.after[1], responses.before[1], rtol=1e-5)
    np.testing.assert_allclose(responses.after[0, :, 1], responses.before[0, :, 1], rtol=1e-5)


def test_animal_and_control_are_born_alike_and_runs_differ(responses):
    np.testing.assert_array_equal(responses.before[0], responses.before[1])
    assert len(np.unique(responses.before[0, :, 0])) == 20


def test_what_is_shown_follows_the_criteria(responses):
    verdicts = shown(TASKS, responses)["pairing"]
    expected = (responses.before[0, :, 0] < 0.1) & (responses.after[0, :, 0] >= 0.25)
    np.testing.assert_array_equal(verdicts, expected & (responses.after[1, :, 0] < 0.1))
    assert verdicts.any()
    assert not shown(TASKS, responses._replace(before=responses.before + 1))["pairing"].any()


def test_timings_go_outside_in_one_respect_alone():
    found = timings(TASKS)
    places = [(place.field, place.value, place.side) for place in found]
    assert places[:6] == [
        ("delays", 1, "trained"),
        ("delays", 2, "between"),
        ("delays", 3, "trained"),
        ("delays", 4, "above"),
        ("gaps", 2, "trained"),
        ("gaps", 3, "between"),
    ]
    assert ("intensities", 0.5, "below") in places
    assert len({jax.tree.map(jnp.shape, place.pool) for place in found}) == 1  # so that one program serves all
    for place in found:
        usual = "trained" if place.side == "trained" else "between"
        for name in FIELDS:
            values = (place.value,) if name == place.field else TASKS.values(name, usual)
            np.testing.assert_allclose(np.unique(getattr(place.pool, name)), sorted(values), rtol=1e-6)
        assert place.pool.more == (place.side != "trained")


def test_interpolated_schedules_are_held_out_in_all_respects():
    pool = interpolated(TASKS)
    for name in FIELDS:
        assert set(np.asarray(getattr(pool, name)).tolist()) == set(TASKS.values(name, "between"))
    assert pool.more == 1
    assert jax.tree.map(jnp.shape, pool) == jax.tree.map(jnp.shape, timings(TASKS)[0].pool)


# By phenomenon: responses to (CS1, CS2) before, at the peak, after and of the control; only the first row shows it.
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
        made = Responses(both(before, before), both(peak, peak), both(after, control), example=None)
        assert shown(Conditioning(phenomena=(phenomenon,)), made)[name] == (number == 0)


def test_responses_that_are_not_finite_show_nothing(responses):
    """As where the US does not drive the motor neuron, so that there is nothing to measure responses in."""
    endless = jax.tree.map(lambda leaf: np.full_like(leaf, np.inf), responses._replace(example=None))
    for phenomenon in STANDARD[:6]:
        assert not shown(Conditioning(phenomena=(phenomenon,)), endless)[phenomenon.name].any()
