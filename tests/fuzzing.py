"""Hypothesis strategies for nearly valid inputs: configs, command lines and run directories."""

import datetime
from contextlib import suppress
from pathlib import Path

import tomli_w
from hypothesis import strategies as st
from msgspec import inspect

from metarule.config.toml import ConfigError, read
from metarule.rules.presets import FAMILIES, RULES
from metarule.rules.terms import VARIABLES
from metarule.runs.experiment import Experiment, read_experiment_file

SCHEMA = inspect.type_info(Experiment)
CONFIGS = Path(__file__).parents[1] / "configs"
SCHEDULES = ("cosine_decay_schedule", "constant_schedule", "init_value", "decay_steps", "b1")
NAMES = (*VARIABLES, *RULES, *FAMILIES, "CS1", "CS2", "US", "motor", "adam", "sgd", "lbfgs", "lion", *SCHEDULES)
ODD_TEXTS = (
    "",
    " ",
    "all",
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
ODD_NUMBERS = (
    0,
    -1,
    2**31,
    2**32,
    2**63 - 1,
    2**63,
    10**30,
    10**400,
    -0.0,
    5e-324,
    1e19,
    1e300,
    *map(float, ("nan", "inf")),
)

# Text in the term language, from its grammar.
_NUMBERS = st.sampled_from(["0.5", "2", "10", "0.125", "7"])
_ODD_FACTORS = st.sampled_from(["0", "9" * 400, "0." + "0" * 50 + "1", "pre^9", "post^0", "__import__('os')"])
_FACTORS = st.builds(str.__add__, st.sampled_from(VARIABLES), st.sampled_from(["", "^2", "^3"]))
TERMS = st.lists(st.lists(_FACTORS | _NUMBERS, min_size=1, max_size=3).map("*".join), min_size=1, max_size=4).map(
    " - ".join
)
_TAYLOR = st.builds("taylor({}; {})".format, st.sampled_from(VARIABLES), st.sampled_from([1, 2, 3, 8, 9, 50]))
_ODD_TERMS = st.lists(_FACTORS | _ODD_FACTORS, min_size=1, max_size=3).map("*".join)
TOKENS = st.sampled_from([*VARIABLES, "*", "+", "-", "^", "1", "9" * 50, " ", "²", "taylor(", ";", "e", "\x00", "٣"])

TEXTS = TERMS | _TAYLOR | _ODD_TERMS | st.sampled_from(NAMES) | st.sampled_from(ODD_TEXTS) | st.text(max_size=20)
_SINGLE = st.integers() | st.floats() | st.sampled_from(ODD_NUMBERS) | st.booleans() | TEXTS
ODD = st.recursive(
    _SINGLE | st.just([1] * 2000) | st.just({"kind": "x"}) | st.just(datetime.date(2026, 1, 31)),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3),
    max_leaves=5,
)


def valid(node):
    """Values of the type of a field, which may not fit other fields."""
    match node:
        case inspect.Metadata():
            return valid(node.type)
        case inspect.UnionType():
            return st.one_of([valid(one) for one in node.types])
        case inspect.IntType():
            return st.sampled_from([0, 1, 2, 3, 5, 20]).map(lambda number: number + (node.ge or 0))
        case inspect.FloatType():
            return st.sampled_from([0.0, 0.5, 1.0, 1e-3, 3.0]).map(lambda number: number + (node.ge or 0))
        case inspect.BoolType():
            return st.booleans()
        case inspect.StrType():
            return TEXTS
        case inspect.LiteralType():
            return st.sampled_from(node.values)
        case inspect.VarTupleType():
            return st.lists(valid(node.item_type), max_size=3)
        case inspect.TupleType():
            return st.tuples(*map(valid, node.item_types)).map(list)
        case inspect.DictType():
            return st.dictionaries(TERMS | st.sampled_from(NAMES), valid(node.value_type), max_size=2)
        case inspect.StructType():
            return _table(node)
    raise TypeError(node)


def _table(node):
    tag = {"kind": st.just(node.tag)} if node.tag else {}
    parts = {field.encode_name: field for field in node.fields}
    required = {name: valid(field.type) for name, field in parts.items() if field.required}
    optional = {name: valid(field.type) for name, field in parts.items() if not field.required}
    return st.fixed_dictionaries(tag | required, optional=optional)


