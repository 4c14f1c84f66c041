"""Run a sweep over settings and seeds: `metarule sweep SWEEP.toml [--OPTION VALUE …]`."""

import json
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, NamedTuple

import msgspec
from immutabledict import immutabledict
from msgspec import Meta, Struct
from msgspec.structs import replace

from metarule.commands import cli
from metarule.commands.opening import STUDIES, listed
from metarule.config.help import Source
from metarule.config.imports import import_words
from metarule.config.messages import first_line
from metarule.config.shipped import find_config
from metarule.config.toml import ConfigError, decode, override, parse_overrides
from metarule.reports.page import print_report
from metarule.runs import figures
from metarule.runs.environment import ENVIRONMENT, check_precision, environment, name_changed_modules
from metarule.runs.files import read_json
from metarule.runs.stopping import Stopped, StopRequest
from metarule.runs.sweep_files import CELLS, FAILED, PLAN, SWEEP_FILE
from metarule.sweeps.cells import measure
from metarule.sweeps.cluster import LOGS, Kind, Workers, check_cluster, start, watch
from metarule.sweeps.declaration import Sweep, read_sweep, shorten
from metarule.sweeps.plan import Cell, Plan, make_plan
from metarule.sweeps.report import best_member, make_report, table
from metarule.sweeps.rows import check_place, write_rows, write_whole
from metarule.sweeps.time_saved import measure_time_saved, time_saved_table
from metarule.sweeps.work import is_settled, program, work

__all__ = ["FIELDS", "USAGE", "Options", "main", "run"]

USAGE = f"""\
usage: metarule sweep SWEEP.toml [--OPTION VALUE ...]
       metarule sweep --report DIR [--json FILE]

Run a config over a grid of its fields and over seeds, and make tables and a figure of the results. One compiled program
runs seeds and numbers such as the learning rate together; other fields have programs of their own. Several processes,
or hosts that share the directory and its locks, share the work; a second start continues where the first was stopped.
A vmapped run is rounded differently than a single one: in short runs theta is the same to 1e-5, but meta-training
through long lifetimes amplifies rounding, so compare means over seeds. Only held-out scores of the learned rule are
measured; for baselines use metarule train.

  SWEEP.toml      sweep file, or study file, whose sweep is run; or the name of a study that is shipped:
{listed(STUDIES, 18)}
  --dry-run       print the plan, and about how long it would take
  --quick         two seeds, cases and values an axis, few meta-steps, in a directory of its own
  --retry         run failed cells again
  --no-report     leave tables and figure to another process
  --report DIR    make tables and figure of a sweep again
  --help [TABLE]  this text, or the fields of a table
"""
_FLAGS = ("--dry-run", "--quick", "--retry", "--no-report")
# Options that are names of files and directories, and text also where they read as numbers.
_TEXTS = ("directory", "json", "report")
# Options that a worker does not get.
_PARENT = ("--cluster", "--workers", "--cluster_options", "--json")


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a sweep.

    Attributes:
        directory: directory of the sweep; empty for `runs/sweeps/<name of the file>`.
        json: file for the rows of the printed table, as a list of flat objects; empty for none.
        compare: points that also run as sweeps of one point, to measure the time that the sweep saves.
        cluster: workers, which are jobs of SLURM or local processes; null for none.
        workers: number of workers of the cluster.
        cluster_options: parameters of submitit, such as timeout_min or slurm_partition.
    """

    directory: str = ""
    json: str = ""
    compare: Annotated[int, Meta(ge=0)] = 0
    cluster: Kind | None = None
    workers: Annotated[int, Meta(ge=1)] = 2
    cluster_options: Mapping[str, Any] = immutabledict()


class _ReportOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `--report`."""

    report: str
    json: str = ""


FIELDS = (Source(Options), Source(Sweep, file="a sweep file"))


