"""What a schema says of its fields: for `--help`, and for errors that name field, value and what is allowed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import inspect

__all__ = ["describe", "explain"]

# Longest default that is written out in the help.
_SHOWN = 80


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
    return f"{where} = {_short(value)}: {what[0].lower()}{what[1:]}"


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
