from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Conditioning
from metarule.tasks import STANDARD, Phenomenon, TrialPhase, TrialSchedule
from metarule.tasks.base import min_steps
from metarule.tasks.conditioning import FIELDS

KEY = jax.random.key(0)
RESTING = TrialSchedule(phases=(TrialPhase(trials=("rest",), repetitions=(1, 3)),), final_targets={"CS1": 0.05})


def phenomenon(*phases, **final_targets):
    return Phenomenon(
        name="it",
        animal=TrialSchedule(phases=phases, final_targets=final_targets),
        control=RESTING,
        criteria=("after CS1 < 1",),
    )


@partial(jax.jit, static_argnames=("tasks", "side"))
def one_task(tasks, number=0, key=KEY, side="train"):
    """The task of one schedule; that of a `fixed` family has its first delay, gap and intensity."""
    pool = getattr(tasks.split(0), side)
    if len(tasks.phenomena) == 1:
        pool = pool._replace(delays=pool.delays[:1], gaps=pool.gaps[:1], intensities=pool.intensities[:1])
    return tasks.sample(key, pool._replace(schedules=jnp.array([number])), 0)


def trial_counts(tasks, side):
    """Numbers of trials of habituation that occur."""
    stimuli = jax.jit(jax.vmap(lambda key: one_task(tasks, 0, key, side).stimuli))(jax.random.split(KEY, 200))
    on = np.pad(np.asarray(stimuli)[:, :, 0] > 0, ((0, 0), (1, 0)))
    return set((on[:, 1:] & ~on[:, :-1]).sum(axis=1).tolist())


def fixed(*phases, delay=2, gap=3, **final_targets):
    """Tasks of one phenomenon."""
    return Conditioning(
        phenomena=(phenomenon(*phases, **(final_targets or {"CS1": 0.5})),),
        delays=(delay, delay + 2),
        gaps=(gap, gap + 2),
        intensities=(1.0, 2.0),
        test_delays=(delay + 1,),
        test_gaps=(gap + 1,),
        test_intensities=(1.5,),
    )


def test_in_a_paired_trial_the_us_follows_the_cs_after_the_delay():
    stimuli = np.asarray(one_task(fixed(TrialPhase(trials=("CS1 > US",), repetitions=(2, 3)))).stimuli)
    trial = np.zeros((8, 3))  # two delays, one step and a gap of three
    trial[0:3, 0] = trial[2, 2] = 1
    np.testing.assert_array_equal(stimuli[:16], np.concatenate([trial, trial]))
    assert not stimuli[16:].any()


def test_blocks_stages_and_phases_follow_each_other():
    tasks = fixed(
        TrialPhase(trials=("CS2 > CS1", "US"), repetitions=(1, 2)), TrialPhase(trials=("CS1+CS2",), repetitions=(2, 3))
    )
    stimuli = np.asarray(one_task(tasks).stimuli)[:32].reshape(4, 8, 3).astype(bool)
    second_order, us, compound, repeated = (np.argwhere(trial.T).tolist() for trial in stimuli)
    assert second_order == [[0, 2], [0, 3], [0, 4], [1, 0], [1, 1], [1, 2]]
    assert us == [[2, 0]]
    assert compound == repeated == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_targets_go_from_first_to_last():
    targets = {"CS1": (0.8, 0.0)}
    task = one_task(fixed(TrialPhase(trials=("CS1",), repetitions=(5, 6), targets=targets), CS1=0.1, CS2=0.4))
    values, tolerance, counts = np.asarray(task.targets).T
    trials = np.flatnonzero(counts)
    np.testing.assert_array_equal(trials, 8 * np.arange(5))
    np.testing.assert_allclose(values[trials], 0.8 * np.exp(-3 * np.arange(5) / 4), rtol=1e-5)
    np.testing.assert_allclose(tolerance[trials], 0.1 * (0.15 + values[trials]), rtol=1e-5)
    assert counts.mean() == pytest.approx(1)
    np.testing.assert_allclose(task.final_targets[:, 0], [0.1, 0.4, 0], rtol=1e-6)
    np.testing.assert_allclose(task.final_targets[:, 2], [1.5, 1.5, 0])


def test_targets_are_relative_to_the_us():
    tasks = fixed(TrialPhase(trials=("CS1",), repetitions=(1, 2), targets={"CS1": (0.8, 0.8)}))
    task = one_task(tasks, side="test")
    np.testing.assert_allclose(task.probes, 1.5 * np.eye(3))
    assert task.targets[0, 0] == pytest.approx(1.2)


