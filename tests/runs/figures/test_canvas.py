"""Figures that cannot be drawn, and settings of the user."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from metarule.config.messages import collect_warnings
from metarule.runs.figures import draw_tasks, drawn_last
from metarule.runs.figures.canvas import FORMATS, formats, picture

ROOT = Path(__file__).parents[3]
VALUES = {"learned": [0.9, 0.8, 1.0], "delta": [0.5, 0.6, 0.7]}
TASKS = (VALUES, "solved", "held-out tasks", 0.9)


def drawn(file):
    draw_tasks(file, *TASKS)
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
    script += "picture(lambda: blank(1, 1))(f); assert f.exists()\n"
    env = os.environ | {"MATPLOTLIBRC": str(settings), "MPLBACKEND": "nonsense", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "could not be drawn" in done.stderr) == (0, False), done.stderr


def test_a_figure_that_cannot_be_drawn_costs_one_line_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    def full(figure, file, **_):
        file.write_text("torn")
        raise OSError(28, "No space left on device")

    with collect_warnings() as warnings:
        monkeypatch.setattr(Figure, "savefig", full)
        draw_tasks(tmp_path / "one.png", *TASKS)
        monkeypatch.undo()
        draw_tasks(tmp_path / "two.png", *TASKS)
    message = f"{tmp_path / 'one.png'}: this figure could not be drawn: No space left on device"
    assert warnings == [message]
    assert capsys.readouterr().err == f"{message}\n"
    assert [file.name for file in tmp_path.iterdir()] == ["two.png"]


def test_figures_are_drawn_after_the_numbers_unless_these_fail(tmp_path):
    with drawn_last():
        draw_tasks(tmp_path / "one.png", *TASKS)
        assert not any(tmp_path.iterdir())
    assert (tmp_path / "one.png").exists()
    with pytest.raises(KeyError), drawn_last():
        draw_tasks(tmp_path / "two.png", *TASKS)
        raise KeyError
    assert not (tmp_path / "two.png").exists()


def test_figures_are_written_in_each_format(tmp_path):
    with formats(FORMATS):
        draw_tasks(tmp_path / "one.png", *TASKS)
        with drawn_last():
            draw_tasks(tmp_path / "two.png", *TASKS)
    assert {file.suffix[1:] for file in tmp_path.glob("two.*")} == set(FORMATS)
    for name in FORMATS:
        assert (tmp_path / f"one.{name}").read_bytes() == (tmp_path / f"two.{name}").read_bytes()


def test_the_svg_element_of_a_figure_has_its_text():
    text = draw_tasks.svg(*TASKS)
    assert text.startswith("<svg")
    assert "Held-out tasks" in text
    assert "learned" in text
    assert text == draw_tasks.svg(*TASKS)
    assert picture(lambda: None).svg() == ""
