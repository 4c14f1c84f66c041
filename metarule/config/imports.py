"""Components of users' own modules, by import path such as `my_module:MyRule`.

A module is imported only if the command line or the environment names it, because importing runs its code and a config
or a run directory may be a stranger's.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from inspect import signature
from pathlib import Path
from shlex import quote
from types import ModuleType
from typing import Any, get_type_hints

import msgspec
from msgspec import Struct
from msgspec import inspect as schema

from metarule.config.messages import did_you_mean, first_line

__all__ = [
    "VARIABLE",
    "allowed_imports",
    "check_imports",
    "find_class",
    "find_component",
    "import_path",
    "import_words",
    "imported_structs",
    "is_import_path",
    "is_users_own",
    "located",
    "members_of",
    "module_files",
    "modules_of",
    "other_arguments",
    "table_struct",
]

# Environment variable with names of modules that may be imported, separated by commas. Processes that a command starts
# inherit it.
VARIABLE = "METARULE_IMPORT"


_NAMED_ONLY: ContextVar[bool] = ContextVar("named_only", default=False)


@contextmanager
def allowed_imports(modules: Iterable[str]) -> Iterator[None]:
    """Allow modules and their submodules within a `with` block, in subprocesses as well, and no others.

    Elsewhere, as in a program that has imported its own modules, those that are imported already are allowed, too.
    """
    before, token = os.environ.get(VARIABLE), _NAMED_ONLY.set(True)
    if names := list(dict.fromkeys([*_allowed(), *modules])):
        os.environ[VARIABLE] = ",".join(names)
    try:
        yield
    finally:
        _NAMED_ONLY.reset(token)
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def is_import_path(kind: object) -> bool:
    """Tell whether the `kind` of a table is an import path."""
    return isinstance(kind, str) and ":" in kind


def is_users_own(component: type) -> bool:
    """Tell whether a class is not one of metarule."""
    return not component.__module__.startswith("metarule.")


def import_path(component: type) -> str:
    """Import path of a class.

    Raises:
        ValueError: a class to which no import path leads in another process, because a function, a script or a
            notebook defines it.
    """
    if component.__module__ == "__main__":
        raise ValueError(f"{component.__name__} is defined in a script or a notebook; allowed: a class of a module")
    if "<" in component.__qualname__:
        raise ValueError(f"{component.__name__} is defined within a function; allowed: a class of a module")
    return f"{component.__module__}:{component.__qualname__}"


def find_component(path: str, protocol: type) -> type:
    """Find the class of a component, which is frozen.

    Raises:
        ValueError: as of `find_class`, or a class that can change.
    """
    found = find_class(path, protocol)
    if not _is_frozen(found):
        raise ValueError("allowed: a frozen dataclass, or a frozen msgspec.Struct")
    return found


def find_class(path: str, protocol: type) -> type:
    """Find a class by its import path.

    Args:
        path: the path.
        protocol: protocol of its instances.

    Returns:
        The class.

    Raises:
        ValueError: a module that may not be imported or cannot be, or a class that lacks members of the protocol.
    """
    module, _, qualname = path.partition(":")
    found: Any = _import(module)
    for part in qualname.split("."):
        # Not by `getattr`, which may run code of the module.
        if not isinstance(vars(found).get(part), type):
            known = [name for name, one in vars(found).items() if isinstance(one, type) and one.__module__ == module]
            allowed = f"; allowed: {', '.join(known)}" if known else ""
            raise ValueError(f"there is no such class{allowed}{did_you_mean(part, known)}")
        found = vars(found)[part]
    if faults := list(_faults(found, protocol)):
        raise ValueError(f"it {' and '.join(faults)}; a {protocol.__name__} has {', '.join(members_of(protocol))}")
    return found


def imported_structs(protocol: type) -> list[type[Struct]]:
    """Structs of all components of a protocol in the modules that may be imported; those that fail are left out."""
    found: dict[type, type[Struct]] = {}
    for name in _allowed():
        with suppress(ValueError):
            for one in vars(_import(name)).values():
                is_own = isinstance(one, type) and is_users_own(one) and _is_frozen(one)
                with suppress(ValueError):
                    if is_own and not any(_faults(one, protocol)):
                        found[one] = table_struct(one)
    return list(found.values())


def check_imports() -> None:
    """Import all modules that may be imported.

    Raises:
        ValueError: one of them cannot be.
    """
    for name in _allowed():
        _import(name)


def import_words() -> str:
    """Options that allow the same modules on another command line, with a space before each."""
    return "".join(f" --import {quote(name)}" for name in _allowed())


def modules_of(tree: Any) -> list[str]:
    """Modules that import paths in nested tables name."""
    if isinstance(tree, Mapping):
        own = [tree["kind"].partition(":")[0]] if is_import_path(tree.get("kind")) else []
        return own + [name for value in tree.values() for name in modules_of(value)]
    return []


@cache
def table_struct(component: type[Any]) -> type[Struct]:
    """Struct with the fields of a component, to which its table in a config is decoded; the tag is its import path.

    Raises:
        ValueError: a field that no config can hold.
    """
    options: dict[str, Any] = {"tag": import_path(component), "tag_field": "kind"}
    form = msgspec.defstruct(
        component.__name__, _declared(component), kw_only=True, frozen=True, forbid_unknown_fields=True, **options
    )
    form.__doc__ = component.__doc__
    info = schema.type_info(form)
    assert isinstance(info, schema.StructType)
    for field in info.fields:
        if isinstance(field.type, schema.CustomType):
            raise ValueError(f"{component.__name__}.{field.name}: no config can hold a {field.type.cls.__name__}")
    return form


@cache
def members_of(protocol: type) -> tuple[str, ...]:
    """Names of the members of a protocol."""
    bases = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False)]
    names = [name for base in reversed(bases) for name in (*vars(base).get("__annotations__", ()), *vars(base))]
    return tuple(dict.fromkeys(name for name in names if not name.startswith("_")))


def located(error: Exception) -> str:
    """First line of an error of a user's own code, with its type and the place in the code that raised it."""
    files = {str(path) for path in module_files().values()}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {first_line(error)}{place}"


