"""Rows of all that may lie below a directory."""

import json
import os
import shutil
from pathlib import Path

import pytest
import tomli_w
from filelock import FileLock
from msgspec.structs import replace
from small import EXPERIMENT, finished_run

from metarule import RandomSearch, Sequence
from metarule.config.toml import ConfigError
from metarule.runs.directory import extend, start_run
from metarule.runs.experiment import to_tree
from metarule.runs.files import write_json
from metarule.runs.listing import list_runs
from metarule.runs.locks import LOCK
from metarule.runs.metrics import append_metrics
from metarule.runs.sweep_files import CELL_LOCK, CELLS, DONE, FAILED, PLAN, SWEEP_FILE

FIXTURES = Path(__file__).parents[1] / "fixtures"
KINDS = ("polynomial", "feedforward", "boolean")


def begun(path, rows=0, useful=4, experiment=EXPERIMENT):
    """A run that has taken some of its 12 meta-steps, with that many useful lifetimes of four in each."""
    start_run(path, experiment, given=None)
    row = {"lifetimes": 4, "nonfinite_lifetimes": 4 - useful, "zero_gradient_lifetimes": 0}
    append_metrics(path, [{"step": step + 1} | row for step in range(rows)])
    return path


def states(top, **options):
    return {row.name: row.state for row in list_runs(top, **options)}


def sweep(path, done, cells=2):
    """A sweep of some cells, of which the first ones are done, with a member each."""
    tree = to_tree(EXPERIMENT)
    points = [[[0, 3], [0, 4]]] * cells
    plan = {"settings": [{"experiment": tree}], "cells": [{"name": f"{n}", "points": p} for n, p in enumerate(points)]}
    for number in range(cells):
        (path / CELLS / f"{number}").mkdir(parents=True)
        if number < done:
            finished_run(path / CELLS / f"{number}" / DONE / "0-s3")
    write_json(path / PLAN, plan)
    (path / SWEEP_FILE).write_text(tomli_w.dumps({"config": "configs/rates.toml"}))
    return path


def test_a_finished_run_has_its_score(tmp_path):
    shutil.copytree(FIXTURES / "run-format-2", tmp_path / "boolean" / "2026-01-02T03-04-05-s3")
    (row,) = list_runs(tmp_path)
    summary = json.loads((FIXTURES / "run-format-2" / "summary.json").read_text())
    assert (row.name, row.kind, row.config) == ("boolean/2026-01-02T03-04-05-s3", "run", "boolean")
    assert (row.rule, row.circuit, row.tasks) == KINDS
    assert (row.seed, row.seeds, row.done, row.total, row.unit, row.state) == (3, 1, 3, 3, "steps", "done")
    assert (row.metric, row.score) == ("solved", summary["held_out"]["learned"]["mean"])


def test_the_config_is_named_by_the_command_where_the_place_has_another_name(tmp_path):
    for words, config in (
        (["metarule", "train", "configs/digits.toml", "--seed", "1"], "digits"),
        (["metarule/evolve.py", "a b.toml"], "a b"),
        (["script.py"], None),
        (["metarule", "train", "--resume", "x"], None),
    ):
        path = begun(tmp_path / "run")
        (path / "config.toml").write_text("")
        write_json(path / "environment.json", {"command": words})
        assert list_runs(tmp_path)[0].config == config
        shutil.rmtree(path)


def test_unfinished_runs_are_told_apart(tmp_path):
    begun(tmp_path / "new")
    begun(tmp_path / "stopped", rows=7)
    begun(tmp_path / "running", rows=3)
    for name, useful in (("diverged", 0), ("tuning", 4)):
        (begun(tmp_path / name, rows=5, useful=useful) / "theta.npz").touch()
    (begun(tmp_path / "partial") / "resolved.toml").rename(tmp_path / "partial" / "resolved.toml.partial")
    with FileLock(tmp_path / "running" / LOCK):
        rows = {row.name: row for row in list_runs(tmp_path)}
    assert {name: row.state for name, row in rows.items()} == {
        "new": "stopped",
        "stopped": "stopped",
        "running": "running",
        "diverged": "diverged",
        "tuning": "stopped",
        "partial": "stopped",
    }
    assert (rows["stopped"].done, rows["stopped"].total, rows["new"].done) == (7, 12, 0)
    assert states(tmp_path)["running"] == "stopped"


def test_steps_of_a_sequence_are_those_of_its_parts(tmp_path):
    both = Sequence(first=RandomSearch(steps=5, population=4, validation=2), then=EXPERIMENT.optimizer)
    begun(tmp_path / "run", experiment=replace(EXPERIMENT, optimizer=both))
    assert list_runs(tmp_path)[0].total == 17


def test_several_seeds_are_one_row_or_one_more_each(tmp_path):
    path = begun(tmp_path / "both", experiment=replace(EXPERIMENT, seeds=2))
    finished_run(path / "s3", EXPERIMENT)
    begun(path / "s4", rows=2, useful=0, experiment=EXPERIMENT.of_seed(4))
    (row,) = list_runs(tmp_path)
    assert (row.kind, row.seeds, row.done, row.total, row.state) == ("seeds", 2, 14, 24, "stopped")
    (path / "s4" / "theta.npz").touch()
    assert states(tmp_path, parts=True) == {"both": "diverged", "both/s3": "done", "both/s4": "diverged"}
    write_json(path / "summary.json", {"held_out": {"metric": "solved", "learned": {"mean": 0.5}}})
    (row,) = list_runs(tmp_path)
    assert (row.done, row.state, row.score) == (14, "done", 0.5)  # the second seed has ended by its patience


