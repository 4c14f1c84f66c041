"""The fuzzer: inputs are decided by their seed, and what breaks the promise is found and made small."""

import json
import sys
from random import Random

import pytest

from benchmarks.fuzz import main
from benchmarks.fuzzing import judging, mutations
from benchmarks.fuzzing.cases import case_of, finished_run, laid_out
from benchmarks.fuzzing.judging import ACCEPTED, BROKEN, REFUSED, commanded, decoded, stepped
from metarule.config.toml import ConfigError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("finished") / "run")


def test_counts_are_printed_and_kept(tmp_path, capsys):
    file = tmp_path / "rows.json"
    assert main(["--inputs", "4", "--steps", "0", "--commands", "0", "--seed", "4", f"--json={file}"]) == 0
    printed = capsys.readouterr().out
    read, lived, ordered = json.loads(file.read_text())
    assert read["inputs"] == 4 == read["accepted"] + read["refused"]
    assert (lived["inputs"], ordered["inputs"]) == (0, 0)
    assert "decode, build, shapes" in printed
    assert "read: 1 of 1\n" in printed
    assert "seed 4" in printed


def test_integers_beyond_all_floats_are_mutated_too():
    found = {mutations._other(10**400, Random(seed)) for seed in range(60)}
    assert found == {2 * 10**400, 10**400 + 1, -(10**400), 10**400 // 3}


def test_an_input_that_is_cheap_takes_a_meta_step():
    (one,) = (one for one in decoded(9, range(1)) if one.cheap)
    assert stepped(9, one.number).verdict == ACCEPTED


@pytest.mark.parametrize("verdict", [REFUSED, BROKEN])
def test_what_the_command_says_and_leaves_is_looked_at(verdict, monkeypatch):
    """Refused in one line it may be, and nothing may be written beside it."""
    written = "" if verdict == REFUSED else "open('left.txt', 'w');"
    program = f"import sys; {written} sys.exit(print('metarule.x: refused', file=sys.stderr) or 2)"
    monkeypatch.setattr(judging, "_words", lambda case, place: [sys.executable, "-c", program])
    found = commanded(4, 0)
    assert found.verdict == verdict
    assert ("left.txt" in found.says) == (verdict == BROKEN)


def test_inputs_are_decided_by_seed_and_number(files):
    same, again, other = (case_of(seed, number, files) for seed, number in ((1, 5), (1, 5), (2, 5)))
    assert same == again != other
    assert {case_of(1, number, files).kind for number in range(20)} == {"config", "words", "run"}


def test_the_run_that_is_tampered_with_is_a_good_one(files, tmp_path):
    case = next(case for case in (case_of(0, n, files) for n in range(50)) if case.kind == "run")
    assert judging.read_finished(laid_out(case._replace(files=files), tmp_path / "run")).rates == {"delta": 0.2}


def test_some_inputs_are_accepted_and_some_are_refused(files):
    assert {one.verdict for one in decoded(0, range(8))} == {ACCEPTED, REFUSED}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (KeyError("x"), "KeyError in test_fuzz.py"),
        (ConfigError("this is refused, and nobody knows why"), "refused without a field"),
        (ConfigError("seed = 3: " + "no " * 5000), ""),
    ],
)
def test_what_breaks_the_promise_is_found_and_made_small(error, says, monkeypatch):
    def read(case, place):
        if case.kind != "run" and b"seed" in case.files["config.toml"]:
            raise error
        raise ConfigError("seed")

    monkeypatch.setattr(judging, "_read", read)
    found = decoded(3, range(120))
    broken = [one for one in found if one.verdict == BROKEN]
    assert bool(broken) == bool(says)
    for one in broken:
        assert one.says.startswith(says)
        assert len(one.given.splitlines()) <= 2
        assert "seed" in one.given


def refused(words, capsys):
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("benchmarks.fuzz: ")
    assert errors.count("\n") == 1
    return errors


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--inputs", "0"], "inputs = 0: expected `int` >= 1"),
        (["--sed", "3"], "sed = 3: there is no such field; allowed: inputs, steps, commands, seed"),
        (["x"], "'x' is not expected here"),
        (["--json", "no/such/folder/rows.json"], "no file can be written there"),
    ],
)
def test_bad_options_give_one_line_and_exit_status_2(words, says, capsys):
    assert says in refused(words, capsys)


def test_a_break_is_the_exit_status(monkeypatch, capsys):
    from benchmarks import fuzz

    broken = judging.Outcome(0, "config", BROKEN, "KeyError: x", "seed = 1")
    monkeypatch.setattr(fuzz, "_share", lambda pool, options, work, items, name: iter([[broken]] if items else []))
    assert main(["--inputs", "1", "--steps", "0", "--commands", "0"]) == 1
    printed = capsys.readouterr().out
    assert "input 0: KeyError: x\nseed = 1" in printed
