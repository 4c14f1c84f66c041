"""Text for `--help`, from types and docstrings: one screen for a command, and the fields of one table."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from metarule.config.fields import alternatives, contents, descriptions, kinds, options, structs, title
from metarule.config.messages import did_you_mean

__all__ = ["Field", "Source", "flags", "overview", "table", "walk"]

# Columns of a line, the most that names take of them, and the longest default.
_WIDTH, _NAMES, _LONGEST = 110, 34, 80
# Marks of containers in the name of a field.
_MARKS: dict[type, str] = {inspect.VarTupleType: "[]", inspect.DictType: ".NAME"}


class Source(NamedTuple):
    """Struct whose fields a command takes.

    Attributes:
        struct: the struct.
        table: table that holds its fields; empty for the top level.
        only: names of the fields that the command takes; empty for all.
        file: name of the file that sets the fields; empty if the command line does.
    """

    struct: type[msgspec.Struct]
    table: str = ""
    only: tuple[str, ...] = ()
    file: str = ""


class Field(NamedTuple):
    """Field that a command takes.

    Attributes:
        name: dotted name, with `[]` after an array and `NAME` for the keys of a dictionary.
        node: its type.
        default: its default; `msgspec.NODEFAULT` if it is required.
        description: its entry in the docstring of its struct.
        file: name of the file that sets it; empty if the command line does.
    """

    name: str
    node: inspect.Type
    default: Any
    description: str
    file: str

    @property
    def flag(self) -> str:
        """Name on the command line, which sets no members of arrays."""
        return self.name if self.file or "[]" in self.name else f"--{self.name}"

    @property
    def path(self) -> str:
        """Dotted name without marks of arrays and dictionaries."""
        return self.name.replace("[]", "").replace(".NAME", "")


def walk(sources: Sequence[Source]) -> Iterator[Field]:
    """Iterate over all fields of a command, outer ones before inner ones."""
    for source in sources:
        for field in _top(source):
            yield from _nested(field)


def flags(sources: Sequence[Source]) -> list[str]:
    """List the options that set the fields of a command, each once."""
    fields = [field for field in walk(sources) if field.flag.startswith("--") and ".NAME" not in field.name]
    every = [flag for field in fields for flag in (field.flag, *([_kind_flag(field)] if kinds(field.node) else []))]
    return list(dict.fromkeys(flag for flag in every if flag.startswith("--")))


def overview(sources: Sequence[Source]) -> str:
    """List the fields of a command at the top level with their defaults, and its tables with one line each."""
    sections: dict[str, list[tuple[str, str]]] = {"Options [default]:": []}
    tables = []
    for field in (field for source in sources for field in _top(source)):
        if structs(field.node):
            tables.append(_entry(field.path, field._replace(description=field.description.partition(". ")[0])))
        else:
            heading = f"Fields of {field.file} [default]:" if field.file else "Options [default]:"
            sections.setdefault(heading, []).append(_entry(field.flag, field))
    sections["Tables (--help TABLE lists the fields of one):"] = tables
    return "\n\n".join(f"{heading}\n{_columns(entries)}" for heading, entries in sections.items() if entries)


def table(sources: Sequence[Source], path: str) -> str:
    """List the kinds of one table, and the fields of one kind with their defaults.

    Args:
        sources: fields of the command.
        path: dotted name, such as `optimizer`, `optimizer.estimator` or, for one kind of a table, `tasks.tabular`.

    Returns:
        The text.

    Raises:
        ValueError: no such table, naming those that are allowed.
    """
    fields: dict[str, Field] = {}
    for field in walk(sources):
        fields.setdefault(field.path, field)
    path = path.removeprefix("--")
    if path in fields:
        return _table(fields[path], "")
    # A kind may have dots itself, as in `rule.my_package.rules:MyRule`.
    within = max((name for name in fields if path.startswith(f"{name}.")), key=len, default="")
    if within and (kind := path.removeprefix(f"{within}.")) in kinds(fields[within].node):
        return _table(fields[within], kind)
    if not any(structs(field.node) for field in fields.values()):
        raise ValueError(f"--help {path}: this command has no tables; --help alone lists its options")
    allowed = [name for name, field in fields.items() if name.rpartition(".")[0] == within and structs(field.node)]
    allowed += [f"{within}.{kind}" for kind in kinds(fields[within].node)] if within else []
    raise ValueError(
        f"--help {path}: there is no such table; allowed: {', '.join(allowed)}{did_you_mean(path, allowed)}"
    )


def _table(field: Field, kind: str) -> str:
    possible = structs(field.node)
    if not possible:
        return _columns([_entry(field.flag, field)])
    chosen = next((one for one in possible if one.tag == (kind or _kind(field))), possible[0])
    sections = [f"[{field.name}]  {field.description}".rstrip()]
    if len(possible) > 1:
        heading = f"{_kind_flag(field)} is one of these; --help {field.path}.KIND lists the fields of one:\n"
        sections.append(heading + _columns([(str(struct.tag), title(struct.cls)) for struct in possible]))
    if chosen.tag:
        sections.append(f'kind = "{chosen.tag}"  {title(chosen.cls)}'.rstrip())
    entries = [_entry(inner.flag, inner) for inner in _inner(field, chosen)]
    return "\n\n".join([*sections, f"Fields [default]:\n{_columns(entries)}" if entries else "No fields."])


def _top(source: Source) -> list[Field]:
    info = inspect.type_info(source.struct)
    if source.table:
        summary = title(source.struct)
        return [Field(source.table, info, msgspec.UNSET, summary[:1].lower() + summary[1:], source.file)]
    assert isinstance(info, inspect.StructType)
    top = Field("", info, msgspec.UNSET, "", source.file)
    return [field for field in _inner(top, info) if not source.only or field.name in source.only]


def _inner(outer: Field, struct: inspect.StructType) -> list[Field]:
    """Fields of a struct that a field may hold."""
    prefix = f"{outer.name}{_mark(outer)}." if outer.name else ""
    texts = descriptions(struct.cls)
    return [
        Field(f"{prefix}{one.encode_name}", one.type, one.default, texts.get(one.name, ""), outer.file)
        for one in struct.fields
    ]


def _mark(field: Field) -> str:
    """Mark of a container; empty for other fields."""
    return next((_MARKS[type(one)] for one in alternatives(field.node) if type(one) in _MARKS), "")


def _kind_flag(field: Field) -> str:
    """Name of the kind of a table, or of the tables in a container."""
    return field._replace(name=f"{field.name}{_mark(field)}.kind").flag


def _nested(field: Field) -> Iterator[Field]:
    yield field
    for struct in structs(field.node):
        for inner in _inner(field, struct):
            yield from _nested(inner)


def _kind(field: Field) -> Any:
    return field.default.__struct_config__.tag if isinstance(field.default, msgspec.Struct) else None


def _entry(name: str, field: Field) -> tuple[str, str]:
    """Name and text of a field: its description, the values that it allows, and its default."""
    literals = options(field.node)
    is_number = any(isinstance(one, inspect.IntType | inspect.FloatType) for one in contents(field.node))
    numbers = ["number"] if literals and is_number else []
    choices = "|".join(map(str, numbers + literals or kinds(field.node)))
    parts = [field.description, f"({choices})" if choices else "", _default(field)]
    if "." in field.name and structs(field.node):
        parts.append(f"; see --help {field.path}")
    return name, " ".join(part for part in parts if part).replace(" ; ", "; ")


def _default(field: Field) -> str:
    if isinstance(field.default, msgspec.Struct) or field.default is msgspec.UNSET:
        return f"[{_kind(field)}]" if _kind(field) else ""
    if field.default is msgspec.NODEFAULT:
        return "[required]"
    text = msgspec.json.encode(field.default, enc_hook=dict).decode()
    return f"[{text if len(text) <= _LONGEST else 'long; see the class'}]"


def _columns(entries: Sequence[tuple[str, str]]) -> str:
    column = min(max(len(name) for name, _ in entries), _NAMES)
    wrap = textwrap.TextWrapper(_WIDTH, break_long_words=False, break_on_hyphens=False)
    wrap.subsequent_indent = " " * (column + 4)
    lines = []
    for name, text in entries:
        wrap.initial_indent = f"  {name:<{column}}  " if text else "  "
        lines.append(wrap.fill(text or name))
    return "\n".join(lines)