def module_files() -> dict[str, Path]:
    """Files of the modules that are imported already and may be, by name."""
    names = [name for name in list(sys.modules) if any(name == one or name.startswith(f"{one}.") for one in _allowed())]
    files = {name: Path(getattr(sys.modules[name], "__file__", None) or "") for name in sorted(names)}
    return {name: file for name, file in files.items() if file.is_file()}


def _allowed() -> Sequence[str]:
    return [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]


def _import(name: str) -> ModuleType:
    is_allowed = any(name == one or name.startswith(f"{one}.") for one in _allowed())
    if name in sys.modules and (is_allowed or not _NAMED_ONLY.get()):  # its code has run
        return sys.modules[name]
    if not is_allowed:
        raise ValueError(f"importing a module runs its code; if you trust it, add --import {name}, or set {VARIABLE}")
    here = str(Path.cwd())
    if here not in sys.path:  # the console script leaves it out
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ValueError(f"module '{name}' cannot be imported: {type(error).__name__}: {first_line(error)}") from error


def _is_frozen(component: type) -> bool:
    if is_dataclass(component):
        return bool(component.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    return issubclass(component, Struct) and component.__struct_config__.frozen


def _faults(component: type, protocol: type) -> Iterator[str]:
    """Describe members of a protocol that a class lacks, or that take other arguments."""
    names = [name for name, *_ in _declared(component)]
    for member in members_of(protocol):
        if getattr(component, member, None) is None and member not in names:
            yield f"lacks {member}"
        else:
            yield from other_arguments(component, protocol, (member,))


def other_arguments(component: type, protocol: type, members: Iterable[str]) -> Iterator[str]:
    """Describe those members of a class that take other arguments than a protocol says."""
    for member in members:
        own, needed = getattr(component, member, None), getattr(protocol, member, None)
        if callable(own) and callable(needed) and not _binds(own, list(signature(needed).parameters)):
            takes, needs = (", ".join(list(signature(one).parameters)[1:]) for one in (own, needed))
            yield f"has {member}({takes}) in place of {member}({needs})"


def _binds(function: Callable[..., Any], arguments: Sequence[str]) -> bool:
    """True if a function of a class takes some arguments by position, the first of them the object."""
    try:
        signature(function).bind(*arguments)
    except TypeError:
        return False
    return True


def _declared(component: type) -> list[tuple[Any, ...]]:
    """Name, type and, if there is one, default of each field that the constructor takes."""
    is_data = is_dataclass(component)
    if not is_data and not issubclass(component, Struct):
        return []
    try:
        hints = get_type_hints(component, include_extras=True)
    except Exception as error:  # names that only a type checker knows, for example
        raise ValueError(f"the types of {component.__name__} are unknown: {located(error)}") from error
    found: Any = [one for one in fields(component) if one.init] if is_data else msgspec.structs.fields(component)
    declared: list[tuple[Any, ...]] = []
    for one in found:
        default: tuple[Any, ...] = ()
        if one.default is not MISSING and one.default is not msgspec.NODEFAULT:
            default = (one.default,)
        elif one.default_factory is not MISSING and one.default_factory is not msgspec.NODEFAULT:
            default = (msgspec.field(default_factory=one.default_factory),)
        declared.append((one.name, hints[one.name], *default))
    return declared
