import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarule.tasks.criteria import Criterion, Reading, parse_criterion, satisfies

RESPONSES = {
    Reading("before", "CS1"): np.array([0.05, 0.2]),
    Reading("after", "CS1"): np.array([0.5, 0.5]),
    Reading("control", "CS1"): np.array([0.3, 0.4]),
}


def test_criteria_are_parsed():
    assert parse_criterion("after CS1 >= 1.5 control CS2") == Criterion(
        Reading("after", "CS1"), ">=", 1.5, Reading("control", "CS2")
    )
    assert parse_criterion(" before CS1<.1") == Criterion(Reading("before", "CS1"), "<", 0.1, None)


@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        ("before CS1 < 0.1", [True, False]),
        ("after CS1 >= 0.5", [True, True]),
        ("after CS1 > 0.5", [False, False]),
        ("after CS1 >= 1.5 control CS1", [True, False]),
        ("after CS1 <= 3 before CS1", [False, True]),
    ],
)
def test_criteria_are_satisfied_or_not(text, verdicts):
    assert satisfies(parse_criterion(text), RESPONSES).tolist() == verdicts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "allowed: a reading"),
        ("after CS1 = 0.5", "allowed: a reading"),
        ("after CS1 >= -1", "allowed: a reading"),
        ("later CS1 >= 0.5", "'later' is not a moment; allowed: before, peak, after, control"),
        ("after US >= 0.5", "'US' is not a CS; allowed: CS1, CS2"),
        ("after CS1 >= 2 befor CS1", "'befor' is not a moment"),
        ("__import__('os') CS1 < 1", "allowed: a reading"),
    ],
)
def test_invalid_criteria_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_criterion(text)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        assert parse_criterion(text)
    except ValueError as error:
        assert str(error)
