"""Listing of the runs below a directory, from their files alone: experiments are not decoded, and θ is not read."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from metarule.config.messages import first_line
from metarule.config.toml import ConfigError, read
from metarule.runs.directory import EXTENDED, PARTIAL, RESOLVED, SEARCH
from metarule.runs.environment import ENVIRONMENT
from metarule.runs.experiment import FORMAT
from metarule.runs.files import convert
from metarule.runs.folders import Folder, open_folder
from metarule.runs.locks import LOCK, is_held
from metarule.runs.metrics import METRICS, last_metrics
from metarule.runs.sweep_files import CELL_LOCK, CELLS, DONE, FAILED, PLAN, SWEEP_FILE
from metarule.runs.theta_files import THETA

__all__ = ["Row", "list_runs"]

# Directories between the top and a run, at most.
_DEPTH = 4
# Characters of the reason why a run is damaged.
_REASON = 60
# Commands whose next word is a config, and names by the time, which lie in a directory named by the config.
_TRAINING, _TIMED = ("train", "infer", "evolve"), re.compile(r"\d{4}-\d\d-\d\dT\d\d-")


class Row(NamedTuple):
    """A run, the runs of several seeds, a structure search, a sweep, or a member of one.

    Attributes:
        name: path below the top.
        kind: `run`, `seeds`, `search`, `sweep` or `member`.
        config: name of the config, without its ending; None if unknown, as all fields that follow.
        rule: kind of the rule.
        circuit: kind of the circuit.
        tasks: kind of the tasks.
        seed: the first seed.
        seeds: number of seeds.
        done: units that are done.
        total: units of all.
        unit: `steps`, `generations` or `cells`.
        metric: primary metric.
        score: its mean on held-out tasks, that of the best structure for a search; None before the end.
        state: `done`, `running`, `stopped`, `diverged`, `failed` (cells of a sweep), `other format` or `damaged: …`.
        changed: time of the last change, in UTC.
    """

    name: str
    kind: str = "run"
    config: str | None = None
    rule: str | None = None
    circuit: str | None = None
    tasks: str | None = None
    seed: int | None = None
    seeds: int | None = None
    done: int | None = None
    total: int | None = None
    unit: str = "steps"
    metric: str | None = None
    score: float | None = None
    state: str = ""
    changed: str = ""


def list_runs(top: Path, parts: bool = False) -> list[Row]:
    """List runs, in the order of their last change. Links to directories are not followed.

    Args:
        top: the directory.
        parts: whether each run of several seeds is followed by its seeds, and each sweep by its members.

    Raises:
        ConfigError: a directory that cannot be read.
    """
    folder = open_folder(top, top)
    if folder is None:
        raise ConfigError(f"{top}: there is no such directory, or it cannot be read")
    groups = _groups(folder, _DEPTH, parts)
    return [row for group in sorted(groups, key=lambda group: (group[0].changed, group[0].name)) for row in group]


# What is read of each file; other content is ignored.
class _Kind(Struct):
    kind: str = "?"


class _Optimizer(Struct):
    steps: int = 0
    first: "_Optimizer | None" = None
    then: "_Optimizer | None" = None

    @property
    def total(self) -> int:
        return self.steps + sum(part.total for part in (self.first, self.then) if part)


class _Experiment(Struct):
    rule: _Kind
    circuit: _Kind
    tasks: _Kind
    optimizer: _Optimizer
    seed: int = 0
    seeds: int = 1

    def kinds(self) -> dict[str, Any]:
        return {name: getattr(self, name).kind for name in ("rule", "circuit", "tasks")}


class _Score(Struct):
    mean: float | None = None


class _HeldOut(Struct):
    learned: _Score = msgspec.field(default_factory=_Score)
    metric: str | None = None


class _Reported(Struct):
    planned: int | None = None


class _Summary(Struct):
    held_out: _HeldOut | None = None
    steps: int | None = None
    reported: _Reported = msgspec.field(default_factory=_Reported)


class _Metrics(Struct):
    step: int
    lifetimes: int
    nonfinite_lifetimes: int
    zero_gradient_lifetimes: int

    @property
    def useful(self) -> int:
        return self.lifetimes - self.nonfinite_lifetimes - self.zero_gradient_lifetimes


class _Options(Struct):
    generations: int = 0


class _Search(Struct):
    options: _Options
    generation: int | None = None


class _Front(Struct):
    metric: str
    structures: list[_Score]


class _Cell(Struct):
    points: list[tuple[int, int]]


class _Setting(Struct):
    experiment: _Experiment


class _Plan(Struct):
    settings: list[_Setting]
    cells: list[_Cell]


class _SweepFile(Struct):
    config: str


class _Environment(Struct):
    command: list[str] = []


def _groups(folder: Folder, depth: int, parts: bool) -> Iterator[list[Row]]:
    """Rows of each run or sweep, the first for the whole of it, the others for its parts."""
    if folder.entries.keys() & {RESOLVED, PARTIAL}:
        row = _described(folder, _run)
        yield [row, *(_seed_rows(folder, row) if parts and row.kind == "seeds" else ())]
    elif {PLAN, CELLS} <= folder.entries.keys():
        row = _described(folder, _sweep)
        yield [row, *(_member_rows(folder, row) if parts else ())]
    else:
        for inner in folder.folders() if depth else ():
            yield from _groups(inner, depth - 1, parts)


def _described(folder: Folder, describe: Callable[[Folder, Row], Row]) -> Row:
    """Row of a directory, whatever its files hold."""
    row = Row(folder.name)
    try:
        row = row._replace(changed=folder.changed)
        return describe(folder, row)
    except Exception as error:  # files of others raise many kinds
        reason = first_line(error).replace(f"{folder.path}/", "").replace(" damaged:", "")
        return row._replace(state=f"damaged: {shorten(reason, _REASON, placeholder=' …')}")


def _run(folder: Folder, row: Row) -> Row:
    """Complete the row of a run, of several seeds or of a structure search."""
    row = row._replace(config=_config(folder))
    if RESOLVED not in folder.entries:
        return row._replace(state="stopped")  # before it had begun
    tree = read(folder.file(RESOLVED))[1]
    if tree.get("format") != FORMAT:
        return row._replace(state="other format")
    experiment: _Experiment = convert(folder.path / RESOLVED, tree, _Experiment)
    row = row._replace(**experiment.kinds(), seed=experiment.seed, seeds=experiment.seeds)
    if SEARCH in folder.entries:
        return _search(folder, row)
    row = row._replace(total=experiment.optimizer.total * experiment.seeds, unit="steps")
    row = row._replace(kind="seeds" if experiment.seeds > 1 else "run")
    summary: _Summary = folder.json("summary.json", _Summary) or _Summary()
    if (held_out := summary.held_out) and not _is_stale(folder, row, summary):
        done = row.total if summary.steps is None else summary.steps
        if row.kind == "seeds":
            done = sum(part.done or 0 for part in _seed_rows(folder, row))
        return row._replace(done=done, metric=held_out.metric, score=held_out.learned.mean, state="done")
    return (_unfinished if experiment.seeds == 1 else _unfinished_seeds)(folder, row)


def _is_stale(folder: Folder, row: Row, summary: _Summary) -> bool:
    """True for results from before a run was given more meta-steps."""
    if EXTENDED not in folder.entries:
        return False
    if row.kind == "seeds":
        return any(part.state != "done" for part in _seed_rows(folder, row))
    return row.total != (summary.reported.planned or summary.steps)


def _unfinished(folder: Folder, row: Row) -> Row:
    line = last_metrics(folder.file(METRICS)) if METRICS in folder.entries else None
    last: _Metrics | None = convert(folder.path / METRICS, line, _Metrics | None)
    # θ is written at the end of meta-training, or where it is given up.
    is_diverged = last and not last.useful and THETA in folder.entries
    state = _running(folder) or ("diverged" if is_diverged else "stopped")
    return row._replace(done=last.step if last else 0, state=state)


def _unfinished_seeds(folder: Folder, row: Row) -> Row:
    parts = _seed_rows(folder, row)
    states = {part.state for part in parts} - {"done"}
    first = next((state for state in ("running", "diverged", *sorted(states)) if state in states), "stopped")
    done, changed = sum(part.done or 0 for part in parts), max([row.changed, *(part.changed for part in parts)])
    return row._replace(done=done, state=_running(folder) or first, changed=changed)


def _search(folder: Folder, row: Row) -> Row:
    found, front = folder.json(SEARCH, _Search), folder.json("front.json", _Front)
    done = 0 if found.generation is None else found.generation + 1
    row = row._replace(kind="search", unit="generations", done=done, total=found.options.generations + 1)
    if front is None:
        return row._replace(state=_running(folder) or "stopped")
    best = max((one.mean for one in front.structures if one.mean is not None), default=None)
    return row._replace(metric=front.metric, score=best, state="done")


def _sweep(folder: Folder, row: Row) -> Row:
    plan: _Plan = folder.json(PLAN, _Plan)
    cells = _cells(folder)
    left, total = [cell for cell in cells if DONE not in cell.entries], len(plan.cells)
    done = len(cells) - len(left)
    if done >= total:
        state = "done"
    elif any(is_held(cell.path / CELL_LOCK) for cell in left if CELL_LOCK in cell.entries):
        state = "running"
    else:
        state = "failed" if any(FAILED in cell.entries for cell in left) else "stopped"
    kinds = [setting.experiment.kinds() for setting in plan.settings]
    common: dict[str, Any] = {
        name: kind if all(one[name] == kind for one in kinds) else "several" for name, kind in kinds[0].items()
    }
    seeds = {seed for cell in plan.cells for _, seed in cell.points}
    file: _SweepFile = convert(folder.path / SWEEP_FILE, read(folder.file(SWEEP_FILE))[1], _SweepFile)
    row = row._replace(kind="sweep", config=Path(file.config).stem, **common, seed=min(seeds), seeds=len(seeds))
    changed = max([row.changed, *(cell.changed for cell in cells)])
    return row._replace(unit="cells", done=done, total=total, state=state, changed=changed)


def _seed_rows(folder: Folder, row: Row) -> list[Row]:
    """Rows of the seeds of a run of several."""
    parts = [_described(inner, _run) for inner in folder.folders() if re.fullmatch(r"s\d+", inner.path.name)]
    return [part._replace(config=row.config) for part in sorted(parts, key=lambda part: part.seed or 0)]


def _member_rows(folder: Folder, row: Row) -> list[Row]:
    """Rows of the members of a sweep, cell by cell."""
    results = [inner for cell in _cells(folder) for inner in cell.folders() if inner.path.name == DONE]
    members = [_described(member, _run) for done in results for member in done.folders()]
    return [member._replace(kind="member", config=row.config) for member in members]


def _cells(folder: Folder) -> list[Folder]:
    return [cell for inner in folder.folders() if inner.path.name == CELLS for cell in inner.folders()]


def _running(folder: Folder) -> str:
    """`running` while a process holds the lock of a run; else empty."""
    return "running" if LOCK in folder.entries and is_held(folder.path / LOCK) else ""


def _config(folder: Folder) -> str | None:
    """Name of the config of a run: of its place, or else of the file that its command named."""
    if _TIMED.match(folder.path.name):
        return folder.path.absolute().parent.name
    if "config.toml" not in folder.entries:
        return None
    words = (folder.json(ENVIRONMENT, _Environment) or _Environment()).command[1:]
    words = words[1:] if words[:1] and words[0] in _TRAINING else words
    return Path(words[0]).stem if words and not words[0].startswith("-") else None
