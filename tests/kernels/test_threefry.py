"""Random numbers are those of JAX, bit for bit, in all shapes that JAX's transformations make."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.extend.random import threefry2x32_p

MACHINE_CODE = "@metarule_threefry_"

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
    "many numbers": lambda key: jax.vmap(lambda n: jax.random.bits(jax.random.fold_in(key, n), (5,)))(np.arange(50)),
    "in a loop": lambda key: jax.lax.map(lambda number: jax.random.bits(jax.random.fold_in(key, number)), np.arange(9)),
}
# Shapes of the two words of keys and the two words of counts: one key; a key for each row, more of them than are taken
# one by one; a key for each number; counts that differ between rows; one count for all keys; and nothing.
SHAPES = [
    ((), (), (), ()),
    ((), (), (17,), (17,)),
    ((3, 1), (3, 1), (1, 40), (1, 40)),
    ((2, 1), (2, 1), (2, 40), (2, 40)),
    ((5000, 1), (5000, 1), (1, 3), (1, 3)),
    ((300,), (300,), (300,), (300,)),
    ((2, 3, 1), (2, 3, 1), (2, 3, 5), (2, 3, 5)),
    ((16, 1), (16, 1), (1, 1), (1, 1)),
    ((300,), (300,), (1,), (1,)),
    ((6, 1, 1), (6, 1, 1), (1, 4, 5), (1, 4, 5)),
    ((0,), (0,), (0,), (0,)),
]


def drawn(name):
    """A function that draws, and its key or keys."""
    keys = {"many keys": (1000,), "nested keys": (4, 3)}
    key = jax.random.key(3)
    return DRAWS[name], (jax.random.split(key, keys[name]) if name in keys else key,)


def words(number):
    """The function of which all draws are made, and its operands."""
    random = np.random.default_rng(number)
    operands = [random.integers(0, 2**32, shape, dtype=np.uint32) for shape in SHAPES[number]]
    return lambda *operands: threefry2x32_p.bind(*operands), operands


def result(function, operands, by_machine_code):
    """What a function draws in the way that is expected."""
    program = jax.jit(function).lower(*operands)
    assert (MACHINE_CODE in program.as_text()) == by_machine_code
    return np.asarray(program.compile()(*operands))


def write(file):
    """Write what JAX draws to a file."""
    programs = {name: drawn(name) for name in DRAWS} | {str(number): words(number) for number in range(len(SHAPES))}
    np.savez(file, **{name: result(*program, by_machine_code=False) for name, program in programs.items()})


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
    np.testing.assert_array_equal(result(*drawn(name), by_machine_code=True), of_jax[name])


@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_words_equal_those_of_jax_in_all_shapes(of_jax, number):
    is_empty = (0,) in SHAPES[number]
    np.testing.assert_array_equal(result(*words(number), by_machine_code=not is_empty), of_jax[str(number)])


@pytest.mark.parametrize("mode, expected", [("auto", True), ("on", True), ("off", False)])
def test_commands_draw_by_machine_code_unless_kernels_are_off(mode, expected):
    script = (
        "import jax; from metarule.parallel.devices import Devices, spread\n"
        f"with spread(Devices(kernels='{mode}')):\n"
        f"    print('{MACHINE_CODE}' in jax.jit(jax.random.bits).lower(jax.random.key(0)).as_text())"
    )
    environment = os.environ | {"METARULE_KERNELS": "auto"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(expected)