def test_a_run_that_was_made_longer_is_not_done(tmp_path):
    path = begun(tmp_path / "run", rows=12)
    write_json(path / "summary.json", {"held_out": {"learned": {"mean": 0.5}}, "steps": 12})
    assert (list_runs(tmp_path)[0].state, list_runs(tmp_path)[0].done) == ("done", 12)
    extend(path, replace(EXPERIMENT, optimizer=replace(EXPERIMENT.optimizer, steps=20)))
    (row,) = list_runs(tmp_path)
    assert (row.state, row.done, row.total, row.score) == ("stopped", 12, 20, None)
    reported = {"reported": {"planned": 20}}
    write_json(path / "summary.json", {"held_out": {"learned": {"mean": 0.5}}, "steps": 15} | reported)
    assert (list_runs(tmp_path)[0].state, list_runs(tmp_path)[0].done) == ("done", 15)


def test_a_structure_search_counts_generations(tmp_path):
    path = begun(tmp_path / "search")
    write_json(path / "evolve.json", {"options": {"generations": 4}, "generation": 1})
    (row,) = list_runs(tmp_path)
    assert (row.kind, row.done, row.total, row.unit, row.state) == ("search", 2, 5, "generations", "stopped")
    write_json(path / "front.json", {"metric": "solved", "structures": [{"mean": 0.4}, {"mean": 0.9}]})
    (row,) = list_runs(tmp_path)
    assert (row.metric, row.score, row.state) == ("solved", 0.9, "done")


def test_a_sweep_counts_cells_and_has_members(tmp_path):
    path = sweep(tmp_path / "sweep", done=1)
    (row,) = list_runs(tmp_path)
    assert (row.kind, row.config, row.tasks, row.seeds) == ("sweep", "rates", "boolean", 2)
    assert (row.done, row.total, row.unit, row.state) == (1, 2, "cells", "stopped")
    with FileLock(path / CELLS / "1" / CELL_LOCK):
        assert states(tmp_path)["sweep"] == "running"
    (path / CELLS / "1" / FAILED).mkdir()
    assert states(tmp_path)["sweep"] == "failed"
    member = list_runs(tmp_path, parts=True)[1]
    assert (member.name, member.kind) == (f"sweep/{CELLS}/0/{DONE}/0-s3", "member")
    assert (member.config, member.state) == ("rates", "done")


@pytest.mark.parametrize(
    ("file", "content", "state"),
    [
        ("resolved.toml", "format = \n", "damaged: resolved.toml: not TOML: Invalid value"),
        ("resolved.toml", "format = 2\nrule = 3\n", "damaged: resolved.toml: Expected `object`, got `int`"),
        ("resolved.toml", "format = 1\n", "other format"),
        ("resolved.toml", "", "other format"),
        ("summary.json", '{"torn', "damaged: summary.json: "),
        ("summary.json", "[" * 10_000, "damaged: summary.json: "),
        ("metrics.jsonl", '{"step": 1}\n', "damaged: metrics.jsonl: Object missing required field `lifetimes`"),
        ("metrics.jsonl", "[]\n", "damaged: metrics.jsonl: '[]' is no JSON object"),
        ("evolve.json", "{}", "damaged: evolve.json: Object missing required field"),
    ],
)
def test_foreign_files_give_a_row(file, content, state, tmp_path):
    (begun(tmp_path / "run") / file).write_text(content)
    (row,) = list_runs(tmp_path)
    assert row.state.startswith(state)
    assert len(row.state) < 80
    assert row.changed


def test_a_damaged_plan_gives_a_row(tmp_path):
    for plan in ("{}", '{"settings": [], "cells": []}', "null"):
        (sweep(tmp_path / "sweep", done=0) / PLAN).write_text(plan)
        assert states(tmp_path)["sweep"].startswith("damaged: ")
        shutil.rmtree(tmp_path / "sweep")


def test_links_out_of_the_directory_are_not_followed(tmp_path):
    outside, top = begun(tmp_path / "outside"), tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(outside)
    (top / "loop").symlink_to(top)
    begun(top / "run")
    (top / "run" / "summary.json").symlink_to(outside / "environment.json")
    assert states(top) == {"run": "damaged: summary.json is a link that leads out"}
    (tmp_path / "elsewhere").symlink_to(top)
    assert states(tmp_path / "elsewhere").keys() == {"run"}


def test_the_last_change_comes_last_and_depth_is_bounded(tmp_path):
    for number, name in enumerate(("b", "c", "a")):
        for file in begun(tmp_path / name).iterdir():
            os.utime(file, (number, number))
    begun(tmp_path.joinpath(*"12345"))
    (tmp_path / "comparisons").mkdir()
    (tmp_path / "comparisons" / "summary.json").write_text("{}")
    rows = list_runs(tmp_path)
    assert [row.name for row in rows] == ["b", "c", "a"]
    assert rows[2].changed == "1970-01-01T00:00:02+00:00"
    assert [row.name for row in list_runs(tmp_path / "a")] == ["."]
    with pytest.raises(ConfigError, match="nowhere: there is no such directory"):
        list_runs(tmp_path / "nowhere")
