"""What a schema says of its fields: for `--help`, for errors, and for whoever makes a declaration in Python."""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np
from immutabledict import immutabledict
from msgspec import Struct, inspect
from msgspec.structs import force_setattr

__all__ = ["DEEPEST", "Checked", "check_leaves", "describe", "explain", "leaves"]

# Longest default that is written out in the help.
_SHOWN = 80
# What float32 can hold, products with other numbers of that size included.
_MOST = 1e18
# Nothing that has a schema is nested so deep.
DEEPEST = 32


class Checked(Struct, frozen=True, kw_only=True):
    """A declaration that is checked where it is made in Python as it is where it is read from a config file.

    Lists become tuples and dictionaries immutable, as in what is read. A number that JAX has, which may be traced, is
    taken as it is. A field that may be infinite in Python says so by `Meta(extra={"infinite": True})`.

    Raises:
        ValueError: naming the field, the value and what is allowed.
    """

    def __post_init__(self) -> None:
        schema = _schema(type(self))
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        here = {name: _plain(value) for name, value in given.items() if not _is_left(value, name, schema)}
        check_leaves(here, schema.endless)
        try:
            found = msgspec.convert(here, schema.form)
        except msgspec.ValidationError as error:
            raise ValueError(explain(str(error), here, type(self))) from error
        for name in here:
            value = getattr(found, name)
            if isinstance(value, Mapping):
                value = immutabledict({key: value.get(key, one) for key, one in given[name].items()})
            force_setattr(self, name, value)


class _Schema(NamedTuple):
    """What a declaration is checked by.

    Attributes:
        form: a class of the same fields that checks nothing else.
        numbers: fields that hold numbers.
        endless: fields that may be infinite in Python.
    """

    form: type[Struct]
    numbers: frozenset[str]
    endless: frozenset[str]


@cache
def _schema(declaration: type[Struct]) -> _Schema:
    # Fields of an instance are all there: a default serves for those that are not looked at.
    fields = [(field.name, field.type, None) for field in msgspec.structs.fields(declaration)]
    types = {field.name: field.type for field in inspect.type_info(declaration).fields}  # type: ignore[attr-defined]
    number = (inspect.IntType, inspect.FloatType)
    return _Schema(
        msgspec.defstruct(declaration.__name__, fields),
        frozenset(name for name, node in types.items() if any(isinstance(one, number) for one in _members(node))),
        frozenset(name for name, node in types.items() if (getattr(node, "extra", None) or {}).get("infinite")),
    )


def _is_left(value: Any, name: str, schema: _Schema) -> bool:
    return isinstance(value, jax.Array) and name in schema.numbers


def _plain(value: Any) -> Any:
    """A value as a config file would have it; of a dictionary without the numbers that JAX has."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items() if not isinstance(one, jax.Array)}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def check_leaves(tree: Any, endless: Collection[str] = ()) -> None:
    """Refuse numbers and texts that nothing can be made of, wherever they stand in nested tables and arrays.

    Args:
        tree: nested tables and arrays.
        endless: fields that may be infinite.

    Raises:
        ValueError: naming the field, the value and what is allowed; or tables and arrays that are nested too deep.
    """
    for path, value in leaves(tree):
        if isinstance(value, float) and not math.isfinite(value) and not (value == math.inf and path in endless):
            raise ValueError(f"{path} = {value}: expected a finite number")
        if isinstance(value, float) and math.isfinite(value) and abs(value) > _MOST:
            raise ValueError(f"{path} = {value:g}: expected a number of at most {_MOST:g} in size")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{path} = {value:#x}: expected a number of 64 bits")
        if isinstance(value, str) and any("\ud800" <= one <= "\udfff" for one in value):
            raise ValueError(f"{path} = {value!r}: expected text of whole characters")


def describe(as_type: type) -> str:
    """List every field with its default and what it means, kind by kind, for `--help`."""
    top, tables = [], []
    for field in inspect.type_info(as_type).fields:  # type: ignore[attr-defined]
        structs = _structs(field.type)
        if not structs:
            top.append(_line(f"--{field.encode_name}", field))
        for struct in structs:
            tables.append("\n".join(_table(field.encode_name, struct)))
    return "\n".join(top) + "\n\n" + "\n\n".join(tables)


def explain(message: str, tree: Mapping[str, Any], as_type: type) -> str:
    """Turn the message of a failed decode into one line that names the field, the value and what is allowed.

    Args:
        message: of a `msgspec.ValidationError`.
        tree: what was decoded.
        as_type: what it was decoded to.

    Returns:
        The line.
    """
    found = re.fullmatch(r"(?P<what>.*?)(?: - at `\$?(?P<path>.*)`)?", message, re.DOTALL)
    assert found is not None
    what, path = (
        found["what"].replace("`object`", "a table").replace("| object", "| table").replace("`array`", "an array"),
        found["path"] or "",
    )
    keys = re.findall(r"[^.\[\]]+", path.removesuffix("[...]"))
    expected, value = _walk(inspect.type_info(as_type), tree, keys)
    where = ".".join(keys)
    if unknown := re.search(r"unknown field `(.*)`", what):
        known = [name for struct in _structs(expected, value) for name in _names(struct)]
        name = ".".join([*keys, unknown[1]])
        return f"{name} = {_short(value.get(unknown[1]))}: there is no such field; allowed: {', '.join(known)}"
    if missing := re.search(r"missing required field `(.*)`", what):
        kinds = f"; allowed: {', '.join(_kinds(expected))}" if missing[1] == "kind" else ""
        return f"{'.'.join([*keys, missing[1]])}: this field is missing{kinds}"
    if not what.startswith(("Expected", "Invalid")):
        return f"{where}: {what}" if where else what
    if what.startswith("Invalid"):
        node = _walk(inspect.type_info(as_type), tree, keys[:-1])[0] if keys[-1:] == ["kind"] else expected
        allowed = _options(expected) or _kinds(node)
        numbers = " or a number" if any(isinstance(member, inspect.IntType) for member in _members(expected)) else ""
        what = f"allowed: {', '.join(map(str, allowed))}{numbers}" if allowed else what
    structs = _structs(expected)
    if structs and not isinstance(value, Mapping | list | str | int | float):  # an object that only Python has
        what = f"expected {' or '.join(struct.cls.__name__ for struct in structs)}"
    return f"{where} = {_short(value)}: {what[0].lower()}{what[1:]}"


def leaves(tree: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Whatever stands in nested tables and arrays, with its dotted field.

    Args:
        tree: nested tables and arrays.
        path: of the tree.
        depth: of the tree.

    Yields:
        (dotted field, value).

    Raises:
        ValueError: tables and arrays that are nested too deep.
    """
    if depth > DEEPEST:
        raise ValueError(f"{path}: nested too deep; allowed: up to {DEEPEST} tables and arrays in each other")
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from leaves(value, f"{path}[{number}]", depth + 1)
    else:
        yield path, tree


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _walk(node: inspect.Type, value: Any, keys: Sequence[str]) -> tuple[inspect.Type, Any]:
    """Type and value at a place of a tree; the type is that of the last place known on the way."""
    for key in keys:
        if isinstance(value, list) and key.isdigit():
            value = value[int(key)]
            continue
        for struct in _structs(node, value):
            node = next((field.type for field in struct.fields if field.encode_name == key), node)
        value = value.get(key) if isinstance(value, Mapping) else value
    return node, value


