import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from metarule import Boolean, Feedforward, Tabular
from metarule.prng import Purpose, run_key, stream
from metarule.runs.experiment import Experiment

ROOT = Path(__file__).parent.parent
# Settings of JAX that change which numbers it draws, or which keys it makes.
SETTINGS = {
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_ENABLE_CUSTOM_PRNG": "1",
    "JAX_RANDOM_SEED_OFFSET": "7",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_THREEFRY_GPU_KERNEL_LOWERING": "1",
    "JAX_HIGH_DYNAMIC_RANGE_GUMBEL": "1",
}


def drawn(words):
    """A command that prints the numbers that it draws: pools, a held-out task, and the weights of a network."""
    results = [jax.random.key_data(jax.random.split(stream(run_key(3), Purpose.EVALUATION), 3))]
    families = ((Boolean(inputs=3), "sigmoid"), (Tabular(train_examples=10, test_examples=5), "softmax"))
    for tasks, output in families:
        one = Experiment(seed=3, tasks=tasks, circuit=Feedforward(output=output))
        key = stream(run_key(one.seed), Purpose.HELD_OUT)
        task = one.tasks.sample(key, one.split.test, 5)
        results.append((one.split, task, one.lifetime.init(one.lifetime.init_theta(key), key, task)[1].weights))
    print(json.dumps([leaf.tolist() for leaf in jax.tree.leaves(results)]))
    return 0


def test_purposes_and_seeds_have_different_keys():
    drawn = {
        tuple(np.asarray(jax.random.key_data(stream(run_key(seed), purpose))))
        for seed in range(5)
        for purpose in Purpose
    }
    assert len(drawn) == 5 * len(Purpose)


def test_a_traced_seed_gives_the_same_key():
    traced = jax.jit(lambda seed: jax.random.key_data(stream(run_key(seed), Purpose.HELD_OUT)))(7)
    np.testing.assert_array_equal(traced, jax.random.key_data(stream(run_key(7), Purpose.HELD_OUT)))


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**31 - 1])
def test_a_key_is_that_of_jax_with_default_settings(seed):
    key = run_key(seed)
    assert key.dtype == jax.random.key(0, impl="threefry2x32").dtype
    np.testing.assert_array_equal(jax.random.key_data(key), [0, seed])
    np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(jax.random.key(seed)))


@pytest.mark.parametrize("name", ["jax_default_prng_impl", "jax_random_seed_offset"])
def test_settings_of_jax_do_not_change_a_key(name):
    before, value = jax.config.values[name], SETTINGS[name.upper()]
    expected = [jax.random.key_data(run_key(3)), *jax.tree.leaves(Boolean(inputs=2).split(3))]
    jax.config.update(name, int(value) if value.isdecimal() else value)
    try:
        results = [jax.random.key_data(run_key(3)), *jax.tree.leaves(Boolean(inputs=2).split(3))]
    finally:
        jax.config.update(name, before)
    jax.tree.map(np.testing.assert_array_equal, results, expected)


@pytest.mark.parametrize(
    "draw",
    [lambda: run_key(0), lambda: Tabular().split(0), lambda: jax.jit(run_key)(0)],
    ids=["key", "split", "traced"],
)
def test_a_setting_under_which_the_same_key_draws_other_numbers_is_refused(draw):
    message = "jax_threefry_partitionable = False: JAX would draw other random numbers .*; allowed: True"
    with jax.threefry_partitionable(False), pytest.raises(ValueError, match=message):
        draw()


def test_all_keys_come_from_run_key():
    lines = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for folder in ("metarule", "benchmarks")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"\b(random\.key|PRNGKey|wrap_key_data)\(", line.partition("`")[0]) and "impl=" not in line
    ]
    assert lines == []


@pytest.mark.long
def test_commands_draw_the_same_under_any_settings_of_jax(capsys):
    script = (
        "from metarule.commands import cli; from test_prng import drawn; exit(cli.run('x', ['word'], '', drawn, ''))"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | SETTINGS | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    drawn([])
    assert done.stdout == capsys.readouterr().out
