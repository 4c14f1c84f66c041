"""Trials of tests that have a long form: few by default, many with `pytest -m long`."""

import pytest

__all__ = ["trials"]


def trials(few, many):
    """Numbers of the trials of a test; those from `few` on run only with `-m long`."""
    return [pytest.param(number, marks=pytest.mark.long if number >= few else ()) for number in range(many)]
