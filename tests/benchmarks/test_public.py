"""Help and documented names of every program, and independence of the library from them."""

import ast
import importlib
import inspect
import runpy
import sys
from pathlib import Path

import pytest

from metarule.config.help import Source, walk

ROOT = Path(__file__).parents[2]
FILES = [file for file in sorted((ROOT / "benchmarks").rglob("*.py")) if file.stem != "__init__"]
PROGRAMS = [file for file in FILES if '__name__ == "__main__"' in file.read_text()]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_public_names_are_listed_and_documented(file):
    module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    assert module.__doc__
    defined = {
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert defined <= set(module.__all__)
    for name in module.__all__:
        assert inspect.getdoc(getattr(module, name)), name


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: file.stem)
def test_every_program_has_help_a_quick_form_and_rows_as_json(file, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [f"benchmarks.{file.stem}", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(file), run_name="__main__")
    assert end.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--quick", "--json") if file.stem != "tables" else ("--json",):  # a check has no short form
        assert option in printed


@pytest.mark.parametrize(
    "file", [file for file in PROGRAMS if "class Options" in file.read_text()], ids=lambda file: file.stem
)
def test_every_option_and_every_field_of_a_file_is_described(file):
    program = importlib.import_module(f"benchmarks.{file.stem}")
    structs = [program.Options, *([program.Study] if file.stem == "study" else [])]
    fields = list(walk([Source(struct) for struct in structs]))
    assert [field.name for field in fields if not field.description] == []


def test_the_library_does_not_import_benchmarks():
    for file in (ROOT / "metarule").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert not [name for name in names if name.split(".")[0] == "benchmarks"], file