def test_loss_and_score_by_hand():
    tasks, target = Conditioning(), jnp.array([0.5, 0.1, 2.0])
    assert tasks.loss(jnp.array([0.5]), target) == 0
    assert tasks.loss(jnp.array([0.8]), target) == pytest.approx(2 * (10**0.5 - 1))
    targets = jnp.array([[0.5, 0.1, 1.5], [0.5, 0.1, 1.5], [0.0, 0.1, 0.0]])
    metrics = tasks.metrics(jnp.array([[0.55], [0.9], [7.0]]), targets)
    assert metrics["deviation"] == pytest.approx((0.5 + 4) / 2)
    assert metrics["closeness"] == pytest.approx(1 / 3.25)


def test_test_schedules_share_no_delay_gap_intensity_or_number_of_trials():
    tasks = Conditioning()
    split = jax.jit(tasks.split)(0)
    for name in FIELDS:
        train, test = (set(np.asarray(getattr(pool, name)).tolist()) for pool in split)
        assert not train & test
        assert min(test) < min(train) < max(train) < max(test)
        assert any(min(train) < value < max(train) for value in test)
    assert (trial_counts(tasks, "train"), trial_counts(tasks, "test")) == ({10, 12, 14}, {11, 13})


def test_values_are_selected_by_their_position():
    tasks = Conditioning(delays=(2, 4), test_delays=(5, 3, 1, 9))
    sides = {side: tasks.values("delays", side) for side in ("trained", "below", "between", "above")}
    assert sides == {"trained": (2, 4), "below": (1,), "between": (3,), "above": (5, 9)}


def test_only_trained_phenomena_are_in_the_pools():
    names = [phenomenon.name for phenomenon in STANDARD]
    for pool in Conditioning().split(3):
        used = {names[number // 2] for number in np.asarray(pool.schedules)}
        assert used == {phenomenon.name for phenomenon in STANDARD if phenomenon.trained}
    fewer = Conditioning(report_only=("blocking",)).split(3).train
    assert {names[number // 2] for number in np.asarray(fewer.schedules)} == used - {"blocking"}


def test_an_animal_and_its_control_share_timings_and_intensities():
    animal, control = one_task(Conditioning(), 4), one_task(Conditioning(), 5)
    np.testing.assert_array_equal(animal.probes, control.probes)


def test_the_longest_schedule_fits_and_ends_with_rest():
    tasks = Conditioning()
    keys = jax.random.split(KEY, 50)
    draw = jax.jit(lambda number: jax.vmap(lambda key: one_task(tasks, number, key, "train").stimuli)(keys))
    for number in range(2 * len(STANDARD)):
        stimuli = draw(number)
        assert stimuli.shape[1] == min_steps(tasks)
        assert not stimuli[:, -min(tasks.gaps) :].any()
    beyond = jax.jit(tasks.stimulus)(one_task(tasks), min_steps(tasks) + 100, KEY)
    assert not beyond.input.any()
    assert beyond.target[2] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"phenomena": STANDARD[:1] * 2}, "phenomena: 'habituation' is given twice"),
        ({"phenomena": STANDARD[-1:]}, "none is trained"),
        ({"report_only": ("blockade",)}, "report_only: 'blockade' is not a phenomenon; allowed: habituation"),
        ({"delays": (0, 2)}, "delays: 0; allowed: 1 to 100"),
        ({"gaps": (3, 3)}, "gaps: a value is given twice"),
        ({"intensities": (1.0, -1.0)}, "intensities: -1.0; allowed"),
        ({"test_delays": (0, 3)}, "test_delays: 0; allowed: 1 to 100"),
        ({"test_gaps": (4, 5)}, "test_gaps: 5 is trained; allowed: values that are not in gaps"),
        ({"test_delays": (1, 5)}, "test_delays: no value is between 2 and 4, the range of delays"),
    ],
)
def test_bad_tasks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Conditioning(**arguments)


def test_a_trained_phenomenon_needs_final_targets():
    with pytest.raises(ValueError, match="animal.final_targets of 'it' is empty"):
        phenomenon(TrialPhase(trials=("US",), repetitions=(1, 2)))


def test_emphasised_phenomena_are_sampled_more_often():
    tasks = Conditioning(emphasis={"blocking": 3, "habituation": 2}, report_only=("habituation",))
    schedules = np.asarray(jax.jit(tasks.split)(0).train.schedules).tolist()
    blocking = [phenomenon.name for phenomenon in STANDARD].index("blocking")
    assert {number: schedules.count(number) for number in schedules} == {
        number: 3 if number // 2 == blocking else 1 for number in range(2, 12)
    }
    assert set(np.asarray(jax.jit(tasks.split)(0).test.schedules).tolist()) == set(schedules)
    assert isinstance(hash(tasks), int)


@pytest.mark.parametrize("name", ["blockade", "overshadowing"])
def test_only_trained_phenomena_are_emphasised(name):
    with pytest.raises(ValueError, match=f"emphasis: '{name}' is not a trained phenomenon; allowed: habituation, "):
        Conditioning(emphasis={name: 2})
