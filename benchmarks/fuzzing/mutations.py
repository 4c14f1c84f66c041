"""Configs, words of the command line and run directories that are nearly right."""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import msgspec
import numpy as np
import tomli_w
from msgspec import inspect

from benchmarks.fuzzing.values import at_bounds, fitting, odd, term
from metarule.runs.experiment import Experiment

__all__ = ["config_text", "field_names", "run_files", "words"]

Tree = dict[str, Any]
Kinds = tuple[tuple[str, str], ...]
_SCHEMA = inspect.type_info(Experiment)
# Up to here integers have a third that is a float.
_LARGE = 1e300


def config_text(rng: Random, bases: list[Tree]) -> bytes:
    """A config file: one that ships, or one that the schema would have, with a few mutations."""
    tree = fitting(_SCHEMA, rng) if rng.random() < 0.2 else _copy(rng.choice(bases))
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        tree = _mutated(tree, rng)
    try:
        text = tomli_w.dumps(tree)
    except (TypeError, ValueError):  # as where a key is too odd to be written
        text = tomli_w.dumps({})
    return _torn(text.encode("utf-8", "surrogatepass"), rng) if rng.random() < 0.2 else text.encode()


def words(rng: Random) -> list[str]:
    """Fields as the command line sets them."""
    given = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        name, node, kinds = rng.choice(list(_fields(_SCHEMA)))
        if rng.random() < 0.7:  # else most fields belong to another kind than the one that is there
            given += [f"--{field}={kind}" for field, kind in kinds]
        value = rng.choice((fitting, fitting, at_bounds, lambda node, rng: odd(rng)))(node, rng)
        name = rng.choice((name, name, name, name, name + ".x", name + "s", "", "." * 50, "é" + name))
        given += rng.choice(([f"--{name}", _word(value)], [f"--{name}={_word(value)}"]))
    if rng.random() < 0.05:
        given.insert(rng.randrange(len(given)), rng.choice(("--", "-x", "x", "--seed", "--rule.")))
    return [one.replace("\x00", "") for one in given]  # which no command line can hold


def field_names() -> set[str]:
    """Names of all fields, without the tables that they are in."""
    return {name.rpartition(".")[2] for name, _, _ in _fields(_SCHEMA)}


