"""Imports go down the layers only, and packages of one layer do not import each other."""

import ast
import importlib
import pkgutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import metarule

PACKAGE = Path(__file__).parent.parent / "metarule"
# From the bottom up; packages and modules of one layer do not import each other.
LAYERS = [
    {"startup", "types"},
    {"protocols"},
    {"config", "kernels", "prng", "activations", "tracing"},
    {"parallel"},
    {"rules", "circuits", "tasks"},
    {"lifetime"},
    {"testing"},
    {"recordings"},
    {"estimators"},
    {"meta"},
    {"analysis"},
    {"inference"},
    {"runs"},
    {"sweeps"},
    {"reports"},
    {"commands"},
    {"__main__", "train", "evaluate", "adapt", "prune", "evolve", "infer"},
]
LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}


def package_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_packages(file: Path) -> Iterator[str]:
    """Packages that a file imports, at its top or anywhere inside."""
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
        f"{package_of(file)} imports {package}"
        for file in files
        for package in imported_packages(file)
        if package != package_of(file) and LAYER[package] >= LAYER[package_of(file)]
    ]


FILES = [file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py"]


def test_every_package_has_a_layer():
    assert {package_of(file) for file in FILES} == set(LAYER)


def test_imports_go_down_only():
    assert upward(FILES) == []


def test_an_import_that_goes_up_is_detected(monkeypatch):
    monkeypatch.setitem(LAYER, "types", len(LAYERS))
    assert "rules imports types" in upward(FILES)


def test_no_name_rebinds_a_module():
    names = {module.name for module in pkgutil.walk_packages(metarule.__path__, "metarule.")}
    # The shells of `python -m metarule.evaluate` and `infer` stand beside the public functions of these names.
    for name in names - {"metarule.evaluate", "metarule.infer", "metarule.__main__"}:
        parent, _, child = name.rpartition(".")
        importlib.import_module(name)
        assert isinstance(getattr(sys.modules[parent], child), types.ModuleType), name
