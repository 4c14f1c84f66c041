"""Messages of failed decodes: one line that names the field, the value and what is allowed."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import inspect

from metarule.config.fields import contents, kinds, options, structs
from metarule.config.messages import did_you_mean

__all__ = ["explain"]

# Longest value that a message shows.
_LONGEST = 80


def explain(message: str, tree: Mapping[str, Any], as_type: type) -> str:
    """Turn the message of a failed decode into one line that names the field, the value and what is allowed.

    Args:
        message: message of a `msgspec.ValidationError`.
        tree: nested tables that were decoded.
        as_type: struct to which they were decoded.
    """
    match = re.fullmatch(r"(?P<what>.*?)(?: - at `\$?(?P<path>.*)`)?", message, re.DOTALL)
    assert match is not None
    what = match["what"].replace("`object`", "a table").replace("| object", "| table").replace("`array`", "an array")
    keys = re.findall(r"[^.\[\]]+", (match["path"] or "").removesuffix("[...]"))
    root = inspect.type_info(as_type)
    expected, value = _walk(root, tree, keys)
    field = ".".join(keys)
    if unknown := re.search(r"unknown field `(.*)`", what):
        allowed = [field.encode_name for struct in structs(expected, value) for field in struct.fields]
        line = f"{'.'.join([*keys, unknown[1]])} = {_short(value.get(unknown[1]))}: there is no such field"
        return f"{line}; allowed: {', '.join(allowed)}{did_you_mean(unknown[1], allowed)}"
    if missing := re.search(r"missing required field `(.*)`", what):
        which = f"; allowed: {', '.join(kinds(expected))}" if missing[1] == "kind" else ""
        return f"{'.'.join([*keys, missing[1]])}: this field is missing{which}"
    if not what.startswith(("Expected", "Invalid")):
        return f"{field}: {what}" if field else what
    if what.startswith("Invalid"):
        node = _walk(root, tree, keys[:-1])[0] if keys[-1:] == ["kind"] else expected
        if names := options(expected) or kinds(node):
            numbers = " or a number" if any(isinstance(one, inspect.IntType) for one in contents(expected)) else ""
            what = f"allowed: {', '.join(map(str, names))}{numbers}{did_you_mean(value, names)}"
    possible = structs(expected)
    if possible and not isinstance(value, Mapping | list | str | int | float):  # an object that only Python has
        what = f"expected {' or '.join(struct.cls.__name__ for struct in possible)}"
    return f"{field} = {_short(value)}: {what[0].lower()}{what[1:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "…"


def _walk(node: inspect.Type, value: Any, keys: Sequence[str]) -> tuple[inspect.Type, Any]:
    """Type and value at a path of a tree; the type is that of the last known key of the path."""
    for key in keys:
        if isinstance(value, list) and key.isdigit():
            value = value[int(key)]
            continue
        for struct in structs(node, value):
            node = next((field.type for field in struct.fields if field.encode_name == key), node)
        value = value.get(key) if isinstance(value, Mapping) else value
    return node, value
