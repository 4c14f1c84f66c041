"""TOML and overrides to typed objects, with errors of one line that name field, value and what is allowed."""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

__all__ = ["ConfigError", "decode", "describe", "override", "parse_overrides", "read"]

T = TypeVar("T")
Tree = dict[str, Any]


class ConfigError(ValueError):
    """Input that cannot be used; its text is one line for the person who gave it."""


def read(path: Path) -> Tree:
    """Parse a TOML file.

    Args:
        path: the file.

    Returns:
        Nested tables.

    Raises:
        ConfigError: a file that cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def parse_overrides(words: Sequence[str]) -> list[tuple[str, Any]]:
    """Read `--section.field VALUE …` or `--section.field=VALUE …`.

    Args:
        words: of the command line.

    Returns:
        (dotted field, value) pairs. A value that is not TOML is text.

    Raises:
        ConfigError: a word that is no field, or a field without a value.
    """
    pairs, words = [], list(words)
    while words:
        name, equals, text = words.pop(0).partition("=")
        if not name.startswith("--") or name == "--":
            raise ConfigError(f"'{name}' is not expected here; fields are set as --section.field VALUE")
        if not equals:
            if not words:
                raise ConfigError(f"{name}: a value is missing")
            text = words.pop(0)
        pairs.append((name[2:], _value(text)))
    return pairs


def override(tree: Tree, pairs: Sequence[tuple[str, Any]]) -> Tree:
    """Set fields of a tree.

    A new `kind` clears its table, for another kind has other fields; kinds are therefore set first.

    Args:
        tree: nested tables; it is left as it is.
        pairs: (dotted field, value).

    Returns:
        A new tree.

    Raises:
        ConfigError: a field inside something that is no table.
    """
    for name, value in sorted(pairs, key=lambda pair: not pair[0].endswith(".kind")):
        tree = _set(tree, name.split("."), value, name)
    return tree


def decode(tree: Tree, as_type: type[T]) -> T:
    """Turn nested tables into typed objects.

    Args:
        tree: nested tables.
        as_type: a `msgspec.Struct`.

    Returns:
        The object.

    Raises:
        ConfigError: naming the field, the value and what is allowed.
    """
    for path, value in _leaves(tree):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{path} = {value}: expected a finite number")
    try:
        return msgspec.convert(tree, type=as_type)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), tree, as_type)) from error


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


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _set(tree: Any, keys: list[str], value: Any, name: str) -> Tree:
    if not isinstance(tree, dict):
        raise ConfigError(f"--{name}: '{keys[0]}' would be a field of {tree!r}, which has no fields")
    if len(keys) > 1:
        return tree | {keys[0]: _set(tree.get(keys[0], {}), keys[1:], value, name)}
    if keys == ["kind"] and tree.get("kind", value) != value:
        return {"kind": value}
    return tree | {keys[0]: value}


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _leaves(value, f"{path}[{number}]")
    else:
        yield path, tree


def _explain(message: str, tree: Tree, as_type: type) -> str:
    found = re.fullmatch(r"(?P<what>.*?)(?: - at `\$?(?P<path>.*)`)?", message, re.DOTALL)
    assert found is not None
    what, path = found["what"].replace("`object`", "a table").replace("`array`", "an array"), found["path"] or ""
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
        options = (
            _options(expected)
            if keys[-1:] != ["kind"]
            else _kinds(_walk(inspect.type_info(as_type), tree, keys[:-1])[0])
        )
        what = f"allowed: {', '.join(map(str, options))}" if options else what
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
    title = (struct.cls.__doc__ or "").strip().splitlines()[0]
    yield f"[{path}]" + (f' kind = "{struct.tag}"' if struct.tag else "") + f"  {title}"
    for field in struct.fields:
        yield _line(f"  --{path}.{field.encode_name}", field)
    for field in struct.fields:
        for inner in _structs(field.type):
            yield ""
            yield from _table(f"{path}.{field.encode_name}", inner)


def _line(name: str, field: inspect.Field) -> str:
    choices = "|".join(map(str, _options(field.type)))
    text = _description(field.type) + (f" ({choices})" if choices else "")
    default = field.default
    if isinstance(default, msgspec.Struct):
        shown = default.__struct_config__.tag or "below"
    else:
        shown = "required" if default is msgspec.NODEFAULT else msgspec.json.encode(default, enc_hook=dict).decode()
    return f"{name:<34} {text} [{shown}]"


def _description(node: inspect.Type) -> str:
    if isinstance(node, inspect.Metadata):
        return (node.extra_json_schema or {}).get("description") or _description(node.type)
    return ""
