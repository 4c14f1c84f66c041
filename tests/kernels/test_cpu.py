"""Machine code in XLA's programs: on several devices, in other processes and again in the same one."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import llvmlite.binding as llvm
import numpy as np
import pytest

from metarule.kernels import kernels
from metarule.lifetime.scans import loop

# In a process of its own, because the number of devices is fixed before the first computation.
SCRIPT = """
import hashlib, sys
import jax, jax.numpy as jnp, numpy as np
import llvmlite.binding as llvm
from jax.sharding import NamedSharding, PartitionSpec
from metarule.kernels import kernels
from metarule.lifetime.scans import loop

compiled = []
emit = llvm.TargetMachine.emit_object
llvm.TargetMachine.emit_object = lambda machine, module: compiled.append(1) or emit(machine, module)

def loss(theta, start, xs):
    step = lambda state, x: (jnp.tanh(state * theta + x), state)
    after, along = loop(step, start, xs)
    return jnp.sum(after) + jnp.sum(along**2)

def gradient(theta, starts, xs):
    return jax.vmap(jax.value_and_grad(loss, (0, 1)), (None, 0, None))(theta, starts, xs)

theta, starts, xs = jnp.array([0.3, 0.7]), jnp.linspace(-1, 1, 84).reshape(42, 2), jnp.linspace(0, 1, 9)
mesh = jax.make_mesh((2,), ("lifetimes",), axis_types=(jax.sharding.AxisType.Auto,))
whole, cut = PartitionSpec(), PartitionSpec("lifetimes")

def total(theta, starts, xs):
    losses = lambda theta: jax.vmap(loss, (None, 0, None))(theta, starts, xs)
    return jax.value_and_grad(lambda theta: jax.lax.psum(losses(theta).sum(), "lifetimes"))(theta)

given = theta, jax.device_put(starts, NamedSharding(mesh, cut)), xs
specs = {"mesh": mesh, "in_specs": (whole, cut, whole)}
programs = {
    "one device": gradient,
    "mapped": jax.shard_map(gradient, **specs, out_specs=cut, check_vma=False),
    "checked": jax.shard_map(gradient, **specs, out_specs=cut),
    "summed": jax.shard_map(total, **specs, out_specs=whole),
    "split by XLA": gradient,
}
results = {}
for name, program in programs.items():
    arguments = (theta, starts, xs) if name == "one device" else given
    results[name] = jax.jit(program)(*arguments)
    if sys.argv[1:] == ["again"]:
        continue
    assert "@metarule_loop_" in jax.jit(program).lower(*arguments).as_text()
    with kernels("off"):
        expected = jax.jit(program)(*arguments)
    close = lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5, err_msg=name)
    jax.tree.map(close, results[name], expected)
for one in ("mapped", "checked"):
    assert len(results[one][0].sharding.device_set) == 2
numbers = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(results))
print(hashlib.sha256(numbers).hexdigest(), len(compiled))
"""


def in_a_process(folder, *words):
    settings = {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    env = os.environ | settings | {"JAX_NUM_CPU_DEVICES": "2", "METARULE_KERNELS": "on"}
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    digest, compiled = done.stdout.split()
    return digest, int(compiled)


def test_devices_share_lifetimes_and_another_process_gives_the_same_bits_with_the_stored_code(tmp_path):
    digest, compiled = in_a_process(tmp_path)
    assert compiled == len(list((tmp_path / "kernels").iterdir())) > 0
    assert in_a_process(tmp_path, "again") == (digest, 0)


@pytest.fixture
def emitted(monkeypatch, tmp_path):
    """A list that grows with each module that is compiled, and an empty store."""
    modules, emit = [], llvm.TargetMachine.emit_object

    def count(machine, module):
        modules.append(module.name)
        return emit(machine, module)

    monkeypatch.setattr(llvm.TargetMachine, "emit_object", count)
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield modules
    jax.config.update("jax_compilation_cache_dir", before)


def run(start, factor):
    """A loop that no other test has, by its factor."""
    return loop(lambda state, x: (jnp.sin(state * x) * factor, state), start, jnp.linspace(0.5, 1, 4))


def test_the_same_loop_is_compiled_once_in_a_process(emitted):
    with kernels("on"):
        results = []
        for _ in range(2):
            results.append(jax.jit(lambda start: run(start, 1.0625))(jnp.ones(3)))
            jax.clear_caches()
        jax.jit(jax.vmap(lambda start: run(start, 1.0625)))(jnp.ones((40, 3)))
        assert len(emitted) == 1
        jax.jit(lambda start: run(start, 1.125))(jnp.ones(3))
        assert len(emitted) == 2
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_shared_constants_and_precisions_have_code_of_their_own(emitted):
    factors = np.linspace(0.5, 1, 4)[:, None] * np.ones((1, 3))
    with kernels("on"):
        for axis in (None, 0):
            for x64 in (False, True):
                with jax.enable_x64(x64):
                    factor = jnp.asarray(factors if axis == 0 else factors[0])
                    together = jax.vmap(lambda start, factor: run(start, factor * 0.96875), (0, axis))
                    after, _ = jax.jit(together)(jnp.ones((4, 3)), factor)
                    assert after.dtype == ("float64" if x64 else "float32")
    assert len(emitted) == 4


def test_results_are_the_same_bits_each_time_and_in_each_lane():
    """Also where a lifetime is the only one, or the last of an incomplete block."""
    starts = jnp.linspace(-1, 1, 57).reshape(19, 3)
    with kernels("on"):
        gradient = jax.value_and_grad(lambda start: jnp.sum(run(start, 0.90625)[0]))
        several = jax.jit(jax.vmap(gradient))
        first, again = several(starts), several(starts)
        turned = jax.tree.map(lambda leaf: leaf[::-1], several(starts[::-1]))
        alone = jax.jit(gradient)(starts[-1])
    jax.tree.map(np.testing.assert_array_equal, first, again)
    jax.tree.map(np.testing.assert_array_equal, first[1], turned[1])
    np.testing.assert_array_equal(first[1][-1], alone[1])
