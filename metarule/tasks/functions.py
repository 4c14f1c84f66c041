"""Boolean functions as truth tables: enumeration, separability and NPN classes."""

from itertools import permutations, product

import numpy as np
from jaxtyping import Bool, Int, UInt8

__all__ = ["ENUMERABLE", "are_separable", "enumerate_tables", "is_separable", "npn_classes", "patterns"]
__all__ += ["sample_tables"]

# Largest number of inputs at which all functions are enumerated.
ENUMERABLE = 4


def patterns(inputs: int) -> Int[np.ndarray, "patterns inputs"]:
    """All input patterns, in the order of their binary numbers."""
    return np.array(list(product((0, 1), repeat=inputs)))


def enumerate_tables(inputs: int) -> UInt8[np.ndarray, "functions patterns"]:
    """Truth tables of every function of 1 to `ENUMERABLE` inputs."""
    size = 2**inputs
    return ((np.arange(2**size)[:, None] >> np.arange(size)[::-1]) & 1).astype(np.uint8)


def are_separable(tables: UInt8[np.ndarray, "functions patterns"], inputs: int) -> Bool[np.ndarray, " functions"]:
    """Find the linearly separable functions of 1 to `ENUMERABLE` inputs.

    Separability is a property of the NPN class, so that one linear program for each class is enough.
    """
    _, first, classes = np.unique(npn_classes(tables, inputs), return_index=True, return_inverse=True)
    return np.array([is_separable(tables[index], inputs) for index in first])[classes]


def sample_tables(inputs: int, count: int, functions: str, seed: int) -> UInt8[np.ndarray, "functions patterns"]:
    """Draw distinct random functions of many inputs.

    Random tables of five or more inputs are practically never separable, so separable functions are drawn as random
    half-spaces with normal weights and threshold.

    Args:
        inputs: more than `ENUMERABLE`.
        count: number of functions.
        functions: `"all"`, `"separable"` or `"not_separable"`.
        seed: decides the draw.
    """
    rng = np.random.default_rng(seed)
    signs = 2 * patterns(inputs) - 1
    tables: dict[bytes, np.ndarray] = {}
    while len(tables) < count:
        if functions == "separable":
            table = (signs @ rng.standard_normal(inputs) > rng.standard_normal()).astype(np.uint8)
        else:
            table = rng.integers(0, 2, 2**inputs, dtype=np.uint8)
        if functions != "not_separable" or not is_separable(table, inputs):
            tables[table.tobytes()] = table
    return np.stack(list(tables.values()))


def is_separable(table: UInt8[np.ndarray, " patterns"], inputs: int) -> bool:
    """Tell whether a hyperplane separates the ones of a function from its zeros.

    It does if the linear program sₚ·(w·xₚ + b) ≥ 1 over all patterns p is feasible, with sₚ = ±1 the value at p. The
    answer is exact, because a feasible program has a solution with margin 1.
    """
    from scipy.optimize import linprog  # imported late: it takes most of a second

    rows = np.hstack([2 * patterns(inputs) - 1, np.ones((2**inputs, 1), int)])
    signs = 2 * table.astype(int) - 1
    program = linprog(np.zeros(inputs + 1), A_ub=-signs[:, None] * rows, b_ub=-np.ones(len(table)), bounds=(None, None))
    return program.status == 0


def npn_classes(tables: UInt8[np.ndarray, "functions patterns"], inputs: int) -> Int[np.ndarray, " functions"]:
    """Number the classes of functions that are equal up to negating or permuting inputs or negating the output.

    Up to `ENUMERABLE` inputs the classes are exact. Beyond, functions are classified by an invariant, the sorted
    magnitudes of their Walsh spectrum at each order. It may join two classes, but never splits one.
    """
    label = _smallest_member(tables, inputs) if inputs <= ENUMERABLE else _spectrum(tables, inputs)
    return np.unique(label, axis=0, return_inverse=True)[1].reshape(-1)


def _smallest_member(tables: UInt8[np.ndarray, "functions patterns"], inputs: int) -> Int[np.ndarray, "functions 1"]:
    places = 1 << np.arange(2**inputs)[::-1]
    smallest = np.full(len(tables), 2 ** (2**inputs))
    for order, flip in product(permutations(range(inputs)), product((0, 1), repeat=inputs)):
        moved = (patterns(inputs)[:, order] ^ np.array(flip)) @ (1 << np.arange(inputs)[::-1])
        number = tables[:, moved] @ places
        smallest = np.minimum(smallest, np.minimum(number, 2 ** (2**inputs) - 1 - number))
    return smallest[:, None]


def _spectrum(tables: UInt8[np.ndarray, "functions patterns"], inputs: int) -> Int[np.ndarray, "functions patterns"]:
    bits = patterns(inputs)
    walsh = 1 - 2 * ((bits @ bits.T) % 2)
    magnitudes = np.abs((1 - 2 * tables.astype(int)) @ walsh)
    orders = bits.sum(axis=1)
    return np.hstack([np.sort(magnitudes[:, orders == order], axis=1) for order in range(inputs + 1)])
