"""TOML and overrides to typed objects, with errors of one line that name field, value and what is allowed."""

import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from metarule.config.errors import explain
from metarule.config.fields import info, own_structs, protocol_of
from metarule.config.imports import find_component, import_path, is_import_path, located, table_struct
from metarule.config.schema import DEEPEST, adapt_table, check_leaves

__all__ = [
    "ConfigError",
    "beside",
    "check_file",
    "check_format",
    "decode",
    "decode_table",
    "encode",
    "override",
    "parse_overrides",
    "read",
    "read_bytes",
]

T = TypeVar("T", bound=msgspec.Struct)
Tree = dict[str, Any]

# Bytes of a config file, at most; files written by hand are far smaller.
_LARGEST = 2**22
# Characters of an error. A longer one is cut in the middle: it begins with the field and ends with what is allowed.
_LONGEST = 2000


class ConfigError(ValueError):
    """Input that cannot be used, in one line; characters that break a line or control a terminal are escaped."""

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        line = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)
        half = _LONGEST // 2
        super().__init__(line if len(line) <= _LONGEST else f"{line[:half]} … {line[-half:]}")


def check_file(path: Path, largest: int) -> None:
    """Refuse, by a ConfigError, a path that is no regular file, or a file of more than `largest` bytes."""
    try:
        stats = path.stat()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', error)}") from error
    if not stat.S_ISREG(stats.st_mode):  # a pipe may never end
        raise ConfigError(f"{path}: this is no file")
    if stats.st_size > largest:
        raise ConfigError(f"{path}: it has {stats.st_size} bytes; allowed: up to {largest}")


def read_bytes(path: Path, largest: int) -> bytes:
    """Read an untrusted file; a ConfigError names one that cannot be read, or has more than `largest` bytes."""
    check_file(path, largest)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def read(path: Path) -> tuple[str, Tree]:
    """Read a TOML file.

    Returns:
        (its text, nested tables).

    Raises:
        ConfigError: a file that cannot be read, or is not TOML.
    """
    raw = read_bytes(path, _LARGEST)
    try:
        text = raw.decode("utf-8-sig")  # some editors write a byte-order mark
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text: {error}") from error
    try:
        return text, tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def beside(file: Path, path: Any) -> Any:
    """Absolute path of what a file names relative to itself; an empty path and other values are unchanged."""
    return str(file.parent.absolute() / path) if isinstance(path, str) and path else path


def parse_overrides(words: Sequence[str]) -> list[tuple[str, Any]]:
    """Read words of the command line, `--TABLE.FIELD VALUE …` or `--TABLE.FIELD=VALUE …`.

    Returns:
        (dotted field, value) pairs. A value that is not TOML is text.

    Raises:
        ConfigError: a word that is no field, or a field without a value.
    """
    pairs, words = [], list(words)
    while words:
        name, equals, text = words.pop(0).partition("=")
        if not name.startswith("--") or not all(name[2:].split(".")):
            raise ConfigError(f"'{name}' is not expected here; options are given as --NAME VALUE; see --help")
        if not equals:
            if not words or re.match(r"--\w", words[0]):
                raise ConfigError(f"{name}: a value is missing")
            text = words.pop(0)
        pairs.append((name[2:], _value(text)))
    return pairs


def override(tree: Tree, pairs: Iterable[tuple[str, Any]]) -> Tree:
    """Set fields of a tree.

    A new `kind` clears its table, because another kind has other fields. Kinds are therefore set first, outer ones
    before inner ones. A table without `kind` keeps the kind of the table that it replaces.

    Args:
        tree: nested tables; it is not changed.
        pairs: (dotted field, value).

    Returns:
        A new tree.

    Raises:
        ConfigError: a field of a value that is no table, or fields nested too deep.
    """
    for name, value in sorted(pairs, key=lambda pair: (not pair[0].endswith(".kind"), pair[0].count("."))):
        if name.count(".") > DEEPEST:
            raise ConfigError(f"--{name[:80]}…: fields are nested up to {DEEPEST} deep")
        tree = _set(tree, name.split("."), value, name)
    return tree


def decode(tree: Tree, as_type: type[T]) -> T:
    """Turn nested tables into typed objects.

    A table whose `kind` is an import path, such as `my_module:MyRule`, becomes a component of a user's own module.

    Args:
        tree: nested tables; short forms are completed as `adapt_table` does.
        as_type: a `msgspec.Struct`.

    Returns:
        The object.

    Raises:
        ConfigError: naming the field, the value and what is allowed.
    """
    try:
        check_leaves(tree)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return _decode(tree, as_type, "")


def _decode(tree: Tree, as_type: type[T], path: str) -> T:
    tree, objects = adapt_table(tree, as_type), dict[str, Any]()
    try:
        objects = dict(_own_objects(tree, as_type, path))
        if not objects:
            return msgspec.convert(tree, type=as_type)
        values = {name: value for name, value in tree.items() if name != as_type.__struct_config__.tag_field}
        if unknown := next((name for name in values if name not in as_type.__struct_fields__), None):
            raise msgspec.ValidationError(f"Object contains unknown field `{unknown}`")
        return as_type(**values | objects)
    except msgspec.ValidationError as error:
        raise ConfigError(path + explain(str(error), tree, as_type)) from error
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path}{error}") from error
    except Exception as error:  # of any kind: it comes of a user's own code, which is traced
        raise ConfigError(f"{path}{', '.join(objects)}: {located(error)}") from error


