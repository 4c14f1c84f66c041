"""Commands in reports."""

import pytest

from metarule.reports.provenance import command_line, provenance
from metarule.runs.files import write_json


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


@pytest.mark.parametrize("seed", ["", "s3"])
def test_a_command_has_the_directory_of_now(tmp_path, seed):
    path = tmp_path / "new" / seed
    path.mkdir(parents=True)
    write_json(path / "environment.json", {"command": ["metarule", "train", "x", "--run.directory", "old", "--seed=3"]})
    command, *_ = provenance(path, [3], ()).commands
    assert command == f"metarule train x --run.directory {tmp_path / 'new'} --seed=3"
