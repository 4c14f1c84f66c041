"""Texts of figures."""

from pathlib import Path

from metarule import Bandit, Boolean, Conditioning, Memory, Navigation, Points, Tabular
from metarule.runs.figures.labels import run_name, score_label
from metarule.tasks.base import primary_metric


def test_every_score_has_a_label_with_its_unit():
    for tasks in (Bandit, Boolean, Conditioning, Memory, Navigation, Points, Tabular):
        assert "mean score" not in score_label(tasks.primary_metric)
    assert score_label(primary_metric(Boolean())) == "tasks solved (fraction)"
    assert score_label("my_metric") == "my metric (mean score)"


def test_a_run_has_the_end_of_its_path_as_a_name(tmp_path, monkeypatch):
    (tmp_path / "boolean" / "s0").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "boolean")
    assert run_name(Path("s0")) == "boolean/s0"