def run_files(rng: Random, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a run directory, one of them changed."""
    changed = dict(files)
    name = rng.choice(("theta.npz", "theta.npz", "theta.npz", *files))
    changed[name] = _theta(rng) if name == "theta.npz" and rng.random() < 0.5 else _torn(files[name], rng)
    return changed


def _theta(rng: Random) -> bytes:
    """A θ file of other arrays, or whose arrays are not what they say."""
    kinds = rng.choice((np.float32, np.float64, np.int64, np.complex64, "U5", object))
    shape = rng.choice(((7,), (7,), (8,), (), (7, 1), (10**6,)))
    numbers = np.full(shape, rng.choice((0.5, np.nan, np.inf)) if kinds in (np.float32, np.float64) else 1, kinds)
    names = rng.choice((["theta_0"], ["theta_0"], ["theta_0", "theta_1"], ["theta_x"], ["../theta_0"], []))
    opened = io.BytesIO()
    with zipfile.ZipFile(opened, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name in names:
            content = io.BytesIO()
            np.save(content, numbers, allow_pickle=True)
            claims = content.getvalue()
            if rng.random() < 0.3:
                claims = claims.replace(
                    b"(7,)", rng.choice((b"(-7,)", b"(7)", b"([],)", b"(1" + b"0" * 18 + b",)", b"{7}"))
                )
            archive.writestr(f"{name}.npy", claims)
    return opened.getvalue()


def _mutated(tree: Tree, rng: Random) -> Tree:
    """One change at a place drawn at random."""
    places = list(_places(tree, _SCHEMA))
    if not places:
        return {"seed": odd(rng)}
    holder, key, node = rng.choice(places)
    ways: tuple[Callable[[], Any], ...] = (
        lambda: holder.__setitem__(key, odd(rng)),
        lambda: holder.__setitem__(key, at_bounds(node, rng)),
        lambda: holder.__setitem__(key, fitting(node, rng) if node else odd(rng)),
        lambda: holder.__setitem__(key, rng.choice(([holder[key]], {"x": holder[key]}, {"kind": holder[key]}))),
        lambda: holder.__setitem__(key, term(rng)),
        lambda: holder.__setitem__(key, _other(holder[key], rng)),
        lambda: holder.pop(key),
        lambda: _set_field(tree, rng),
    )
    rng.choice(ways)()
    return tree


def _other(value: Any, rng: Random) -> Any:
    """A value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        third = value / 3 if abs(value) < _LARGE else value // 3
        return rng.choice((value * 2, value + 1, -value, third))
    if isinstance(value, list) and value:
        return [*value, rng.choice(value)]
    return f"{value}{rng.choice(('s', ' ', 'é'))}" if isinstance(value, str) else value


def _set_field(tree: Tree, rng: Random) -> None:
    """Set a field that the schema has, or one that it has not, wherever it belongs."""
    name, node, _ = rng.choice(list(_fields(_SCHEMA)))
    if rng.random() < 0.2:
        name += rng.choice(("s", "_", ".x", " "))
    *sections, last = name.split(".")
    for section in sections:
        inner = tree.get(section)
        if not isinstance(inner, dict):
            inner = tree[section] = {}
        tree = inner
    tree[last] = fitting(node, rng)


def _places(tree: Any, node: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Every place of a tree: what holds it, under which key, and the type that it should have, where that is known."""
    known = dict(_own(node, tree.get("kind"))) if isinstance(tree, dict) and node is not None else {}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        inner = known.get(key) if isinstance(tree, dict) else None
        yield tree, key, inner
        yield from _places(value, inner)


def _fields(node: Any, path: str = "", kinds: Kinds = ()) -> Iterator[tuple[str, Any, Kinds]]:
    """Every field of a schema: its dotted name, its type, and the kinds of the tables that it is in."""
    for struct in _structs(node):
        inner = (*kinds, (f"{path}kind", str(struct.tag))) if struct.tag else kinds
        for field in struct.fields:
            yield path + field.encode_name, field.type, inner
            yield from _fields(field.type, f"{path}{field.encode_name}.", inner)
        if struct.tag:
            yield f"{path}kind", _tags(node), kinds


def _own(node: Any, kind: Any) -> Iterator[tuple[str, Any]]:
    """Fields of the tables that a place may hold, or of the one whose kind it names."""
    structs = _structs(node)
    for struct in [one for one in structs if one.tag == kind] or structs:
        yield from ((field.encode_name, field.type) for field in struct.fields)
        if struct.tag:
            yield "kind", _tags(node)


def _structs(node: Any) -> list[Any]:
    return [one for one in _members(node) if isinstance(one, inspect.StructType)]


def _tags(node: Any) -> inspect.LiteralType:
    return inspect.LiteralType(tuple(str(one.tag) for one in _structs(node)))


def _members(node: Any) -> Iterator[Any]:
    if isinstance(node, inspect.Metadata):
        yield from _members(node.type)
    elif isinstance(node, inspect.UnionType):
        for one in node.types:
            yield from _members(one)
    else:
        yield node


def _torn(content: bytes, rng: Random) -> bytes:
    """Bytes with a line or a piece of them gone, doubled, moved or changed."""
    lines = content.split(b"\n")
    place, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    line = rng.randrange(len(lines))
    return rng.choice(
        (
            lambda: content[:place],
            lambda: content[:place] + content[end:],
            lambda: content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :],
            lambda: content[:place] + rng.choice((b"\x00", b"\xff", b"[", b'"', b"=", b"\r", b"#")) + content[place:],
            lambda: b"\n".join(lines[: line + 1] + lines[line:]),
            lambda: b"\n".join(lines[:line] + lines[line + 1 :]),
            lambda: b"[" * 100_000,
            lambda: b"",
        )
    )()


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return tomli_w.dumps({"value": value}).removeprefix("value = ").strip()
    except (TypeError, ValueError):
        return repr(value)


def _copy(tree: Tree) -> Tree:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(tree))
