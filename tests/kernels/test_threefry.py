"""Random numbers are those of JAX, bit for bit, in all shapes that JAX's transformations make."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.extend.random import threefry2x32_p

TESTS = Path(__file__).parent.parent
DRAWS = {
    "split": lambda key: jax.random.key_data(jax.random.split(key, (3, 5))),
    "fold_in": lambda key: jax.random.key_data(jax.random.fold_in(key, 77)),
    "normal": lambda key: jax.random.normal(key, (37,)),
    "permutation": lambda key: jax.random.permutation(key, 100),
    "bits of 8": lambda key: jax.random.bits(key, (9,), "uint8"),
    "integers": lambda key: jax.random.randint(key, (2, 25), 0, 7),
    "poisson": lambda key: jax.random.poisson(key, 3.0, (20,)),
    "many keys": jax.vmap(lambda key: jax.random.bits(jax.random.fold_in(key, 3), (5,))),
    "nested keys": jax.vmap(jax.vmap(lambda key: jax.random.bits(key, (2, 9)))),
    "in a loop": lambda key: jax.lax.map(lambda number: jax.random.bits(jax.random.fold_in(key, number)), np.arange(9)),
}
# Shapes of the words of keys and of counts: one key; a key for each row, more of them than are taken one by one; a key
# for each number; counts that differ between rows; one count for all keys; and nothing.
SHAPES = [
    ((), ()),
    ((), (17,)),
    ((3, 1), (1, 40)),
    ((5000, 1), (1, 3)),
    ((300,), (300,)),
    ((2, 3, 1), (2, 3, 5)),
    ((16, 1), (1, 1)),
    ((300,), (1,)),
    ((6, 1, 1), (1, 4, 5)),
    ((0,), (0,)),
]


def drawn(name):
    keys = {"many keys": (1000,), "nested keys": (4, 3)}
    key = jax.random.key(3)
    return jax.jit(DRAWS[name])(jax.random.split(key, keys[name]) if name in keys else key)


def words(number):
    random = np.random.default_rng(number)
    operands = [random.integers(0, 2**32, shape, dtype=np.uint32) for shape in SHAPES[number] for _ in range(2)]
    return jax.jit(threefry2x32_p.bind)(*operands)


def write(file):
    """Write what JAX draws to a file."""
    numbers = {f"shapes {number}": words(number) for number in range(len(SHAPES))}
    np.savez(file, **{name: drawn(name) for name in DRAWS}, **numbers)


@pytest.fixture(scope="module")
def of_jax(tmp_path_factory):
    """Numbers of a process without machine code."""
    file = tmp_path_factory.mktemp("threefry") / "drawn.npz"
    script = f"from test_threefry import write; write({str(file)!r})"
    environment = os.environ | {"PYTHONPATH": str(TESTS / "kernels")}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    return np.load(file)


@pytest.mark.parametrize("name", DRAWS)
def test_draws_equal_those_of_jax(of_jax, name):
    np.testing.assert_array_equal(drawn(name), of_jax[name])


@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_words_equal_those_of_jax_in_all_shapes(of_jax, number):
    np.testing.assert_array_equal(words(number), of_jax[f"shapes {number}"])


def test_different_keys_draw_different_numbers(of_jax):
    assert len(np.unique(of_jax["many keys"])) > 4990


@pytest.mark.parametrize("mode, expected", [("auto", True), ("on", True), ("off", False)])
def test_commands_draw_by_machine_code_unless_kernels_are_off(mode, expected):
    script = (
        "import jax; from metarule.parallel.devices import Devices, spread\n"
        f"with spread(Devices(kernels='{mode}')):\n"
        "    print('@metarule_threefry_' in jax.jit(jax.random.bits).lower(jax.random.key(0)).as_text())"
    )
    environment = os.environ | {"METARULE_KERNELS": "auto"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(expected)
