"""Boolean functions as truth tables: which exist, which are separable, and which are twins of each other."""

from itertools import permutations, product

import numpy as np
from jaxtyping import Bool, Int, UInt8

__all__ = [
    "ENUMERABLE",
    "are_separable",
    "enumerate_tables",
    "is_separable",
    "npn_classes",
    "patterns",
    "sample_tables",
]

ENUMERABLE = 4


def patterns(inputs: int) -> Int[np.ndarray, "patterns inputs"]:
    """All input patterns, in the order of their binary numbers."""
    return np.array(list(product((0, 1), repeat=inputs)))


def enumerate_tables(inputs: int) -> UInt8[np.ndarray, "functions patterns"]:
    """Truth tables of every function of up to four inputs.

    Args:
        inputs: from 1 to `ENUMERABLE`.

    Returns:
        Truth tables.
    """
    size = 2**inputs
    return ((np.arange(2**size)[:, None] >> np.arange(size)[::-1]) & 1).astype(np.uint8)


def are_separable(tables: UInt8[np.ndarray, "functions patterns"], inputs: int) -> Bool[np.ndarray, " functions"]:
    """Which functions of up to four inputs are linearly separable.

    All members of an NPN class are, or none is, so that one linear program a class decides it.

    Args:
        tables: functions.
        inputs: from 1 to `ENUMERABLE`.

    Returns:
        A flag for each.
    """
    _, first, classes = np.unique(npn_classes(tables, inputs), return_index=True, return_inverse=True)
    return np.array([is_separable(tables[index], inputs) for index in first])[classes]


def sample_tables(inputs: int, count: int, functions: str, seed: int) -> UInt8[np.ndarray, "functions patterns"]:
    """Distinct random functions of many inputs.

    Random tables of five and more inputs are practically never separable, so separable functions are drawn as random
    half-spaces, with normal weights and threshold.

    Args:
        inputs: more than `ENUMERABLE`.
        count: how many.
        functions: `"all"`, `"separable"` or `"not_separable"`.
        seed: decides the draw.

    Returns:
        Truth tables.
    """
    rng = np.random.default_rng(seed)
    signs = 2 * patterns(inputs) - 1
    found: dict[bytes, np.ndarray] = {}
    while len(found) < count:
        if functions == "separable":
            table = (signs @ rng.standard_normal(inputs) > rng.standard_normal()).astype(np.uint8)
        else:
            table = rng.integers(0, 2, 2**inputs, dtype=np.uint8)
        if functions != "not_separable" or not is_separable(table, inputs):
            found[table.tobytes()] = table
    return np.stack(list(found.values()))


def is_separable(table: UInt8[np.ndarray, " patterns"], inputs: int) -> bool:
    """Whether a hyperplane parts the ones of a function from its zeros.

    Feasibility of the linear program sₚ·(w·xₚ + b) ≥ 1 over all patterns p, with sₚ = ±1 as the function says.

    Args:
        table: the function.
        inputs: number of inputs.

    Returns:
        The answer, which is exact: a feasible program has a solution whose margin is 1.
    """
    from scipy.optimize import linprog  # most of a second to import: only where it is asked

    rows = np.hstack([2 * patterns(inputs) - 1, np.ones((2**inputs, 1), int)])
    signs = 2 * table.astype(int) - 1
    program = linprog(np.zeros(inputs + 1), A_ub=-signs[:, None] * rows, b_ub=-np.ones(len(table)), bounds=(None, None))
    return program.status == 0


def npn_classes(tables: UInt8[np.ndarray, "functions patterns"], inputs: int) -> Int[np.ndarray, " functions"]:
    """Number the classes of functions that are equal up to negating or permuting inputs or negating the output.

    Up to `ENUMERABLE` inputs the classes are exact. Beyond, functions are parted by an invariant, the magnitudes of
    their Walsh spectrum order by order. It may join two classes, but never parts one.

    Args:
        tables: functions.
        inputs: number of inputs.

    Returns:
        Number of the class of each function, from 0.
    """
    name = _smallest_twin(tables, inputs) if inputs <= ENUMERABLE else _spectrum(tables, inputs)
    return np.unique(name, axis=0, return_inverse=True)[1].reshape(-1)


def _smallest_twin(tables: UInt8[np.ndarray, "functions patterns"], inputs: int) -> Int[np.ndarray, "functions 1"]:
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
