"""Fields of structs: their types, the values that they allow, and their descriptions."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from inspect import cleandoc
from typing import Any

from msgspec import inspect

from metarule.config.imports import imported_structs

__all__ = ["alternatives", "contents", "descriptions", "info", "kinds", "options", "own_structs", "protocol_of"]
__all__ += ["structs", "title"]

# A section of a docstring in Google's style, and one entry of it with its continuation lines.
_SECTION = re.compile(r"^Attributes:\n((?:(?: .*)?\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"^    (\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)


@cache
def descriptions(declaration: type) -> Mapping[str, str]:
    """Descriptions of fields by name, from the `Attributes:` sections of a class and its bases.

    Empty under `python -OO`, which removes docstrings.
    """
    result: dict[str, str] = {}
    for base in reversed(declaration.__mro__):
        if section := _SECTION.search(cleandoc(vars(base).get("__doc__") or "") + "\n"):
            result |= {name: " ".join(text.split()).removesuffix(".") for name, text in _ENTRY.findall(section[1])}
    return result


def title(declaration: type) -> str:
    """First line of the docstring of a class, without the full stop; empty under `python -OO`."""
    return next(iter((declaration.__doc__ or "").strip().splitlines()), "").removesuffix(".")


@cache
def info(declaration: type) -> inspect.StructType:
    """Schema of a struct."""
    found = inspect.type_info(declaration)
    assert isinstance(found, inspect.StructType)
    return found


def alternatives(node: inspect.Type) -> Iterator[inspect.Type]:
    """Members of a union of types, without their metadata."""
    if isinstance(node, inspect.Metadata):
        yield from alternatives(node.type)
    elif isinstance(node, inspect.UnionType):
        for member in node.types:
            yield from alternatives(member)
    else:
        yield node


def contents(node: inspect.Type) -> Iterator[inspect.Type]:
    """Members of a union of types; of arrays and dictionaries the types of their items."""
    for member in alternatives(node):
        if isinstance(member, inspect.VarTupleType):
            yield from contents(member.item_type)
        elif isinstance(member, inspect.DictType):
            yield from contents(member.value_type)
        else:
            yield member


def protocol_of(node: inspect.Type) -> type | None:
    """Protocol of the users' own components that a field may hold, as in `Meta(extra={"protocol": Rule})`, or None."""
    return (node.extra or {}).get("protocol") if isinstance(node, inspect.Metadata) else None


def own_structs(node: inspect.Type) -> list[inspect.StructType]:
    """Structs of metarule that a field may hold."""
    return [member for member in contents(node) if isinstance(member, inspect.StructType)]


def structs(node: inspect.Type, value: Any = None) -> list[inspect.StructType]:
    """Structs that a field may hold; if a value names the kind of one of them, that one alone.

    Components of users' own modules are among them if these modules may be imported.
    """
    result = own_structs(node)
    if protocol := protocol_of(node):
        forms = map(inspect.type_info, imported_structs(protocol))
        result += [form for form in forms if isinstance(form, inspect.StructType)]
    kind = value.get("kind") if isinstance(value, Mapping) else None
    return [struct for struct in result if struct.tag == kind] or result


def kinds(node: inspect.Type) -> list[str]:
    """Tags of the structs that a field may hold."""
    return [str(struct.tag) for struct in structs(node) if struct.tag is not None]


def options(node: inspect.Type) -> list[Any]:
    """Literal values that a field allows."""
    return [value for member in contents(node) if isinstance(member, inspect.LiteralType) for value in member.values]
