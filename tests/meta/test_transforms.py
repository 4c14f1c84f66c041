import optax
import pytest

from metarule import Gradient, Schedule
from metarule.meta.transforms import make_schedule, make_transform


def test_a_schedule_lasts_as_long_as_the_run():
    schedule = make_schedule(Schedule(name="cosine_decay_schedule", arguments={"init_value": 0.5}), steps=200)
    expected = optax.cosine_decay_schedule(0.5, 200)
    assert [float(schedule(step)) for step in (0, 50, 200)] == [float(expected(step)) for step in (0, 50, 200)]


def test_a_schedule_may_state_its_own_length():
    schedule = make_schedule(
        Schedule(name="linear_schedule", arguments={"init_value": 1.0, "end_value": 0.0, "transition_steps": 10}),
        steps=99,
    )
    assert float(schedule(5)) == pytest.approx(0.5)


def test_warm_up_fits_into_the_run():
    arguments = {"init_value": 0.0, "peak_value": 1e-2, "warmup_steps": 10}
    Gradient(steps=100, learning_rate=Schedule(name="warmup_cosine_decay_schedule", arguments=arguments))
    with pytest.raises(ValueError, match="positive decay_steps"):
        Gradient(steps=5, learning_rate=Schedule(name="warmup_cosine_decay_schedule", arguments=arguments))


@pytest.mark.parametrize("name", ["adam", "adamw", "lion", "rmsprop", "sgd", "adafactor", "lamb"])
def test_optimisers_are_found_by_name(name):
    assert callable(make_transform(name, 1e-3, {}).update)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "adm"}, "'adm' is no optimiser of Optax; allowed: .*adam"),
        ({"name": "lbfgs"}, "lbfgs cannot be used"),
        ({"name": "__doc__"}, "is no optimiser"),
        ({"arguments": {"beta": 0.9}}, "unexpected keyword argument 'beta'; allowed: learning_rate, b1"),
        ({"arguments": {"b1": "high"}}, "adam"),
        ({"learning_rate": Schedule(name="cosine")}, "'cosine' is no schedule of Optax; allowed: .*cosine_decay"),
        ({"learning_rate": Schedule(name="linear_schedule")}, "missing a required argument: 'init_value'"),
        ({"learning_rate": Schedule(name="constant_schedule", arguments={"value": "x"})}, "constant_schedule"),
    ],
)
def test_what_optax_does_not_take_is_refused_by_name(arguments, says):
    with pytest.raises(ValueError, match=says) as caught:
        Gradient(**arguments)
    assert "\n" not in str(caught.value)
