"""A sweep as it is declared, and the plan that it stands for: settings, points and cells.

A *setting* is one value for each axis, a *point* a setting with a seed. Points that one compiled program can run side
by side make a *cell*.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import msgspec
import numpy as np
from immutabledict import immutabledict
from msgspec import Meta, Struct
from msgspec.structs import replace

from metarule.config.toml import ConfigError, Tree, decode, override, read
from metarule.meta.phases import lifetimes_of, phases, total_steps
from metarule.runs.experiment import Experiment, read_tree, to_tree
from metarule.tasks.base import primary_metric
from metarule.types import Learner

__all__ = ["Case", "Cell", "Plan", "Point", "Setting", "Sweep", "hasten", "make_plan", "read_sweep", "with_values"]

# Numbers that may be data of one program, so that runs which differ in them are run side by side. All else that
# differs is compiled for itself.
_DATA = (
    "optimizer.learning_rate",
    "optimizer.learning_rate.arguments.*",
    "optimizer.arguments.*",
    "optimizer.clip",
    "optimizer.lifetime_clip",
    "optimizer.spread",
    "optimizer.shrink",
    "optimizer.crossover",
    "optimizer.temperature",
    "optimizer.cooling",
    "inner_loop.online_loss_weight",
    "inner_loop.weight_bound",
    "rule.hebbian_scale",
    "rule.initial_spread",
)
# What a sweep decides itself.
_OWN = {"seed": "seeds of the sweep", "seeds": "seeds of the sweep", "run.directory": "--directory"}
# What changes nothing that a sweep measures: along a lifetime nothing is looked at, and neither is it while θ is learned.
_UNSEEN = ("evaluation.points", "evaluation.monitor_every")
# What changes nothing but the time that a cell takes.
_PACE = ("run.steps_per_call", "run.checkpoint_every")
# Fields that a small form of a sweep sets.
_SMALL = {"optimizer.steps": 10, "evaluation.lifetimes": 64}
_CASE = "case"


class Case(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some fields that are set together, under a name; a case may name another kind of component.

    Attributes:
        name: in tables and figures.
        set: value by dotted field.
        product: values by field, for this case alone; every combination is run.
    """

    name: Annotated[str, Meta(min_length=1, description="in tables and figures")]
    set: Annotated[Mapping[str, Any], Meta(description="value by dotted field, in quotes")] = immutabledict()
    product: Annotated[
        Mapping[str, tuple[Any, ...]], Meta(description="values by dotted field, for this case alone")
    ] = immutabledict()


