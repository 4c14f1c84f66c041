"""Properties of any input: it is used as written, or is refused in one line that names a field.

`pytest -m long tests/test_properties.py` tries a hundred times as many inputs.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from functools import lru_cache
from pathlib import Path

import jax
import msgspec
import numpy as np
import pytest
from fuzzing import CONFIGS, FIELDS, TERMS, TOKENS, configs, damaged, settings_of_fields, words
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from metarule.config.toml import ConfigError, decode, override, parse_overrides
from metarule.meta import advance, begin, list_phases
from metarule.meta.phases import lifetimes_of
from metarule.prng import run_key
from metarule.rules.terms import parse, show
from metarule.runs.directory import start_run
from metarule.runs.experiment import Experiment, read_experiment_file, to_tree
from metarule.runs.files import write_json
from metarule.runs.finished import load
from metarule.runs.theta_files import write_theta

BASE = to_tree(Experiment())
EXAMPLES = settings.default.max_examples
# Fields, files and parts of a command line; every refusal names one of them.
FILES = ("environment.json", "theta.npz", "theta.json", "summary.json", "resolved.toml", "config.toml")
PARTS = {*(name.rpartition(".")[2] for name, _, _ in FIELDS), *FILES, "fields", "TOML", "text", "--NAME"}
NAMED = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, PARTS)) + r")(?!\w)")
# Most numbers of a meta-step that is cheap enough to run.
CHEAP = 3e7


def check_refusal(message):
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 2100
    assert NAMED.search(message)


def accepted(make, *arguments):
    """Result for an input, or None if it is refused in one line."""
    try:
        return make(*arguments)
    except ConfigError as error:
        check_refusal(str(error))
        return None


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("input")


def read_config(directory, content, line):
    (directory / "config.toml").write_bytes(content)
    return read_experiment_file(directory / "config.toml", parse_overrides(line))[0]


def check_round_trip(experiment):
    assert decode(tomllib.loads(msgspec.toml.encode(to_tree(experiment)).decode()), Experiment) == experiment


@lru_cache(maxsize=1024)
def numbers_of_a_meta_step(lifetime, optimizer):
    """Trace one meta-step and estimate how many numbers it computes with."""

    def step():
        pool, key = lifetime.tasks.split(0).train, run_key(0)
        state, phase = begin(lifetime, optimizer, pool, key), list_phases(optimizer, lifetime)[0]
        network = phase.learner.init(phase.learner.init_theta(key), key, lifetime.tasks.sample(key, pool, 0))
        return phase.optimizer.step(phase.learner, pool, state, key), (pool, network, phase.optimizer.theta(state))

    _, sizes = jax.eval_shape(step)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(sizes))
    return float(lifetimes_of(optimizer, 1)) * lifetime.steps * numbers


@settings(max_examples=EXAMPLES // 2)
@given(configs(), words())
def test_a_config_has_a_meta_step_or_is_refused(directory, content, line):
    experiment = accepted(read_config, directory, content, line)
    if experiment is not None:
        check_round_trip(experiment)
        numbers_of_a_meta_step(experiment.lifetime, experiment.optimizer)


@settings(max_examples=EXAMPLES // 50, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["boolean.toml", "paper.toml", "points.toml"]), settings_of_fields(most=2))
def test_theta_is_finite_after_a_meta_step_of_a_config(name, pairs):
    tree = override(to_tree(read_experiment_file(CONFIGS / name, [])[0]), [("optimizer.batch_size", 4)])
    experiment = accepted(lambda: decode(override(tree, pairs), Experiment))
    assume(experiment is not None)
    lifetime, optimizer = experiment.lifetime, experiment.optimizer
    assume(numbers_of_a_meta_step(lifetime, optimizer) <= CHEAP)
    pool, key = experiment.split.train, run_key(experiment.seed)
    state, phase = begin(lifetime, optimizer, pool, key), list_phases(optimizer, lifetime)[0]
    state, _ = advance(phase, pool, state, key, 1, 1)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(phase.optimizer.theta(state)))


TINY = {
    "seeds": 1,
    "optimizer.steps": 1,
    "evaluation.lifetimes": 2,
    "evaluation.points": 1,
    "evaluation.monitor_lifetimes": 1,
    "evaluation.baselines": '["delta"]',
    "run.directory": "run",
}


@pytest.mark.long
@settings(max_examples=max(2, EXAMPLES // 100), suppress_health_check=list(HealthCheck))
@given(settings_of_fields(most=1))
@example([("seed", -1)])
def test_the_command_runs_or_refuses_in_one_line_and_writes_nothing(pairs):
    line = [f"--{name}={value}" for name, value in [*pairs, *TINY.items()] if "\x00" not in f"{name}{value}"]
    command = [sys.executable, "-m", "metarule.train", str(CONFIGS / "boolean-2.toml"), *line]
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join([str(CONFIGS.parent), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
        )
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 2), done.stderr
        if done.returncode == 2:
            assert done.stderr.count("\n") == 1
            check_refusal(done.stderr.strip())
            assert not any(Path(folder).iterdir())


@pytest.fixture(scope="module")
def run_files(tmp_path_factory):
    """Files of a finished run without meta-training, by name."""
    path = tmp_path_factory.mktemp("runs") / "run"
    experiment, _ = read_experiment_file(CONFIGS / "paper.toml", [])
    start_run(path, experiment, None)
    write_theta(path, experiment.lifetime, experiment.lifetime.init_theta(run_key(0)))
    write_json(path / "summary.json", {"held_out": {"baselines": {"delta": {"learning_rate": 0.2}}}})
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


@given(st.data())
def test_a_run_directory_is_read_or_refused(directory, run_files, data):
    changed = data.draw(st.sampled_from(sorted(run_files)))
    for name, content in run_files.items():
        (directory / name).write_bytes(data.draw(damaged(content)) if name == changed else content)
    accepted(load, directory)


def test_the_undamaged_run_directory_is_read(directory, run_files):
    for name, content in run_files.items():
        (directory / name).write_bytes(content)
    assert load(directory).rates == {"delta": 0.2}


def read_pairs(pairs):
    return accepted(lambda: decode(override(BASE, pairs), Experiment))


@given(settings_of_fields())
@example([("seed", 1)])
@example([("rule.initial", {"pre": -0.5, "weight": 1e-18})])
@example([("tasks.kind", "tabular"), ("circuit.output", "softmax"), ("tasks.dataset", "wine"), ("tasks.ways", 3)])
def test_an_experiment_is_read_as_it_was_written_or_refused(pairs):
    experiment = read_pairs(pairs)
    if experiment is not None:
        check_round_trip(experiment)


@pytest.mark.parametrize(("seed", "allowed"), [(1, True), (-1, False)])
def test_some_are_accepted_and_some_are_not(seed, allowed):
    assert (read_pairs([("seed", seed)]) is not None) == allowed


@given(st.lists(st.sampled_from([f"--{field}" for field, _, _ in FIELDS]) | st.text(max_size=30), max_size=4))
@example(["--seed", "[" * 5000])
@example(["--seed", "0x" + "f" * 5000])
@example(["--" + "a." * 500, "1"])
def test_any_command_line_is_read_or_refused(words):
    try:
        pairs = parse_overrides(words)
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        read_pairs(pairs)


@given(st.text(max_size=60) | st.lists(TOKENS, max_size=12).map("".join))
def test_any_text_is_a_term_or_a_value_error(text):
    try:
        term = parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert term


def to_term_language(shown):
    """Convert a formatted term to the term language."""
    plain = shown.translate(str.maketrans("·−", "*-"))
    return re.sub(r"[²³⁴⁵⁶⁷⁸⁹]", lambda match: f"^{'⁰¹²³⁴⁵⁶⁷⁸⁹'.index(match[0])}", plain)


@given(TERMS)
def test_a_term_that_is_shown_is_the_same_term(text):
    try:
        term = parse(text)
    except ValueError as error:
        assert re.search("zero for all values|power", str(error))
        return
    again = parse(to_term_language(show(term)))
    assert [one.powers for one in again] == [one.powers for one in term]
    assert [one.scale for one in again] == pytest.approx([one.scale for one in term], rel=1e-5)
