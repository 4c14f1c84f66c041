"""Imports go down only, and rooms on one floor do not know each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "metarule"
FLOORS = [
    {"types", "surroundings"},
    {"complaints", "streams", "schema", "activations", "products"},
    {"config", "programs"},
    {"devices"},
    {"abreast", "processes"},
    {
        "rules",
        "circuits",
        "tasks",
        "scans",
        "statistics",
        "stopping",
        "checkpoints",
        "cli",
        "diagnosis",
        "environments",
        "locks",
    },
    {"lifetime", "testing", "cli"},
    {"estimators"},
    {"meta", "evaluation", "phenomena"},
    {"adaptation", "baselines", "comparison", "figures", "forms", "growth"},
    {"ablation"},
    {"pruning"},
    {"experiment", "reports"},
    {"artifacts"},
    {"training"},
    {"results", "finished"},
    {"train", "prune", "evolve", "evaluate", "adapt"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(file: Path) -> Iterator[str]:
    """Rooms that a file imports, at its top or anywhere inside."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("metarule."))


def upward(files: list[Path]) -> list[str]:
    return [
        f"{room_of(file)} imports {room}"
        for file in files
        for room in imported_rooms(file)
        if room != room_of(file) and FLOOR[room] >= FLOOR[room_of(file)]
    ]


FILES = [file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py"]


def test_every_room_stands_on_a_floor():
    assert {room_of(file) for file in FILES} == set(FLOOR)


def test_imports_go_down_only():
    assert upward(FILES) == []


def test_an_import_that_goes_up_is_found(monkeypatch):
    monkeypatch.setitem(FLOOR, "types", len(FLOORS))
    assert "rules imports types" in upward(FILES)
