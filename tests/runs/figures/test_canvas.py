"""Figures that cannot be drawn, and settings of the user."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from metarule.config.messages import collect_warnings
from metarule.runs.figures import draw_tasks, drawn_last

ROOT = Path(__file__).parents[3]
VALUES = {"learned": [0.9, 0.8, 1.0], "delta": [0.5, 0.6, 0.7]}


def drawn(file):
    draw_tasks(file, VALUES, "solved", "held-out tasks")
    return file.read_bytes()


def test_settings_of_the_user_do_not_reach_a_figure(tmp_path):
    plain = drawn(tmp_path / "plain.png")
    settings = {"text.usetex": True, "font.size": 30, "savefig.dpi": 20, "axes.facecolor": "red"}
    with matplotlib.rc_context(settings):
        assert drawn(tmp_path / "other.png") == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_files_and_variables_that_prevent_the_import_of_matplotlib_are_ignored(tmp_path):
    settings = tmp_path / "settings"
    settings.write_bytes(b"\xff\xfe no text")
    script = "from pathlib import Path; from metarule.runs.figures.canvas import *; f = Path('x.png')\n"
    script += "picture(lambda file: save(blank(1, 1), file))(f); assert f.exists()\n"
    env = os.environ | {"MATPLOTLIBRC": str(settings), "MPLBACKEND": "nonsense", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "could not be drawn" in done.stderr) == (0, False), done.stderr


def test_a_figure_that_cannot_be_drawn_costs_one_line_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    def full(figure, file, **_):
        file.write_text("torn")
        raise OSError(28, "No space left on device")

    with collect_warnings() as warnings:
        monkeypatch.setattr(Figure, "savefig", full)
        draw_tasks(tmp_path / "one.png", VALUES, "solved", "held-out tasks")
        monkeypatch.undo()
        draw_tasks(tmp_path / "two.png", VALUES, "solved", "held-out tasks")
    message = f"{tmp_path / 'one.png'}: this figure could not be drawn: No space left on device"
    assert warnings == [message]
    assert capsys.readouterr().err == f"{message}\n"
    assert [file.name for file in tmp_path.iterdir()] == ["two.png"]


def test_figures_are_drawn_after_the_numbers_unless_these_fail(tmp_path):
    with drawn_last():
        draw_tasks(tmp_path / "one.png", VALUES, "solved", "held-out tasks")
        assert not any(tmp_path.iterdir())
    assert (tmp_path / "one.png").exists()
    with pytest.raises(KeyError), drawn_last():
        draw_tasks(tmp_path / "two.png", VALUES, "solved", "held-out tasks")
        raise KeyError
    assert not (tmp_path / "two.png").exists()


def test_every_function_that_saves_a_figure_is_a_picture():
    saving = {}
    for file in (*(ROOT / "metarule").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if "figures.canvas import" not in file.read_text(encoding="utf-8"):
            continue
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            calls = [
                node.func.id for node in ast.walk(function) if isinstance(node, ast.Call) and hasattr(node.func, "id")
            ]
            if "save" in calls:
                decorators = [one.id for one in function.decorator_list if isinstance(one, ast.Name)]
                saving[f"{file.name}: {function.name}"] = decorators
    assert len(saving) > 10
    assert {name for name, decorators in saving.items() if decorators != ["picture"]} == set()
