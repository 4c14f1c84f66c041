"""Help from docstrings: one screen for a command, the fields of a table, and a description of every field."""

import importlib
import re
import subprocess
import sys

import pytest

from metarule.__main__ import COMMANDS
from metarule.config.help import Source, flags, overview, table, walk
from metarule.runs.experiment import Experiment

FIELDS = {name: importlib.import_module(f"metarule.commands.{name}").FIELDS for name in COMMANDS}
CONFIG = (Source(Experiment),)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_has_a_description_in_the_docstring_of_its_struct(command):
    fields = list(walk(FIELDS[command]))
    assert fields
    assert [field.name for field in fields if not field.description] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_fits_on_a_screen(command, capsys):
    assert importlib.import_module(f"metarule.commands.{command}").main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith(f"usage: metarule {command} ")


def test_the_overview_lists_fields_and_tables():
    text = overview(CONFIG)
    assert "  --seed " in text
    assert "  circuit " in text
    assert re.search(r"\(feedforward\|recurrent\|conditioning\|excitatory_inhibitory\)\s+\[feedforward\]", text)
    assert "--circuit.hidden" not in text


def test_a_table_lists_its_kinds_and_the_fields_of_the_default():
    text = " ".join(table(CONFIG, "circuit").split())
    assert (
        text.index("--circuit.kind is one of these") < text.index(" conditioning ") < text.index(" --circuit.hidden ")
    )
    assert '(learned|random|transpose|zero) ["random"]' in text
    assert "--circuit.neurons" not in text
    assert "--circuit.neurons" in table(CONFIG, "circuit.recurrent")
    assert "--optimizer.learning_rate.name" in table(CONFIG, "--optimizer.learning_rate")
    assert "--rule.traces.NAME.of" in table(CONFIG, "rule.traces")
    assert "see --help tasks.phenomena" in table(CONFIG, "tasks.conditioning")
    assert "  tasks.phenomena[].criteria" in table(CONFIG, "tasks.phenomena")
    assert "(number|all)" in table(CONFIG, "optimizer.train_tasks")
    assert "No fields." in table(CONFIG, "optimizer.estimator.scan.plain")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("optimisr", "allowed: rule, circuit, tasks, .*, run; did you mean 'optimizer'"),
        ("circuit.recurent", "allowed: circuit.synapses, .*; did you mean 'circuit.recurrent'"),
        ("x.y", "allowed: rule"),
    ],
)
def test_an_unknown_table_is_refused(path, message):
    with pytest.raises(ValueError, match=f"^--help {path}: there is no such table; {message}"):
        table(CONFIG, path)


def test_flags_are_those_of_the_command_line():
    names = flags(CONFIG)
    assert {"--seed", "--rule.kind", "--rule.terms", "--optimizer.estimator.scan.kind"} <= set(names)
    assert len(names) == len(set(names))
    assert not [name for name in names if "[]" in name or "NAME" in name]


def test_help_without_docstrings():
    script = "from metarule.config.help import *; from metarule.runs.experiment import Experiment as E\n"
    script += "print(overview([Source(E)]), table([Source(E)], 'circuit'), sep='\\n')"
    done = subprocess.run([sys.executable, "-OO", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '\nkind = "feedforward"\n' in done.stdout
    assert "  --circuit.hidden " in done.stdout
