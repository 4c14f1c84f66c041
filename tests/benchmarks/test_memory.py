"""The benchmark of memory, as a user runs it, at tiny sizes."""

import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks import memory
from benchmarks.memory import difference, learner, main
from metarule.protocols import TaskFamily


def refused(words, capsys):
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("benchmarks.memory: ")
    assert errors.count("\n") == 1
    return errors


@pytest.mark.long
def test_a_table_is_printed_and_its_rows_are_kept(monkeypatch, tmp_path, capsys):
    # Each estimator costs two programs.
    names = {name: memory.ESTIMATORS[name] for name in ("remat", "forward", "persistent")}
    monkeypatch.setattr(memory, "ESTIMATORS", names)
    file = tmp_path / "rows.json"
    assert main(["--steps", "[12]", "--lifetimes", "2", f"--json={file}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = json.loads(file.read_text())
    assert printed[0].split() == list(rows[0])
    assert [row["estimator"] for row in rows] == list(names)
    for row, line in zip(rows, printed[1:]):
        assert line.startswith(row["estimator"])
        assert f"{row['temporary_bytes']:,}" in line
        assert row["temporary_bytes"] > 0
    assert rows[0]["difference"] < 1e-10
    assert rows[1]["difference"] == 0
    assert rows[2]["difference"] is None
    assert "12 steps, 2 lifetimes, fit into 2 GiB with: remat, forward, persistent" in printed
    assert printed[-1].startswith("auto takes reverse mode, remat scan: about ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lifetimes", "0"], "lifetimes = 0: expected `int` >= 1"),
        (["--steps", "[]"], "steps = []: expected an array of length >= 1"),
        (["--steps", "ten"], "steps = 'ten': expected an array"),
        (["--lifetime", "3"], "lifetime = 3: there is no such field; allowed: steps, lifetimes"),
        (["table"], "'table' is not expected here"),
        (["--json"], "--json: a value is missing"),
        (["--json", "no/such/folder/rows.json"], "--json 'no/such/folder/rows.json': no file can be written there"),
    ],
)
def test_bad_options_give_one_line_and_exit_status_2(words, message, capsys):
    assert message in refused(words, capsys)


def test_help_lists_every_option(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for word in ("--quick", "--steps", "--lifetimes", "--compared", "--json", "--help"):
        assert word in printed


def test_its_tasks_repeat_their_examples_in_order():
    family = learner(3).tasks
    assert isinstance(family, TaskFamily)
    task = family.sample(jax.random.key(0), family.split(0).train, 0)
    first, again = (family.stimulus(task, t, jax.random.key(1)) for t in (3, 3 + len(task.input)))
    assert jnp.array_equal(first.input, again.input)
    assert first.input.shape == (64,)
    assert first.target.shape == (10,)
    key, one = jax.random.key(0), learner(3)
    weights = one.init(one.init_theta(key), key, task)[1].weights
    assert [weight.shape for weight in weights] == [(65, 32), (33, 10)]


def test_differences_are_shares_of_the_largest_number():
    assert difference({"a": jnp.array([1.0, 4.0])}, {"a": jnp.array([1.5, 4.0])}) == 0.125