def _own_objects(tree: Tree, as_type: type[msgspec.Struct], path: str) -> Iterator[tuple[str, Any]]:
    """Objects of the tables that are, or contain, components of users' own modules, by field."""
    for field in info(as_type).fields:
        value, protocol = tree.get(field.encode_name), protocol_of(field.type)
        if not isinstance(value, dict):
            continue
        inner = f"{path}{field.encode_name}."
        if protocol and is_import_path(value.get("kind")):
            yield field.name, _own_object(value, protocol, inner)
        elif _holds_own(value) and len(possible := _chosen(field.type, value)) == 1:
            yield field.name, _decode(value, possible[0].cls, inner)


def _chosen(node: inspect.Type, table: Tree) -> list[inspect.StructType]:
    """Structs of metarule that a table may become."""
    return [struct for struct in own_structs(node) if struct.tag is None or struct.tag == table.get("kind")]


def _own_object(table: Tree, protocol: type, path: str) -> Any:
    """Component of a user's own module."""
    kind = table["kind"]
    try:
        component = find_component(kind, protocol)
        form = table_struct(component)
    except ValueError as error:
        raise ConfigError(f"{path}kind = '{kind}': {error}") from error
    # The tag of a class that another module offers, too, has the name of its own module.
    values = _decode(table | {"kind": form.__struct_config__.tag}, form, path)
    try:
        made = component(**{name: getattr(values, name) for name in values.__struct_fields__})
    except Exception as error:
        reason = f"{path}{error}" if isinstance(error, ValueError) else f"{path.rstrip('.')}: {located(error)}"
        raise ConfigError(reason) from error
    try:
        hash(made)
    except TypeError as error:
        raise ConfigError(f"{path}kind = '{kind}': {error}; allowed: hashable fields, such as tuples") from error
    return made


def _holds_own(table: Tree) -> bool:
    """True if one of nested tables is a component of a user's own module."""
    inner = [value for value in table.values() if isinstance(value, dict)]
    return any(is_import_path(value.get("kind")) or _holds_own(value) for value in inner)


def encode(value: msgspec.Struct) -> Tree:
    """Turn a typed object into nested tables with all defaults, which decode to an equal object.

    Raises:
        ValueError: a component of a user's own module that no config can hold, or no import path leads to.
    """
    tag = value.__struct_config__.tag
    tree: Tree = {"kind": tag} if tag else {}
    for field in info(type(value)).fields:
        part = getattr(value, field.name)
        try:
            if protocol_of(field.type) and type(part) not in [struct.cls for struct in own_structs(field.type)]:
                tree[field.encode_name] = _encode_own(part)
            elif isinstance(part, msgspec.Struct):
                tree[field.encode_name] = encode(part)
            else:
                tree[field.encode_name] = msgspec.to_builtins(part, enc_hook=dict)
        except ValueError as error:
            raise ValueError(f"{field.encode_name}: {error}") from error
    return tree


def _encode_own(component: Any) -> Tree:
    """Table of a component of a user's own module, without fields that are None, which TOML lacks."""
    own: type = type(component)
    path, tree = import_path(own), Tree()
    for name in table_struct(own).__struct_fields__:
        value = getattr(component, name)
        if value is None:
            continue
        try:
            tree[name] = msgspec.to_builtins(value, enc_hook=dict)
        except TypeError as error:
            raise ValueError(f"no config can hold {own.__name__}.{name}: {error}") from error
    return {"kind": path} | tree


def decode_table(tree: Tree, table: str, as_type: type[T]) -> T:
    """Decode one of nested tables, or its defaults if it is missing; errors name the table, as in `decode`."""
    tables = msgspec.defstruct("Tables", [(table, as_type, as_type())])
    return getattr(decode({table: tree[table]} if table in tree else {}, tables), table)


def check_format(what: str, found: object, known: int, remedy: str) -> None:
    """Refuse what another version of metarule has written.

    Args:
        what: subject of the error, such as `"this run directory"`.
        found: number of its format; None for a missing one.
        known: number of the format that this version reads.
        remedy: advice for an older format, such as `"train again"`.

    Raises:
        ConfigError: another format.
    """
    if type(found) is int and found == known:
        return
    reads = f"this version of metarule reads format {known}"
    if type(found) is int and found > known:
        raise ConfigError(f"{what} has format {found}; {reads}; upgrade metarule")
    if found is None or (type(found) is int and found > 0):
        number = "no format number" if found is None else f"format {found}"
        raise ConfigError(f"{what} has {number}, as of an earlier version; {reads}; {remedy}, or use that version")
    raise ConfigError(f"{what} has format {found!r}; allowed: {known}")


def _value(text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, date | time) else value  # a directory may be named after a date


def _set(tree: Any, keys: list[str], value: Any, name: str) -> Tree:
    if not isinstance(tree, dict):
        raise ConfigError(f"--{name}: '{keys[0]}' would be a field of {tree!r}, which has no fields")
    if len(keys) > 1:
        return tree | {keys[0]: _set(tree.get(keys[0], {}), keys[1:], value, name)}
    # A table without a kind has the default one, which is never a user's own.
    if keys == ["kind"] and tree.get("kind", "" if is_import_path(value) else value) != value:
        return {"kind": value}
    before = tree.get(keys[0])
    if isinstance(value, dict) and isinstance(before, dict) and isinstance(before.get("kind"), str):
        value = {"kind": before["kind"]} | value
    return tree | {keys[0]: value}