class _Request(NamedTuple):
    """Content of a command line."""

    file: Path
    plan: Plan
    directory: Path
    flags: frozenset[str]
    options: Options


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`, 1 if cells failed."""
    cached = "--dry-run" not in words  # which measures compiling
    return cli.run(
        "metarule sweep", words, USAGE, partial(_serve, words), "finished cells are kept", FIELDS, cached=cached
    )


def run(declared: Sweep, config: Path, directory: Path, flags: Sequence[str], again: str) -> int:
    """Run a sweep that a program declares, and write its file beside its directory.

    Args:
        declared: the sweep.
        config: its base config, which replaces that of the sweep.
        directory: directory of the sweep.
        flags: flags of the command line.
        again: command that resumes a stopped sweep.

    Returns:
        Exit status: 0 done, 1 some cells failed, 128 + signal if stopped.

    Raises:
        ConfigError: a bad sweep, or a file that cannot be written.
    """
    file = directory.with_name(f"{directory.name}.toml")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        declared = replace(declared, config=os.path.relpath(config, directory.parent))
        write_whole(file, msgspec.toml.encode(declared, enc_hook=dict).decode())
    except OSError as error:
        raise ConfigError(f"--directory '{directory.parent}': {error.strerror}") from error
    return _run(_parse([str(file), "--directory", str(directory), *flags]), again)


def _serve(given: list[str], words: list[str]) -> int:
    if words[0] == "--report":
        options = _decode(words, _ReportOptions)
        return _report(Path(options.report), options.json)
    request = _parse(words)
    if "--dry-run" in request.flags:
        return _show(request)
    if request.options.compare:
        given = [str(request.file), *(["--quick"] if "--quick" in request.flags else [])]
        report, sample = partial(print, flush=True), request.options.compare
        rows = measure_time_saved(given, request.plan, request.directory, sample, report)
        print(f"\n{time_saved_table(rows)}")
        _report(request.directory, "")
        write_rows(request.options.json, rows)
        return 0
    quick = " --quick" if "--quick" in request.flags else ""
    place = f"{quote(str(request.file))} --directory {quote(str(request.directory))}"
    again = f"metarule sweep {place}{quick}{import_words()}"
    return _run(request, again, _worker_words(given))


def _worker_words(words: list[str]) -> list[str]:
    """Command line of a worker: without what concerns its parent, which has set failed cells aside by --retry."""
    kept, rest = list[str](), [word for word in words if word not in ("--retry", "--no-report")]
    while rest:
        word = rest.pop(0)
        if word.partition("=")[0].partition(".")[0] not in _PARENT:
            kept.append(word)
        elif "=" not in word:
            rest.pop(0)
    return [*kept, "--no-report"]


def _parse(words: list[str]) -> _Request:
    if words[0].startswith("-"):
        raise ConfigError(f"'{words[0]}': a sweep file comes first, or --report; see --help")
    file, flags = find_config(words[0]), frozenset(word for word in words if word in _FLAGS)
    options = _decode([word for word in words[1:] if word not in _FLAGS], Options)
    _check_cluster(words, options)
    sweep, base = read_sweep(file)
    sweep, last = shorten(sweep) if "--quick" in flags else (sweep, [])
    try:
        plan = make_plan(sweep, base, last)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    name = f"{file.stem}-quick" if "--quick" in flags else file.stem
    return _Request(file, plan, Path(options.directory or Path("runs", "sweeps", name)), flags, options)


def _check_cluster(words: list[str], options: Options) -> None:
    names = {word.partition("=")[0].partition(".")[0] for word in words}
    if not options.cluster:
        for name in sorted(names & {"--workers", "--cluster_options"}):
            raise ConfigError(f"{name}: without --cluster there are no workers; allowed: with --cluster slurm or local")
        return
    for name in sorted(names & {"--compare", "--dry-run"}):
        raise ConfigError(f"{name}: it runs in this process; allowed: without --cluster")
    check_cluster(options.cluster, options.cluster_options)


def _decode(words: list[str], as_type: type[Struct]) -> Any:
    pairs = [(name, str(value) if name in _TEXTS else value) for name, value in parse_overrides(words)]
    options: Any = decode(override({}, pairs), as_type)
    check_place(options.json)
    return options


def _show(request: _Request) -> int:
    plan = request.plan
    points = sum(len(cell.points) for cell in plan.cells)
    print(f"{len(plan.settings)} settings, {points} points, {len(plan.cells)} cells in {request.directory}\n")
    for cell in plan.cells:
        labels = list(dict.fromkeys(plan.settings[point.setting].label for point in cell.points))
        seeds = sorted({point.seed for point in cell.points})
        label = labels[0] if len(labels) == 1 else f"{labels[0]} … {labels[-1]}"
        data = ", ".join(("seed", *cell.fields))
        print(f"{cell.name}  {len(cell.points):>4} points  seeds {seeds[0]} to {seeds[-1]}  {label}; data: {data}")
    kinds: dict[type, list[Cell]] = {}
    for cell in plan.cells:
        kinds.setdefault(type(cell.experiment.optimizer), []).append(cell)
    seconds = 0.0
    for cells in kinds.values():
        compiling, per_work = measure(cells[0])
        seconds += compiling * len(set(map(program, cells))) + per_work * sum(cell.work for cell in cells)
    print(f"\nabout {_time(seconds)} in one process, by a few meta-steps of the first cell of each optimizer.kind")
    return 0


def _run(request: _Request, again: str, words: Sequence[str] = ()) -> int:
    """Run the cells, in this process or in workers, whose command line is given; report those that failed."""
    directory, options = request.directory, request.options
    _lay_out(request)
    print(f"sweep: {directory}", flush=True)
    cells = {directory / CELLS / cell.name: cell for cell in request.plan.cells}
    advice = f"; finished cells and checkpoints are kept; go on with: {again}"
    try:
        with StopRequest() as stop:
            if options.cluster:
                workers = start(options.cluster, directory, options.workers, options.cluster_options, main, list(words))
                print(f"workers: {', '.join(workers.ids)}   logs: {directory / LOGS}", flush=True)
                advice = _advice(workers, directory, again)
                for line in watch(workers, cells.keys(), stop):
                    print(line, file=sys.stderr)
            else:
                work(cells, stop)
    except Stopped as stopped:
        print(f"\nstopped{advice}", file=sys.stderr)
        return 128 + stopped.signal_number
    left = [folder for folder in cells if not is_settled(folder)]
    failed = [folder for folder in cells if (folder / FAILED).exists()]
    for folder in failed:
        reason = read_json(folder / FAILED / "failure.json")["error"]
        print(f"failed: {folder.name}: {reason}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {len(cells)} cells failed; --retry runs them again", file=sys.stderr)
    if left:
        print(f"{len(left)} of {len(cells)} cells are not finished; go on with: {again}", file=sys.stderr)
    if "--no-report" not in request.flags and len(failed) + len(left) < len(cells):
        _report(directory, options.json)
    return 1 if failed or left else 0


def _advice(workers: Workers, directory: Path, again: str) -> str:
    """End of the message of a stop."""
    if workers.kind == "local":
        return f", with all workers; finished cells and checkpoints are kept; go on with: {again}"
    job = workers.ids[0].partition("_")[0]  # of the whole array
    report = f"metarule sweep --report {quote(str(directory))}"
    return (
        f" waiting, workers go on; work beside them with: {again}; report with: {report}; end them with: scancel {job}"
    )


def _lay_out(request: _Request) -> None:
    """Write the plan, unless it exists; processes that start together write the same."""
    directory, text = request.directory, json.dumps(request.plan.tree(), indent=1, ensure_ascii=False)
    plan = directory / PLAN
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not plan.exists():
            write_whole(directory / ENVIRONMENT, json.dumps(environment(), indent=1))
            write_whole(directory / SWEEP_FILE, request.file.read_text(encoding="utf-8"))
            write_whole(plan, text)
        same = plan.read_text(encoding="utf-8") == text
        for cell in request.plan.cells if same else ():
            folder = directory / CELLS / cell.name
            folder.mkdir(parents=True, exist_ok=True)
            if "--retry" in request.flags:
                with suppress(FileNotFoundError):  # none, or another process was faster
                    (folder / FAILED).rename(folder / f"{FAILED}-{uuid.uuid4().hex[:8]}")
    except (OSError, ValueError) as error:
        raise ConfigError(f"--directory '{directory}': {first_line(error)}") from error
    recorded = read_json(directory / ENVIRONMENT) or {}
    check_precision(directory, recorded.get("precision"))
    name_changed_modules(directory, recorded.get("modules"))
    if not same:
        raise ConfigError(f"--directory '{directory}': it holds another sweep, or this one before it was changed")


@figures.drawn_last()
def _report(directory: Path, file: str) -> int:
    report = make_report(directory)
    print(
        f"\n{table(report)}\n\nfigure: {directory / report.figure}   tables: {directory / 'summary.csv'}, results.csv"
    )
    print_report(directory)
    if best := best_member(directory, report):
        print(f"best on training tasks: {best[0]}; go on with: metarule evaluate {quote(str(best[1]))}{import_words()}")
    write_rows(file, report.summary)
    return 0


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
