"""Commands in reports."""

import pytest

from metarule.reports.provenance import command_line


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        ("/somewhere/bin/metarule", "metarule"),
        ("/somewhere/metarule/__main__.py", "metarule"),
        ("/somewhere/metarule/train.py", "metarule train"),
        ("/somewhere/benchmarks/robustness.py", "python -m benchmarks.robustness"),
        ("mine.py", "mine.py"),
    ],
)
def test_a_command_is_that_of_any_machine(program, shown):
    assert command_line([program, "--rule.terms", '["pre*post"]']) == f"{shown} --rule.terms '[\"pre*post\"]'"
    assert command_line([]) == ""
