"""Devices share the lifetimes, and all devices have all results."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from metarule.parallel import devices

# In a process of its own, because the number of devices is fixed before the first computation.
SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from metarule.parallel.devices import spread, sharded_jit
from metarule.parallel.batching import batch_lifetimes

@sharded_jit("lifetimes", "chunk_size")
def squares(offset, lifetimes, chunk_size):
    return batch_lifetimes(lambda number, tree: (number**2 + offset, tree["key"]), chunk_size)(
        jnp.arange(lifetimes), {"key": jax.random.split(jax.random.key(0), lifetimes)})

def check(lifetimes, chunk_size):
    numbers, keys = squares(3, lifetimes, chunk_size)
    np.testing.assert_array_equal(numbers, np.arange(lifetimes) ** 2 + 3)
    assert (keys == jax.random.split(jax.random.key(0), lifetimes)).all()
    return numbers

@sharded_jit()
def nested(offset):
    empty = lambda number: (number, jnp.zeros((0, 3)))
    sums = lambda outer: batch_lifetimes(lambda inner: 10 * outer + inner + offset, 5)(jnp.arange(4)).sum()
    return batch_lifetimes(empty, 5)(jnp.arange(4)), batch_lifetimes(sums, 5)(jnp.arange(4))

with spread():
    (numbers, empty), sums = nested(1)
    assert numbers.tolist() == [0, 1, 2, 3] and empty.shape == (4, 0, 3)
    assert sums.tolist() == [10, 50, 90, 130]  # a batch within a lifetime is on its device
    for lifetimes, chunk_size in [(8, 8), (8, 1), (7, 2), (1, 5), (9, 4)]:
        results = check(lifetimes, chunk_size)
    print(len(results.sharding.device_set), "devices")
    print(squares.lower(3, 8, 1).compile().as_text())
assert len(check(5, 2).sharding.device_set) == 1
"""


def run(script, devices=None, **env):
    env = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"} | env
    env |= {"JAX_NUM_CPU_DEVICES": str(devices)} if devices else {}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("devices", [1, 4])
def test_results_do_not_depend_on_the_number_of_devices(devices):
    output = run(SCRIPT, devices)
    assert output.startswith(f"{devices} devices")
    assert len(re.findall(r"= .* all-gather\(", output)) == (2 if devices > 1 else 0)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({}, 8),
    ],
)
def test_the_quota_of_a_container_is_rounded_up(files, cores, tmp_path, monkeypatch):
    (tmp_path / "cpu").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(f"{content}\n")
    monkeypatch.setattr(devices, "_GROUPS", tmp_path)
    assert devices._quota() == cores


COUNT = """
import os

import jax

from metarule.parallel.devices import spread

os.sched_getaffinity = lambda process: {0, 1}
with spread():
    print(jax.device_count(), jax.numpy.ones(()).sharding.mesh.axis_names if jax.device_count() > 1 else "")
"""


@pytest.mark.parametrize(
    "env, expected",
    [
        ({"NPROC": "1"}, "1"),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, "3 ('lifetimes',)"),
        ({}, "2 ('lifetimes',)"),
    ],
    ids=["fewer", "set", "all"],
)
def test_each_core_is_a_device_unless_the_user_has_set_their_number(env, expected):
    assert run(COUNT, **env).strip() == expected


STEPS = """
import jax, numpy as np
from metarule import Boolean, Feedforward, Genetic, Gradient, InnerLoop, Lifetime, Polynomial
from metarule.parallel.devices import Devices, spread
from metarule.meta.loop import advance, begin
from metarule.meta.phases import list_phases
from metarule.prng import run_key

learner = Lifetime(
    rule=Polynomial(terms=("seven",)),
    circuit=Feedforward(hidden=()),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=20),
)
descent = Gradient(steps=5, batch_size=12, name="sgd", learning_rate=1.0)
search = Genetic(steps=5, population=12, batch_size=1, validation=4)
pool, key = learner.tasks.split(0).train, run_key(0)
for use, optimizers in (("all", (descent, search)), (2, (descent,)), (1, (descent, search))):
    programs = advance._cache_size()
    with spread(Devices(use=use)):
        for optimizer in optimizers:
            (phase,) = list_phases(optimizer, learner)
            state, info = advance(phase, pool, begin(learner, optimizer, pool, key), key, 1, 2)
            state, _ = advance(phase, pool, state, key, 0, 2)
            print(*optimizer.theta(state).tolist(), *(values[0] for values in info.observed.values()))
        assert advance._cache_size() == programs + len(optimizers)
        (phase,) = list_phases(descent, learner)
        print("-----")
        print(advance.lower(phase, pool, begin(learner, descent, pool, key), key, 2, 2).compile().as_text())
    print("=====")
"""

COLLECTIVE = r"= .* (?:all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("


def steps(output):
    """Results of a step of gradient descent and, if there was one, of a step of a search."""
    return [np.array(line.split(), float) for line in output.strip().splitlines()]


def test_devices_communicate_once_a_meta_step_and_agree_with_one_device():
    *several, (single, program) = (output.split("-----") for output in run(STEPS, 8).split("=====")[:3])
    assert re.findall(COLLECTIVE, program) == []
    assert [len(steps(output)) for output, _ in several] == [2, 1]  # the search on all devices or one
    for output, program in several:
        for one, other in zip(steps(single), steps(output)):
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5 * np.abs(one).max())
        assert len(re.findall(COLLECTIVE, program)) == 1
