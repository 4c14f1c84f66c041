import json

import numpy as np
import pytest

from benchmarks.coverage import main, measured


@pytest.mark.parametrize(
    ("kind", "size", "intervals"),
    [
        ("tasks", 20, ["score", "difference", "score at 20 ×", "steps_to_threshold"]),
        ("seeds", 3, ["score", "difference", "score at 20 ×"]),
        ("seeds, trimmed", 10, ["interquartile mean"]),
        ("seeds, power law", 10, ["scale", "exponent", "closed"]),
    ],
)
def test_intervals_of_a_run_hold_the_truth(kind, size, intervals):
    """Of 60 intervals that hold it in 93 of 100 cases fewer than 48 do once in 5,000."""
    rows = measured(kind, size, 60)
    assert [row["interval"] for row in rows] == intervals
    for row in rows:
        assert (row["over"], row["size"], row["simulations"]) == (kind, size, 60)
        assert row["coverage"] >= 48 / 60
        assert row["none"] == 0


def test_another_value_is_held_less_often(monkeypatch):
    monkeypatch.setattr(
        "benchmarks.coverage._truth", lambda name, by_seed: np.full(7, 0.7 if name == "learned" else 0.6)
    )
    score, difference, *_ = measured("tasks", 128, 30)
    assert score["coverage"] < 0.2
    assert difference["coverage"] < 0.8


def test_the_table_is_printed_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.coverage._CASES", [("tasks", 3)])
    assert main(["--simulations", "10", "--json", str(tmp_path / "rows.json")]) == 0
    assert "score at 20 ×" in capsys.readouterr().out
    assert {row["interval"] for row in json.loads((tmp_path / "rows.json").read_text())} >= {
        "score",
        "steps_to_threshold",
    }
