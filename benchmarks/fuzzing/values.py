"""Values for a field of a schema: such as it asks for, such as are at its bounds, and such as nobody would expect."""

import datetime
import math
from collections.abc import Callable
from random import Random
from typing import Any

from msgspec import inspect

from metarule.rules.presets import FAMILIES, RULES
from metarule.rules.terms import VARIABLES

__all__ = ["at_bounds", "fitting", "odd", "term"]

_NAMES = (*VARIABLES, *RULES, *FAMILIES, "CS1", "CS2", "US", "motor", "facilitatory", "adam", "sgd", "lbfgs", "lion")
_NAMES += (
    "cosine_decay_schedule",
    "constant_schedule",
    "init_value",
    "decay_steps",
    "b1",
    "after CS1 < 0.5",
    "CS1 > US",
)
_PIECES = (
    "*",
    "+",
    "-",
    "^",
    "(",
    ")",
    ";",
    ",",
    " ",
    ".",
    "__import__('os')",
    "taylor(",
    "1e9",
    "²",
    "·",
    "\x00",
    "λ",
)
_TEXTS = (
    "",
    " ",
    "all",
    "été",
    "漢字",
    "😀",
    "\x00",
    "\n",
    "\x1b[31m",
    "../..",
    "a" * 5000,
    "nan",
    "$\\frac",
    "-",
    "é" * 300,
)
_NUMBERS = (0, 1, -1, 2, 3, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400)
_FLOATS = (0.0, -0.0, 0.5, 1.0, 1e-300, 5e-324, 1e18, 1e19, 1e38, 1e300, -1e300, math.nan, math.inf, -math.inf)
_DAY = datetime.date(2026, 1, 31)


def odd(rng: Random) -> Any:
    """A value that hardly any field expects."""
    deep: Any = 1
    for _ in range(rng.choice((2, 40))):
        deep = rng.choice(([deep], {"x": deep}))
    many = [1] * rng.choice((3, 2000))
    pools: tuple[tuple[Any, ...], ...] = (
        _NUMBERS,
        _FLOATS,
        _TEXTS,
        (True, False, [], {}, {"kind": "x"}, many, deep, _DAY),
    )
    return rng.choice(rng.choice(pools))


def term(rng: Random) -> str:
    """Text in the term language, made by its grammar, or by chance."""
    if rng.random() < 0.2:
        return "".join(rng.choice((*_PIECES, *_NAMES)) for _ in range(rng.randint(1, 8)))
    if rng.random() < 0.2:
        some = ", ".join(rng.sample(VARIABLES, rng.randint(1, 4)))
        return f"taylor({some}; {rng.choice((1, 1, 2, 3, 8, 9, 50))})"
    monomials = ["*".join(_factor(rng) for _ in range(rng.randint(1, 3))) for _ in range(rng.choice((1, 1, 1, 2, 40)))]
    return rng.choice(("+", " - ", "- ")).join(monomials)


def fitting(node: inspect.Type, rng: Random) -> Any:
    """A value of the type that a field asks for, though others may not go with it."""
    makers: dict[type, Callable[[Any, Random], Any]] = {
        inspect.IntType: _integer,
        inspect.FloatType: lambda node, rng: rng.choice((_integer(node, rng), round(rng.uniform(0, 1), 3), 1e-3)),
        inspect.BoolType: lambda node, rng: rng.random() < 0.5,
        inspect.StrType: lambda node, rng: rng.choice((term(rng), rng.choice(_NAMES), rng.choice(_TEXTS))),
        inspect.LiteralType: lambda node, rng: rng.choice(node.values),
        inspect.UnionType: lambda node, rng: fitting(rng.choice(node.types), rng),
        inspect.Metadata: lambda node, rng: fitting(node.type, rng),
        inspect.VarTupleType: lambda node, rng: [fitting(node.item_type, rng) for _ in range(rng.randint(0, 3))],
        inspect.TupleType: lambda node, rng: [fitting(one, rng) for one in node.item_types],
        inspect.DictType: lambda node, rng: {
            rng.choice((term(rng), rng.choice(_NAMES))): fitting(node.value_type, rng) for _ in range(rng.randint(0, 2))
        },
        inspect.StructType: _table,
    }
    return makers[type(node)](node, rng)


def at_bounds(node: inspect.Type, rng: Random) -> Any:
    """A value at a bound of a field, or just beyond it; an odd one where it has none."""
    if isinstance(node, inspect.Metadata):
        return at_bounds(node.type, rng)
    if isinstance(node, inspect.UnionType):
        return at_bounds(rng.choice(node.types), rng)
    bounds = [getattr(node, name, None) for name in ("ge", "gt", "le", "lt")]
    known = [bound for bound in bounds if bound is not None]
    if not known:
        return odd(rng)
    bound = rng.choice(known)
    whole = isinstance(node, inspect.IntType)
    steps = (-1, 0, 1) if whole else (-1e-9, 0.0, 1e-9)
    return int(bound) + rng.choice(steps) if whole else float(bound) + rng.choice(steps)


def _factor(rng: Random) -> str:
    power = rng.choice(("", "", "", "^2", "^8", "^9", "^0"))
    number = rng.choice(("0.5", "2", "0", "1", "9" * 400, "0." + "0" * 50 + "1"))
    return number if rng.random() < 0.15 else rng.choice(VARIABLES) + power


def _integer(node: Any, rng: Random) -> int:
    least = getattr(node, "ge", None)
    return int(0 if least is None else least) + rng.choice((0, 1, 2, 3, 5, 20))


def _table(node: Any, rng: Random) -> dict[str, Any]:
    tag = {"kind": node.tag} if node.tag else {}
    chosen = [field for field in node.fields if field.required or rng.random() < 0.25]
    return tag | {field.encode_name: fitting(field.type, rng) for field in chosen}
