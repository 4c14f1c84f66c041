import pytest

from metarule.tasks import Phase, Schedule
from metarule.tasks.schedules import parse_trial


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("CS1", (("CS1",), ())),
        ("rest", ((), ())),
        ("CS1 > US", (("CS1",), ("US",))),
        ("CS1+CS2>US", (("CS1", "CS2"), ("US",))),
        ("CS2 > CS1 + US", (("CS2",), ("CS1", "US"))),
    ],
)
def test_trials_are_read(text, stages):
    assert parse_trial(text) == stages


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no stimulus at ''; allowed: CS1, CS2, US"),
        ("CS1 > ", "names no stimulus at ''"),
        ("CS3 > US", "names no stimulus at 'CS3'"),
        ("cs1", "names no stimulus at 'cs1'"),
        ("rest > US", "names no stimulus at 'rest'"),
        ("CS1 > CS2 > US", "has 3 parts; allowed: at most two"),
        ("CS1+CS1", "names CS1 twice"),
        ("CS1 > CS1", "names CS1 twice"),
    ],
)
def test_what_is_no_trial_is_refused_by_name(text, says):
    with pytest.raises(ValueError, match=says):
        parse_trial(text)


def test_spaces_do_not_matter():
    phase = Phase(trials=("CS1>US",), times=(1, 2), wanted={" CS1  > US": (0.0, 1.0)})
    assert phase == Phase(trials=("CS1 > US",), times=(1, 2), wanted={"CS1 > US": (0.0, 1.0)})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"trials": ("CS9",), "times": (1, 2)}, "names no stimulus at 'CS9'"),
        ({"trials": ("CS1",), "times": (3, 3)}, r"times = \[3, 3\]; allowed"),
        ({"trials": ("CS1",), "times": (0, 3)}, r"times = \[0, 3\]; allowed"),
        ({"trials": ("CS1",), "times": (1, 2), "wanted": {"US": (0.0, 1.0)}}, "wanted 'US' is no trial of this phase"),
    ],
)
def test_bad_phases_are_refused_by_name(arguments, says):
    with pytest.raises(ValueError, match=says):
        Phase(**arguments)


def test_nothing_is_wanted_of_the_us_alone():
    with pytest.raises(ValueError, match="after 'US' is no conditioned stimulus; allowed: CS1, CS2"):
        Schedule(phases=(Phase(trials=("US",), times=(1, 2)),), after={"US": 1.0})
