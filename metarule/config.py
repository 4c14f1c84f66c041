"""TOML and overrides to typed objects, with errors of one line that name field, value and what is allowed."""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from metarule.schema import explain

__all__ = ["ConfigError", "decode", "override", "parse_overrides", "read"]

T = TypeVar("T")
Tree = dict[str, Any]


class ConfigError(ValueError):
    """Input that cannot be used; its text is one line for the person who gave it."""


def read(path: Path) -> tuple[str, Tree]:
    """Read a TOML file.

    Args:
        path: the file.

    Returns:
        (its text, nested tables).

    Raises:
        ConfigError: a file that cannot be read, or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
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
            if not words or re.match(r"--\w", words[0]):
                raise ConfigError(f"{name}: a value is missing")
            text = words.pop(0)
        pairs.append((name[2:], _value(text)))
    return pairs


def override(tree: Tree, pairs: Sequence[tuple[str, Any]]) -> Tree:
    """Set fields of a tree.

    A new `kind` clears its table, for another kind has other fields; kinds are therefore set first, outer ones before
    those that are inside them.

    Args:
        tree: nested tables; it is left as it is.
        pairs: (dotted field, value).

    Returns:
        A new tree.

    Raises:
        ConfigError: a field inside something that is no table.
    """
    for name, value in sorted(pairs, key=lambda pair: (not pair[0].endswith(".kind"), pair[0].count("."))):
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
        raise ConfigError(explain(str(error), tree, as_type)) from error


def _value(text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, date | time) else value  # no field is a date, but a directory may be named by one


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
