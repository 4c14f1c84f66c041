"""Values checked against the schema of a struct, in Python as in a config file."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np
from immutabledict import immutabledict
from msgspec import Struct, inspect
from msgspec.structs import force_setattr

from metarule.config.errors import explain
from metarule.config.fields import alternatives, contents, info, own_structs

__all__ = ["DEEPEST", "Checked", "adapt_table", "check_leaves", "leaves"]

# Products of numbers up to this size are finite in float32.
_MOST = 1e18
# Deeper than any schema.
DEEPEST = 32
# Types of a schema that have single values of a Python type.
_SINGLE: dict[type, tuple[type, ...]] = {
    bool: (inspect.BoolType,),
    int: (inspect.IntType, inspect.FloatType),
    float: (inspect.FloatType,),
    str: (inspect.StrType,),
}


class Checked(Struct, frozen=True, kw_only=True):
    """Declaration that is checked when it is made in Python, as it is when it is read from a config file.

    Lists become tuples and dictionaries become immutable, as in a decoded file. JAX numbers, which may be traced, are
    stored unchecked. `Meta(extra={"infinite": True})` marks a field that may be infinite in Python.

    Raises:
        ValueError: naming the field, the value and what is allowed.
    """

    def __post_init__(self) -> None:
        schema = _schema(type(self))
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        unchecked = {name for name in schema.numbers if isinstance(given[name], jax.Array)}
        unchecked |= {
            name
            for name, (protocol, own) in schema.open.items()
            if isinstance(given[name], protocol) and not isinstance(given[name], own)
        }
        plain = {name: _plain(value) for name, value in given.items() if name not in unchecked}
        check_leaves(plain, schema.infinite)
        plain = adapt_table(plain, type(self))
        try:
            checked = msgspec.convert(plain, schema.form)
        except msgspec.ValidationError as error:
            raise ValueError(explain(str(error), plain, type(self))) from error
        for name in plain:
            value = getattr(checked, name)
            if isinstance(value, Mapping):
                value = immutabledict({key: value.get(key, item) for key, item in given[name].items()})
            force_setattr(self, name, value)

    def __repr__(self) -> str:
        # Values may be traced, which cannot be compared; their representations can.
        shown = {name: repr(getattr(self, name)) for name in self.__struct_fields__}
        defaults = {field.name: repr(field.default) for field in msgspec.structs.fields(type(self))}
        given = (f"{name}={value}" for name, value in shown.items() if value != defaults[name])
        return f"{type(self).__name__}({', '.join(given)})"


class _Schema(NamedTuple):
    """Class of the same fields that checks nothing else, and fields by their abilities.

    Attributes:
        form: the class.
        numbers: fields of numbers, which may be traced.
        infinite: fields that may be infinite in Python.
        open: by field that takes a user's own component, its protocol and metarule's own classes.
    """

    form: type[Struct]
    numbers: list[str]
    infinite: list[str]
    open: dict[str, tuple[type, tuple[type, ...]]]


@cache
def _schema(declaration: type[Struct]) -> _Schema:
    # An instance has all fields: the default serves for JAX numbers, which are not checked.
    form = [(field.name, field.type, None) for field in msgspec.structs.fields(declaration)]
    fields, number = info(declaration).fields, (inspect.IntType, inspect.FloatType)
    numbers = [field.name for field in fields if any(isinstance(one, number) for one in contents(field.type))]
    extras = {field.name: getattr(field.type, "extra", None) or {} for field in fields}
    infinite = [name for name, extra in extras.items() if extra.get("infinite")]
    open_fields = {
        field.name: (extras[field.name]["protocol"], tuple(one.cls for one in own_structs(field.type)))
        for field in fields
        if "protocol" in extras[field.name]
    }
    return _Schema(msgspec.defstruct(declaration.__name__, form), numbers, infinite, open_fields)


def _plain(value: Any) -> Any:
    """Convert a Python value to nested tables and arrays, without the JAX numbers of a dictionary."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if not isinstance(item, jax.Array)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def adapt_table(tree: Mapping[str, Any], as_type: type[Struct]) -> dict[str, Any]:
    """Complete values that a person may write in short.

    A table without `kind` gets the kind of the field's default, a single value for an array becomes an array of one,
    and an integral float for an integer becomes an integer. All else is left to the decoder.

    Args:
        tree: nested tables and arrays.
        as_type: struct to which they are decoded.

    Returns:
        A new tree.
    """
    fields = {field.encode_name: field for field in info(as_type).fields}
    return {
        key: _adapt(value, fields[key].type, fields[key].default) if key in fields else value
        for key, value in tree.items()
    }


def _adapt(value: Any, node: inspect.Type, default: Any = msgspec.NODEFAULT) -> Any:
    members = list(alternatives(node))
    array = next((member for member in members if isinstance(member, inspect.VarTupleType)), None)
    if isinstance(value, Mapping):
        return _adapt_mapping(value, members, default)
    if isinstance(value, list):
        return [_adapt(item, array.item_type) for item in value] if array else value
    if _takes(members, value):
        return value
    if isinstance(value, float) and value.is_integer() and _takes(members, int(value)):
        return int(value)
    if array and _takes(alternatives(array.item_type), item := _adapt(value, array.item_type)):
        return [item]
    return value


def _adapt_mapping(table: Mapping[str, Any], members: list[inspect.Type], default: Any) -> Mapping[str, Any]:
    possible = [member for member in members if isinstance(member, inspect.StructType)]
    kind = default.__struct_config__.tag if isinstance(default, Struct) else None
    if kind is not None and "kind" not in table and any(struct.tag == kind for struct in possible):
        table = {"kind": kind, **table}
    for struct in possible:
        if struct.tag is None or struct.tag == table.get("kind"):
            return adapt_table(table, struct.cls)
    for member in members:
        if isinstance(member, inspect.DictType):
            return {key: _adapt(item, member.value_type) for key, item in table.items()}
    return table


def _takes(members: Iterable[inspect.Type], value: Any) -> bool:
    """True if one of some types has single values of this type."""
    return any(
        value in member.values
        if isinstance(member, inspect.LiteralType)
        else isinstance(member, _SINGLE.get(type(value), ()))
        for member in members
    )


def check_leaves(tree: Any, infinite: Collection[str] = ()) -> None:
    """Refuse, by a ValueError, numbers and text that no field can hold, anywhere in nested tables and arrays.

    Args:
        tree: nested tables and arrays.
        infinite: fields that may be infinite.
    """
    for path, value in leaves(tree):
        if isinstance(value, float) and not (value == math.inf and path in infinite):
            if not math.isfinite(value):
                raise ValueError(f"{path} = {value}: expected a finite number")
            if abs(value) > _MOST:
                raise ValueError(f"{path} = {value:g}: expected a number of at most {_MOST:g} in size")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{path} = {value:#x}: expected a number of 64 bits")
        if isinstance(value, str) and any("\ud800" <= one <= "\udfff" for one in value):
            raise ValueError(f"{path} = {value!r}: expected text of whole characters")


def leaves(tree: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Iterate over the values of nested tables and arrays; a ValueError refuses those that are nested too deep.

    Args:
        tree: nested tables and arrays.
        path: dotted field of the tree.
        depth: depth of the tree.

    Yields:
        (dotted field, value).
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