class Sweep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grid over fields of a config, and seeds: cases × zip × product × seeds.

    Attributes:
        config: base config; the path starts at the sweep file.
        seeds: seeds, or how many from that of the config on.
        set: fields that the whole sweep changes.
        product: values by field; every combination is run.
        zip: values by field, all as many; they change together.
        cases: fields that are set together, under a name.
        cell: most points that are run side by side. With 1 each has a program of its own, and its θ is that of
            `metarule.train`, bit for bit.
        curve: how often along meta-training the learned rule is scored, at meta-steps evenly spread on a logarithmic
            scale, the last included; the lifetimes are those that it is scored on at the end.
        reference: label of the setting that the others are compared with; empty for the first.
        score: metric of tables and figures; empty for the one that people quote of these tasks.
    """

    config: Annotated[str, Meta(description="base config; the path starts at the sweep file")]
    seeds: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | tuple[Annotated[int, Meta(ge=0, lt=2**31)], ...],
        Meta(description="seeds, or how many from that of the config on"),
    ] = 1
    set: Annotated[Mapping[str, Any], Meta(description="value by dotted field, for the whole sweep")] = immutabledict()
    product: Annotated[
        Mapping[str, tuple[Any, ...]], Meta(description="values by dotted field; every combination is run")
    ] = immutabledict()
    zip: Annotated[Mapping[str, tuple[Any, ...]], Meta(description="values by dotted field, which change together")] = (
        immutabledict()
    )
    cases: Annotated[tuple[Case, ...], Meta(description="fields that are set together, under a name")] = ()
    cell: Annotated[
        int, Meta(ge=1, le=100_000, description="most points run side by side; 1 for the theta of a run alone")
    ] = 64
    curve: Annotated[
        int, Meta(ge=0, le=1000, description="scores along meta-training, on a logarithmic scale of meta-steps")
    ] = 0
    reference: Annotated[str, Meta(description="label of the setting to compare with; default the first")] = ""
    score: Annotated[str, Meta(description="metric of tables and figures; default that of the tasks")] = ""


class Setting(NamedTuple):
    """One value for each axis.

    Attributes:
        label: for tables and figures.
        values: value by dotted field, the name of the case under `case`.
        experiment: what they make of the base config.
    """

    label: str
    values: dict[str, Any]
    experiment: Experiment


class Point(NamedTuple):
    """A setting with a seed.

    Attributes:
        setting: its number.
        seed: decides every random number.
    """

    setting: int
    seed: int


class Cell(NamedTuple):
    """Points that one compiled program runs side by side.

    Attributes:
        name: of its directory.
        experiment: what they have in common.
        fields: dotted fields that are data.
        points: the points.
        values: of the data fields, one tuple a point.
        curve: how often along meta-training a point is scored.
    """

    name: str
    experiment: Experiment
    fields: tuple[str, ...]
    points: tuple[Point, ...]
    values: tuple[tuple[float, ...], ...]
    curve: int = 0

    @property
    def marks(self) -> tuple[int, ...]:
        """Meta-steps after which a point is evaluated."""
        steps = total_steps(self.experiment.optimizer)
        spread = np.geomspace(1, steps, self.curve) if self.curve > 1 else ()
        return tuple(np.unique(np.rint(spread).astype(int)).tolist()) or (steps,) * self.curve

    @property
    def work(self) -> int:
        """Steps of lifetimes that are differentiated."""
        start, steps = 0, 0
        for phase in phases(self.experiment.optimizer, self.experiment.lifetime):
            steps += (phase.end - start) * self.steps_of(phase.learner)
            start = phase.end
        return len(self.points) * steps

    def steps_of(self, learner: Learner) -> int:
        """Steps of all lifetimes of a meta-step of one point."""
        optimizer = self.experiment.optimizer
        return lifetimes_of(optimizer) // total_steps(optimizer) * learner.steps


class Plan(NamedTuple):
    """What a sweep will run.

    Attributes:
        settings: the grid without its seeds.
        cells: what is run, part by part.
        axes: what the settings differ in.
        reference: number of the setting that the others are compared with.
        score: metric of tables and figures.
    """

    settings: tuple[Setting, ...]
    cells: tuple[Cell, ...]
    axes: tuple[str, ...]
    reference: int
    score: str

    def tree(self) -> dict[str, Any]:
        """The plan as plain JSON: equal plans have equal trees, and a report needs nothing else."""
        return {
            "axes": list(self.axes),
            "names": _short_names([axis for axis in self.axes if axis != _CASE]),
            "score": self.score,
            "reference": self.reference,
            "curve": self.cells[0].curve,
            "settings": [
                {"label": one.label, "values": one.values, "experiment": to_tree(one.experiment)}
                for one in self.settings
            ],
            "cells": [{"name": cell.name, "points": [list(point) for point in cell.points]} for cell in self.cells],
        }


def read_sweep(file: Path) -> tuple[Sweep, Tree]:
    """Read a sweep file and the config that it starts from.

    Args:
        file: the sweep file.

    Returns:
        (the sweep, nested tables of its config).

    Raises:
        ConfigError: naming the file, the field, the value and what is allowed.
    """
    _, tree = read(file)
    try:
        sweep = decode(tree, Sweep)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    return sweep, read_tree(file.parent / sweep.config)[1]


def hasten(sweep: Sweep) -> tuple[Sweep, list[tuple[str, Any]]]:
    """A small form of a sweep: two seeds, two cases and two values an axis, few meta-steps and lifetimes.

    Axes of a case have their first value alone. What it sets itself is no axis in it.

    Args:
        sweep: the whole.

    Returns:
        (a smaller sweep, fields that are set last).
    """

    def short(axes: Mapping[str, tuple[Any, ...]], most: int = 2) -> dict[str, tuple[Any, ...]]:
        return {field: values[:most] for field, values in axes.items() if field not in _SMALL}

    seeds = min(sweep.seeds, 2) if isinstance(sweep.seeds, int) else sweep.seeds[:2]
    small = replace(sweep, seeds=seeds, product=short(sweep.product), zip=short(sweep.zip))
    cases = tuple(replace(case, product=short(case.product, 1)) for case in sweep.cases[:2])
    small = replace(small, cases=cases, reference="")
    return small, list(_SMALL.items())


def make_plan(sweep: Sweep, base: Tree, last: Sequence[tuple[str, Any]] = ()) -> Plan:
    """Lay out a sweep; every setting is decoded, so that bad input is refused before anything runs.

    Args:
        sweep: the declaration.
        base: nested tables of the base config.
        last: fields that are set after all others.

    Returns:
        The plan.

    Raises:
        ConfigError: an empty axis, two axes on one field, axes of unequal length that change together, or a setting
            that does not decode.
    """
    _check(sweep)
    settings = tuple(_settings(sweep, base, last))
    seeds = _seeds(sweep, settings[0].experiment)
    axes = tuple(dict.fromkeys(name for setting in settings for name in setting.values))
    labels = [setting.label for setting in settings]
    for label, count in Counter(labels).items():
        if count > 1:
            raise ConfigError(f"{label}: this setting would be run {count} times")
    scores = {primary_metric(setting.experiment.tasks) for setting in settings}
    if len(scores) > 1 and not sweep.score:
        raise ConfigError(
            "tasks.kind: these settings have different scores, which cannot stand in one table; name a metric that all "
            "of them have as the sweep's score"
        )
    if sweep.reference and sweep.reference not in labels:
        raise ConfigError(f"reference = '{sweep.reference}': there is no such setting; allowed: {'; '.join(labels)}")
    reference = labels.index(sweep.reference) if sweep.reference else 0
    score = sweep.score or scores.pop()
    return Plan(settings, tuple(_cells(sweep, settings, seeds)), axes, reference, score)


def with_values(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """An experiment with other values of some dotted fields; they may be traced."""
    for field, value in values.items():
        experiment = _put(experiment, field.split("."), value)
    return experiment


def _check(sweep: Sweep) -> None:
    cases = {f"cases.{case.name}": case.set for case in sweep.cases}
    cases |= {f"cases.{case.name}.product": case.product for case in sweep.cases}
    groups: dict[str, Mapping[str, Any]] = {"set": sweep.set, **cases, "zip": sweep.zip, "product": sweep.product}
    taken: list[tuple[str, str]] = []
    for where, fields in groups.items():
        for field, value in fields.items():
            _check_field(where, field, value)
            # Cases are not in force together, so that each of them may set a field.
            others = [one for one in taken if not (where in cases and one[0] in cases and not _of_one(where, one[0]))]
            for place, other in others:
                if _collide(field, other, _is_axis(place)):
                    raise ConfigError(f"{where}.{field}: two axes on one field; {place}.{other} sets it, too")
            taken.append((where, field))
    lengths = {field: len(values) for field, values in sweep.zip.items()}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"zip: axes that change together have as many values; here {lengths}")
    for name, count in Counter(case.name for case in sweep.cases).items():
        if count > 1:
            raise ConfigError(f"cases: {count} have the name '{name}'")


def _check_field(where: str, field: str, value: Any) -> None:
    if field in _OWN:
        raise ConfigError(f"{where}.{field}: a sweep sets this by {_OWN[field]}")
    if field in _UNSEEN or (field in _PACE and where != "set"):
        raise ConfigError(f"{where}.{field}: nothing that a sweep measures depends on it")
    if isinstance(value, Mapping) and "." not in field:
        raise ConfigError(f'{where}.{field}: a whole table; name its fields in quotes, as "{field}.FIELD"')
    if _is_axis(where) and not value:
        raise ConfigError(f"{where}.{field} = []: an axis needs at least one value")


def _is_axis(where: str) -> bool:
    return where in ("zip", "product") or (where.startswith("cases.") and where.endswith(".product"))


def _of_one(where: str, other: str) -> bool:
    """Whether two places are of one case."""
    return where.removesuffix(".product") == other.removesuffix(".product")


def _collide(field: str, other: str, is_axis: bool) -> bool:
    """Whether a field undoes one that was set before; an axis may lie within a table that is set as a whole."""
    return f"{other}.".startswith(f"{field}.") or (is_axis and field.startswith(f"{other}."))


def _settings(sweep: Sweep, base: Tree, last: Sequence[tuple[str, Any]]) -> Iterator[Setting]:
    cases: list[Case | None] = list(sweep.cases) or [None]
    together = [dict(zip(sweep.zip, row, strict=True)) for row in zip(*sweep.zip.values(), strict=True)] or [{}]
    of_cases = [field for case in sweep.cases for field in case.product]
    names = _short_names(list(dict.fromkeys([*sweep.zip, *sweep.product, *of_cases])))
    grids = [(case, _grid({**sweep.product, **(case.product if case else {})})) for case in cases]
    for case, zipped, crossed in ((case, *both) for case, grid in grids for both in product(together, grid)):
        fields = zipped | crossed
        label = ", ".join(f"{names[field]} = {_shown(value)}" for field, value in fields.items())
        if case is not None:
            label = f"{case.name}, {label}" if label else case.name
        # All at once, for a new kind clears its table, and is therefore set before the other fields.
        pairs = [*sweep.set.items(), *(case.set.items() if case else ()), *fields.items(), *last]
        try:
            experiment = decode(override(base, pairs), Experiment)
        except ConfigError as error:
            raise ConfigError(f"{label}: {error}" if label else str(error)) from error
        yield Setting(label or "base config", ({_CASE: case.name} if case else {}) | fields, experiment)


def _grid(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values of some fields."""
    return [dict(zip(axes, row, strict=True)) for row in product(*axes.values())]