def at_bounds(node):
    """Values at a bound of a field or just beyond it; odd values for a field without bounds."""
    if isinstance(node, inspect.Metadata):
        return at_bounds(node.type)
    if isinstance(node, inspect.UnionType):
        return st.one_of([at_bounds(one) for one in node.types])
    bounds = [bound for name in ("ge", "gt", "le", "lt") if (bound := getattr(node, name, None)) is not None]
    steps = (-1, 0, 1) if isinstance(node, inspect.IntType) else (-1e-9, 0.0, 1e-9)
    return st.sampled_from([bound + step for bound in bounds for step in steps]) if bounds else ODD


def _fields(node, path="", kinds=()):
    """Every field of a schema: dotted name, type, and the kinds of its tables."""
    structs = [one for one in _members(node) if isinstance(one, inspect.StructType)]
    for struct in structs:
        inner = (*kinds, (f"{path}kind", struct.tag)) if struct.tag else kinds
        for field in struct.fields:
            yield path + field.encode_name, field.type, inner
            yield from _fields(field.type, f"{path}{field.encode_name}.", inner)
        if struct.tag:
            yield f"{path}kind", inspect.LiteralType(tuple(one.tag for one in structs)), kinds


def _members(node):
    if isinstance(node, inspect.Metadata):
        return _members(node.type)
    return [one for part in node.types for one in _members(part)] if isinstance(node, inspect.UnionType) else [node]


FIELDS = list(_fields(SCHEMA))


@st.composite
def settings_of_fields(draw, most=3):
    """Dotted fields with values, most of them of the right type, after the kinds of their tables."""
    pairs = []
    for name, node, kinds in draw(st.lists(st.sampled_from(FIELDS), max_size=most)):
        pairs += kinds if draw(st.integers(0, 3)) else ()
        value = draw(st.one_of(valid(node), valid(node), at_bounds(node), ODD))
        pairs.append((draw(st.sampled_from([name] * 8 + [f"{name}.x", f"{name}s", "é" + name])), value))
    return pairs


def _bases():
    """Trees of the experiments in `configs/`."""
    for file in sorted(CONFIGS.glob("*.toml")):
        with suppress(ConfigError):  # a study file
            read_experiment_file(file, [])
            yield read(file)[1]


BASES = list(_bases())


@st.composite
def configs(draw):
    """Content of a config file from `configs/` or from the schema, with some fields set, and perhaps damaged."""
    tree = draw(st.sampled_from(BASES) if draw(st.integers(0, 4)) else valid(SCHEMA))
    for name, value in draw(settings_of_fields()):
        tree = _set(tree, name.split("."), value)
    missing = draw(st.sampled_from([None, None, *tree]))
    tree = {name: value for name, value in tree.items() if name != missing}
    try:
        content = tomli_w.dumps(tree).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError):  # a key that TOML cannot hold
        content = b""
    return content if draw(st.integers(0, 4)) else draw(damaged(content))


def _set(tree, keys, value):
    inner = tree.get(keys[0])
    below = _set(inner if isinstance(inner, dict) else {}, keys[1:], value) if keys[1:] else value
    return tree | {keys[0]: below}


@st.composite
def words(draw):
    """A command line that sets fields."""
    line = []
    for name, value in draw(settings_of_fields()):
        line += draw(st.sampled_from([[f"--{name}", _word(value)], [f"--{name}={_word(value)}"]]))
    line += draw(st.sampled_from([[]] * 9 + [["--"], ["-x"], ["x"], ["--seed"], ["--rule."]]))
    return [one.replace("\x00", "") for one in line]  # which no command line can hold


def _word(value):
    if isinstance(value, str):
        return value
    try:
        return tomli_w.dumps({"value": value}).removeprefix("value = ").strip()
    except (TypeError, ValueError):
        return repr(value)


def damaged(content):
    """Bytes of which a part is missing, replaced or nested deep."""
    places = st.integers(0, len(content))
    parts = st.binary(max_size=3) | st.sampled_from([b"\x00", b"\xff", b"[", b'"', b"=", b"\r", b"#", b"[" * 100_000])
    ends = st.tuples(places, places).map(sorted)
    return st.builds(lambda ends, part: content[: ends[0]] + part + content[ends[1] :], ends, parts)
