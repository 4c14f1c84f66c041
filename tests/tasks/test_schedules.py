import pytest

from metarule.tasks import TrialPhase, TrialSchedule
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
def test_trials_are_parsed(text, stages):
    assert parse_trial(text) == stages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a stimulus; allowed: CS1, CS2, US"),
        ("CS1 > ", "'' is not a stimulus"),
        ("CS3 > US", "'CS3' is not a stimulus"),
        ("cs1", "'cs1' is not a stimulus"),
        ("rest > US", "'rest' is not a stimulus"),
        ("CS1 > CS2 > US", "3 parts; allowed: at most 2"),
        ("CS1+CS1", "CS1 is given twice"),
        ("CS1 > CS1", "CS1 is given twice"),
    ],
)
def test_invalid_trials_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_trial(text)


def test_spaces_do_not_matter():
    phase = TrialPhase(trials=("CS1>US",), repetitions=(1, 2), targets={" CS1  > US": (0.0, 1.0)})
    assert phase == TrialPhase(trials=("CS1 > US",), repetitions=(1, 2), targets={"CS1 > US": (0.0, 1.0)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trials": ("CS9",), "repetitions": (1, 2)}, "'CS9' is not a stimulus"),
        ({"trials": ("CS1",), "repetitions": (3, 3)}, r"repetitions = \[3, 3\]; allowed"),
        ({"trials": ("CS1",), "repetitions": (0, 3)}, r"repetitions = \[0, 3\]; allowed"),
        (
            {"trials": ("CS1",), "repetitions": (1, 2), "targets": {"US": (0.0, 1.0)}},
            "targets: 'US' is not a trial of this phase",
        ),
    ],
)
def test_bad_phases_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrialPhase(**arguments)


def test_the_us_has_no_final_target():
    with pytest.raises(ValueError, match="final_targets: 'US' is not a conditioned stimulus; allowed: CS1, CS2"):
        TrialSchedule(phases=(TrialPhase(trials=("US",), repetitions=(1, 2)),), final_targets={"US": 1.0})
