"""Declaration of a sweep: a grid over fields of a config, and seeds."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from immutabledict import immutabledict
from msgspec import Meta, Struct
from msgspec.structs import replace

from metarule.config.schema import Checked
from metarule.config.shipped import find_config
from metarule.config.toml import ConfigError, Tree, beside, decode, read
from metarule.runs.experiment import read_tree

__all__ = ["Case", "Sweep", "check_sweep", "paths_beside", "read_sweep", "resolve_paths", "shorten"]

# Fields that a sweep sets itself, and by what.
_OWN = {"seed": "seeds of the sweep", "seeds": "seeds of the sweep", "run.directory": "--directory"}
# Fields that nothing depends on that a sweep measures: curves along lifetimes and the monitoring of meta-training.
_UNUSED = ("evaluation.points", "evaluation.monitor_every")
# Fields that only the time of a cell depends on.
_PACE = ("run.steps_per_call", "run.checkpoint_every")
# Fields that are paths.
_PATHS = ("tasks.data",)
# Fields that the small form of a sweep sets.
_SMALL = {"optimizer.steps": 10, "evaluation.lifetimes": 64}

_Seed = Annotated[int, Meta(ge=0, lt=2**31)]


class Case(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields that are set together, under a name; a case may set another kind of component.

    Attributes:
        name: name in tables and figures.
        set: value by dotted field, in quotes.
        product: values by dotted field, for this case only; every combination is run.
    """

    name: Annotated[str, Meta(min_length=1)]
    set: Mapping[str, Any] = immutabledict()
    product: Mapping[str, tuple[Any, ...]] = immutabledict()


class Sweep(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grid over fields of a config, and seeds: cases × zip × product × seeds.

    Attributes:
        config: base config: path, relative to the sweep file, or name of a shipped config.
        seeds: seeds, or how many from that of the config on.
        set: value by dotted field, in quotes, for the whole sweep.
        product: values by dotted field; every combination is run.
        zip: values by dotted field, equally many; they change together.
        cases: fields that are set together, under a name.
        cell: most points of one compiled program; with 1, θ of a point is that of `metarule train`, bit for bit.
        curve: number of scores during meta-training, at meta-steps on a logarithmic scale up to the last.
        reference: label of the setting that the others are compared with; empty for the first.
        score: metric of tables and figures; empty for that of the tasks.
    """

    config: str
    seeds: Annotated[int, Meta(ge=1, le=10_000)] | tuple[_Seed, ...] = 1
    set: Mapping[str, Any] = immutabledict()
    product: Mapping[str, tuple[Any, ...]] = immutabledict()
    zip: Mapping[str, tuple[Any, ...]] = immutabledict()
    cases: tuple[Case, ...] = ()
    cell: Annotated[int, Meta(ge=1, le=100_000)] = 64
    curve: Annotated[int, Meta(ge=0, le=1000)] = 0
    reference: str = ""
    score: str = ""


class _Study(Struct):
    """A study file, as far as its sweep; `benchmarks.study` reads the rest."""

    sweep: Sweep


def read_sweep(file: Path) -> tuple[Sweep, Tree]:
    """Read a sweep file, or the sweep of a study file, and the base config as nested tables.

    Raises:
        ConfigError: naming the file, the field, the value and what is allowed.
    """
    _, tree = read(file)
    try:
        sweep = decode(tree, Sweep) if "config" in tree or "sweep" not in tree else decode(tree, _Study).sweep
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    return resolve_paths(sweep, file), read_tree(find_config(sweep.config, file.parent))[1]


def resolve_paths(sweep: Sweep, file: Path) -> Sweep:
    """Make the paths in all fields of a sweep absolute; they are relative to the file of the sweep."""
    cases = tuple(
        replace(case, set=paths_beside(file, case.set), product=paths_beside(file, case.product))
        for case in sweep.cases
    )
    axes = {name: paths_beside(file, getattr(sweep, name)) for name in ("set", "product", "zip")}
    return replace(sweep, cases=cases, **axes)


def paths_beside(file: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Make the paths among some fields, or among the values of axes, absolute."""

    def absolute(value: Any) -> Any:
        return tuple(map(absolute, value)) if isinstance(value, tuple | list) else beside(file, value)

    return {field: absolute(value) if field in _PATHS else value for field, value in fields.items()}


def shorten(sweep: Sweep) -> tuple[Sweep, list[tuple[str, Any]]]:
    """Shorten a sweep to two seeds, two cases and two values an axis, few meta-steps and lifetimes.

    Axes of a case keep their first value. Fields that are set last are no axes.

    Returns:
        (shorter sweep, fields that are set last).
    """

    def short(axes: Mapping[str, tuple[Any, ...]], most: int = 2) -> dict[str, tuple[Any, ...]]:
        return {field: values[:most] for field, values in axes.items() if field not in _SMALL}

    seeds = min(sweep.seeds, 2) if isinstance(sweep.seeds, int) else sweep.seeds[:2]
    cases = tuple(replace(case, product=short(case.product, 1)) for case in sweep.cases[:2])
    axes = {"product": short(sweep.product), "zip": short(sweep.zip), "cases": cases}
    return replace(sweep, seeds=seeds, reference="", **axes), list(_SMALL.items())


def check_sweep(sweep: Sweep) -> None:
    """Check the axes of a declaration.

    Raises:
        ConfigError: an empty axis, two axes on one field, or axes of unequal length that change together.
    """
    # Name of a group of fields, name of its case, whether its fields are axes, and the fields.
    groups: list[tuple[str, str | None, bool, Mapping[str, Any]]] = [
        ("set", None, False, sweep.set),
        *((f"cases.{case.name}", case.name, False, case.set) for case in sweep.cases),
        *((f"cases.{case.name}.product", case.name, True, case.product) for case in sweep.cases),
        ("zip", None, True, sweep.zip),
        ("product", None, True, sweep.product),
    ]
    earlier: list[tuple[str, str | None, bool, str]] = []
    for group, case, is_axis, fields in groups:
        for field, value in fields.items():
            _check_field(group, is_axis, field, value)
            for other_group, other_case, other_is_axis, other in earlier:
                # A point has one case, so that each may set a field; an axis may be a field of a table that is set.
                is_shared = case is None or other_case is None or case == other_case
                overwrites = f"{other}.".startswith(f"{field}.") or (other_is_axis and field.startswith(f"{other}."))
                if is_shared and overwrites:
                    raise ConfigError(f"{group}.{field}: two axes on one field; {other_group}.{other} sets it, too")
            earlier.append((group, case, is_axis, field))
    lengths = {field: len(values) for field, values in sweep.zip.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"zip: axes that change together need equally many values; here {lengths}")
    for name, count in Counter(case.name for case in sweep.cases).items():
        if count > 1:
            raise ConfigError(f"cases: {count} have the name '{name}'")


def _check_field(group: str, is_axis: bool, field: str, value: Any) -> None:
    if field in _OWN:
        raise ConfigError(f"{group}.{field}: a sweep sets this by {_OWN[field]}")
    if field in _UNUSED or (field in _PACE and group != "set"):
        raise ConfigError(f"{group}.{field}: nothing that a sweep measures depends on it")
    if isinstance(value, Mapping) and "." not in field:
        raise ConfigError(f'{group}.{field}: a whole table; name its fields in quotes, as "{field}.FIELD"')
    if is_axis and not value:
        raise ConfigError(f"{group}.{field} = []: an axis needs at least one value")
