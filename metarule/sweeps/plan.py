"""Plan of a sweep: settings, points and cells.

A *setting* is one value for each axis, a *point* a setting with a seed. Points that one compiled program can run make a
*cell*.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import product
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np
from immutabledict import immutabledict
from msgspec.structs import replace

from metarule.config.toml import ConfigError, Tree
from metarule.meta.phases import lifetimes_of, list_phases, total_steps
from metarule.protocols import Learner
from metarule.runs.experiment import Experiment, decode_experiment, set_fields, to_tree
from metarule.sweeps.declaration import Case, Sweep, check_sweep
from metarule.tasks.base import primary_metric

__all__ = ["CASE", "Cell", "Plan", "Point", "Setting", "make_plan", "with_values"]

# Numbers that may be data of a program, so that runs which differ in them share it. Others are compiled separately.
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
# Whole numbers that may be data, too; float32 has all of them up to the largest.
_WHOLE, _LARGEST = ("optimizer.train_tasks",), 2**24
CASE = "case"


class Setting(NamedTuple):
    """One value for each axis.

    Attributes:
        label: for tables and figures.
        values: value by dotted field, the name of the case under `case`.
        experiment: the base config with these values.
    """

    label: str
    values: dict[str, Any]
    experiment: Experiment


class Point(NamedTuple):
    """The number of a setting, and a seed."""

    setting: int
    seed: int


class Cell(NamedTuple):
    """Points that one compiled program runs.

    Attributes:
        name: of its directory.
        experiment: common to the points.
        fields: dotted fields that are data.
        points: the points.
        values: of the data fields, one tuple a point.
        curve: number of scores during meta-training.
        labels: of the setting of each point, for the names of its members; empty for none.
    """

    name: str
    experiment: Experiment
    fields: tuple[str, ...]
    points: tuple[Point, ...]
    values: tuple[tuple[float, ...], ...]
    curve: int = 0
    labels: tuple[str, ...] = ()

    @property
    def marks(self) -> tuple[int, ...]:
        """Meta-steps after which a point is evaluated."""
        steps = total_steps(self.experiment.optimizer)
        spread = np.geomspace(1, steps, self.curve) if self.curve > 1 else ()
        return tuple(np.unique(np.rint(spread).astype(int)).tolist()) or (steps,) * self.curve

    @property
    def work(self) -> int:
        """Steps of lifetimes that are differentiated."""
        plan = list_phases(self.experiment.optimizer, self.experiment.lifetime)
        starts = (0, *(phase.end for phase in plan))
        steps = sum((one.end - start) * self.steps_of(one.learner) for start, one in zip(starts, plan))
        return len(self.points) * steps

    def steps_of(self, learner: Learner) -> int:
        """Steps of all lifetimes of a meta-step of one point."""
        optimizer = self.experiment.optimizer
        return lifetimes_of(optimizer) // total_steps(optimizer) * learner.steps


class Plan(NamedTuple):
    """Plan of a sweep.

    Attributes:
        settings: the grid without its seeds.
        cells: in the order in which they are run.
        axes: fields in which the settings differ.
        reference: number of the setting that the others are compared with.
        score: metric of tables and figures.
    """

    settings: tuple[Setting, ...]
    cells: tuple[Cell, ...]
    axes: tuple[str, ...]
    reference: int
    score: str

    def tree(self) -> dict[str, Any]:
        """Plan as plain JSON, which is equal for equal plans and sufficient for a report."""
        return {
            "axes": list(self.axes),
            "names": _short_names([axis for axis in self.axes if axis != CASE]),
            "score": self.score,
            "reference": self.reference,
            "curve": self.cells[0].curve,
            "settings": [one._asdict() | {"experiment": to_tree(one.experiment)} for one in self.settings],
            "cells": [{"name": cell.name, "points": [list(point) for point in cell.points]} for cell in self.cells],
        }


def make_plan(sweep: Sweep, base: Tree, last: Sequence[tuple[str, Any]] = ()) -> Plan:
    """Plan a sweep; every setting is decoded, so that bad input is refused before anything runs.

    Args:
        sweep: the declaration.
        base: nested tables of the base config.
        last: fields that are set after all others.

    Raises:
        ConfigError: as of `check_sweep`, or settings that do not decode, are repeated or have different scores.
    """
    check_sweep(sweep)
    settings = tuple(_settings(sweep, base, last))
    seeds = _seeds(sweep, settings[0].experiment)
    axes = tuple(dict.fromkeys(name for setting in settings for name in setting.values))
    labels = [setting.label for setting in settings]
    for label, count in Counter(labels).items():
        if count > 1:
            raise ConfigError(f"{label}: this setting would be run {count} times")
    scores = {primary_metric(setting.experiment.tasks) for setting in settings}
    if len(scores) > 1 and not sweep.score:
        message = "these settings have different scores; set score to a metric that all of them have"
        raise ConfigError(f"tasks.kind: {message}")
    if sweep.reference and sweep.reference not in labels:
        raise ConfigError(f"reference = '{sweep.reference}': there is no such setting; allowed: {'; '.join(labels)}")
    reference = labels.index(sweep.reference) if sweep.reference else 0
    score = sweep.score or scores.pop()
    return Plan(settings, tuple(_cells(sweep, settings, seeds)), axes, reference, score)


def with_values(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """Replace the values of some dotted fields of an experiment; those of data may be traced, as floats."""
    for field, value in values.items():
        is_whole = field in _WHOLE and isinstance(value, jax.Array)
        experiment = _put(experiment, field.split("."), value.astype(int) if is_whole else value)
    return experiment


def _settings(sweep: Sweep, base: Tree, last: Sequence[tuple[str, Any]]) -> Iterator[Setting]:
    cases: list[Case | None] = list(sweep.cases) or [None]
    zipped = [dict(zip(sweep.zip, row, strict=True)) for row in zip(*sweep.zip.values(), strict=True)] or [{}]
    of_cases = [field for case in sweep.cases for field in case.product]
    names = _short_names(list(dict.fromkeys([*sweep.zip, *sweep.product, *of_cases])))
    grids = [(case, _grid({**sweep.product, **(case.product if case else {})})) for case in cases]
    for case, fields in ((case, one | other) for case, grid in grids for one, other in product(zipped, grid)):
        label = ", ".join(f"{names[field]} = {_shown(value)}" for field, value in fields.items())
        label = ", ".join(filter(None, (case.name if case else "", label)))
        # In one call: a new kind clears its table, and is set before the other fields.
        pairs = [*sweep.set.items(), *(case.set.items() if case else ()), *fields.items(), *last]
        try:
            experiment = decode_experiment(set_fields(base, pairs))
        except ConfigError as error:
            raise ConfigError(f"{label}: {error}" if label else str(error)) from error
        if experiment.is_validated:
            reason = "a sweep takes all meta-steps and reports the last θ; allowed: 0, last"
            raise ConfigError(f"{label or 'base config'}: optimizer.patience, evaluation.theta: {reason}")
        yield Setting(label or "base config", ({CASE: case.name} if case else {}) | fields, experiment)


def _grid(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """List every combination of the values of some fields."""
    return [dict(zip(axes, row, strict=True)) for row in product(*axes.values())]


def _short_names(fields: Sequence[str]) -> dict[str, str]:
    """Shorten names of fields where they stay distinct."""
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
        raise ConfigError(f"seeds = {list(sweep.seeds)}: one of them is repeated")
    return sweep.seeds


def _cells(sweep: Sweep, settings: Sequence[Setting], seeds: Sequence[int]) -> Iterator[Cell]:
    """Group points by their common experiment, in cells of about equal size."""
    of_cases = [field for case in sweep.cases for field in (*case.set, *case.product)]
    axes = dict.fromkeys([*sweep.product, *sweep.zip, *of_cases]) if sweep.cell > 1 else ()
    groups: dict[tuple[Experiment, tuple[str, ...]], list[tuple[Point, tuple[float, ...]]]] = {}
    stand_ins: dict[str, float] = {}
    for number, setting in enumerate(settings):
        fields = tuple(field for field in axes if _is_data(setting.experiment, field))
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
            digest = hashlib.sha256(msgspec.json.encode([to_tree(common), points, values])).hexdigest()
            labels = tuple(settings[point.setting].label for point in points)
            yield Cell(f"{number:03d}-{digest[:8]}", common, fields, points, values, sweep.curve, labels)
            number += 1


def _is_data(experiment: Experiment, field: str) -> bool:
    """True if one program can serve all values of a field: a number on which no traced code branches."""
    value = _get(experiment, field)
    is_whole = field in _WHOLE and isinstance(value, int) and value <= _LARGEST
    is_fraction = any(fnmatchcase(field, pattern) for pattern in _DATA) and isinstance(value, float)
    if not is_whole and not is_fraction:
        return False

    def traced(value: jax.Array) -> jax.Array:
        with_values(experiment, {field: value})
        return value

    try:
        # Building an optimiser checks it, and some of Optax branch on the value of an argument.
        jax.eval_shape(traced, jax.ShapeDtypeStruct((), "float32"))
    except (TypeError, ValueError):
        return False
    return True


def _get(tree: Any, field: str) -> Any:
    """Value of a dotted field; None where it does not exist."""
    for key in field.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else getattr(tree, key, None)
    return tree


def _put(tree: Any, keys: Sequence[str], value: Any) -> Any:
    if not keys:
        return value
    if isinstance(tree, Mapping):
        return immutabledict({**tree, keys[0]: _put(tree[keys[0]], keys[1:], value)})
    return replace(tree, **{keys[0]: _put(getattr(tree, keys[0]), keys[1:], value)})