def _members(node: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(node, inspect.Metadata):
        yield from _members(node.type)
    elif isinstance(node, inspect.UnionType):
        for member in node.types:
            yield from _members(member)
    elif isinstance(node, inspect.VarTupleType):
        yield from _members(node.item_type)
    elif isinstance(node, inspect.DictType):
        yield from _members(node.value_type)
    else:
        yield node


def _structs(node: inspect.Type, value: Any = None) -> list[inspect.StructType]:
    """Structs that a place may hold; of these, the one whose kind a value names."""
    structs = [member for member in _members(node) if isinstance(member, inspect.StructType)]
    kind = value.get("kind") if isinstance(value, Mapping) else None
    return [struct for struct in structs if struct.tag == kind] or structs


def _names(struct: inspect.StructType) -> list[str]:
    return [field.encode_name for field in struct.fields]


def _kinds(node: inspect.Type) -> list[Any]:
    return [struct.tag for struct in _structs(node)]


def _options(node: inspect.Type) -> list[Any]:
    return [value for member in _members(node) if isinstance(member, inspect.LiteralType) for value in member.values]


def _table(path: str, struct: inspect.StructType) -> Iterator[str]:
    title = next(iter((struct.cls.__doc__ or "").strip().splitlines()), "")  # python -OO has none
    yield (f"[{path}]" + (f' kind = "{struct.tag}"' if struct.tag else "") + f"  {title}").rstrip()
    # Members of an array have no name by which the command line could set them.
    dashes = "" if "[]" in path else "--"
    for field in struct.fields:
        yield _line(f"  {dashes}{path}.{field.encode_name}", field)
    for field in struct.fields:
        for inner in _structs(field.type):
            yield ""
            yield from _table(f"{path}.{field.encode_name}{_place(field.type)}", inner)


def _place(node: inspect.Type) -> str:
    """What follows the name of a field on the way to its members."""
    if isinstance(node, inspect.Metadata):
        return _place(node.type)
    return {inspect.VarTupleType: "[]", inspect.DictType: ".NAME"}.get(type(node), "")


def _line(name: str, field: inspect.Field) -> str:
    choices = "|".join(map(str, _options(field.type)))
    text = _description(field.type) + (f" ({choices})" if choices else "")
    default = field.default
    if isinstance(default, msgspec.Struct):
        shown = default.__struct_config__.tag or "below"
    else:
        shown = "required" if default is msgspec.NODEFAULT else msgspec.json.encode(default, enc_hook=dict).decode()
        shown = shown if len(shown) <= _SHOWN else "written out in resolved.toml"
    return f"{name:<34} {text} [{shown}]"


def _description(node: inspect.Type) -> str:
    if isinstance(node, inspect.Metadata):
        return (node.extra_json_schema or {}).get("description") or _description(node.type)
    return ""