def _short_names(fields: Sequence[str]) -> dict[str, str]:
    """Names of fields without what goes without saying, where they stay apart."""
    short = {field: ".".join(part for part in field.split(".")[1:] if part != "arguments") for field in fields}
    counts = Counter(short.values())
    return {field: name if name and counts[name] == 1 else field for field, name in short.items()}


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _seeds(sweep: Sweep, first: Experiment) -> tuple[int, ...]:
    if isinstance(sweep.seeds, int):
        if first.seed + sweep.seeds > 2**31:
            raise ConfigError(f"seeds = {sweep.seeds}: the last seed would be beyond {2**31 - 1}")
        return tuple(range(first.seed, first.seed + sweep.seeds))
    if not sweep.seeds:
        raise ConfigError("seeds = []: an axis needs at least one value")
    if len(set(sweep.seeds)) < len(sweep.seeds):
        raise ConfigError(f"seeds = {list(sweep.seeds)}: one of them is there twice")
    return sweep.seeds


def _cells(sweep: Sweep, settings: Sequence[Setting], seeds: Sequence[int]) -> Iterator[Cell]:
    """Points by what they have in common, in cells of about equal size."""
    axes = [*sweep.product, *sweep.zip, *(field for case in sweep.cases for field in (*case.set, *case.product))]
    groups: dict[tuple[Experiment, tuple[str, ...]], list[tuple[Point, tuple[float, ...]]]] = {}
    stand_ins: dict[str, float] = {}
    for number, setting in enumerate(settings):
        data = dict.fromkeys(axes) if sweep.cell > 1 else ()
        fields = tuple(field for field in data if _is_data(setting.experiment, field))
        values = tuple(_get(setting.experiment, field) for field in fields)
        for field, value in zip(fields, values, strict=True):
            stand_ins.setdefault(field, value)
        common = with_values(setting.experiment, {field: stand_ins[field] for field in fields})
        common = replace(common, seed=0, seeds=1, run=replace(common.run, directory=""))
        groups.setdefault((common, fields), []).extend((Point(number, seed), values) for seed in seeds)
    number = 0
    for (common, fields), members in groups.items():
        count = -(-len(members) // sweep.cell)
        for part in range(count):
            points, values = zip(*members[part * len(members) // count : (part + 1) * len(members) // count])
            yield Cell(_name(number, common, points, values), common, fields, points, values, sweep.curve)
            number += 1


def _name(number: int, common: Experiment, points: Any, values: Any) -> str:
    text = msgspec.json.encode([to_tree(common), points, values])
    return f"{number:03d}-{hashlib.sha256(text).hexdigest()[:8]}"


def _is_data(experiment: Experiment, field: str) -> bool:
    """Whether one program can serve all values of a field: a number that no code asks about while it is traced."""
    if not any(fnmatchcase(field, pattern) for pattern in _DATA):
        return False
    if not isinstance(_get(experiment, field), float):
        return False

    def traced(value: jax.Array) -> jax.Array:
        with_values(experiment, {field: value})
        return value

    try:
        # Optimisers and schedules are tried out when they are built: some of Optax ask for the value of an argument.
        jax.eval_shape(traced, jax.ShapeDtypeStruct((), "float32"))
    except (TypeError, ValueError):
        return False
    return True


def _get(tree: Any, field: str) -> Any:
    """Value of a dotted field; None where there is none."""
    for key in field.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else getattr(tree, key, None)
    return tree


def _put(tree: Any, keys: Sequence[str], value: Any) -> Any:
    if not keys:
        return value
    if isinstance(tree, Mapping):
        return immutabledict({**tree, keys[0]: _put(tree[keys[0]], keys[1:], value)})
    return replace(tree, **{keys[0]: _put(getattr(tree, keys[0]), keys[1:], value)})
