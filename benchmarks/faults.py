"""What a run loses when it is killed, or its disk fails: `python -m benchmarks.faults [--quick] [--json FILE]`."""

import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from msgspec import Meta, Struct

from benchmarks.disasters import disks, kills, shared
from benchmarks.disasters.runs import Whole, differences, uninterrupted
from metarule.commands import cli
from metarule.config.schema import describe
from metarule.config.toml import ConfigError, decode, parse_overrides
from metarule.runs.environment import environment
from metarule.runs.files import read_json, write_json
from metarule.sweeps.rows import check_place, lines_of, write_rows

__all__ = ["Options", "main", "table"]

_USAGE = """\
usage: python -m benchmarks.faults [--quick] [--option VALUE ...]

Runs of a few seconds are killed at random moments, or asked to stop, or their disks fail; each then goes on with
--resume, and has to end as a run that nothing befell, bit for bit: theta, the last checkpoint, metrics and summary,
fields of time aside. All of it takes half an hour on two cores; started again it goes on where it was
stopped.

--quick                            a few kills and damaged files, in a directory of its own: under two minutes
--help                             this text

Columns: struck is in how many trials the fault came before the run was done; again how many meta-steps had to be taken
again, in the mean and at most; seconds how long it took from the fault to the end; lost in how many trials anything was
not as it should be. Disks are filled and made read-only only by the superuser, who may mount some.

Options [defaults]:
"""
_QUICK = "--quick"
_HASTE: dict[str, Any] = {"directory": "runs/faults-quick", "kills": 4, "shared": 0, "disks": 2}
# Where the last is, the directory is this command's.
_WHOLE, _PROGRAMS, _MARK = "whole", "programs", "faults.environment.json"

_Count = Annotated[int, Meta(ge=0, le=100_000)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What befalls how many runs.

    Attributes:
        directory: where what is done is kept.
        json: file for a row a trial.
        seed: decides on the moments.
        kills: runs that are killed, or asked to stop.
        shared: runs of two processes, one of which is killed.
        disks: runs whose disk fails.
    """

    directory: Annotated[str, Meta(min_length=1, description="where what is done is kept")] = "runs/faults"
    json: Annotated[str, Meta(description="file for a row a trial; none if empty")] = ""
    seed: Annotated[int, Meta(ge=0, description="decides on the moments")] = 0
    kills: Annotated[_Count, Meta(description="runs that are killed, or asked to stop")] = 100
    shared: Annotated[_Count, Meta(description="runs of two processes, one of which is killed")] = 10
    disks: Annotated[_Count, Meta(description="runs whose disk fails")] = 35


class _Trial(NamedTuple):
    """What befalls one run: `happen` is given its directory, the programs, the whole run and the chance."""

    name: str
    kind: str
    happen: Callable[[Path, Path, Whole, random.Random], dict[str, Any]]


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 if nothing was lost, 1 if something was, 2 for bad input, 128 + signal if stopped.
    """
    usage = (_USAGE + describe(Options)).rstrip()
    kept = "trials that are done are kept"
    return cli.run("benchmarks.faults", words, lambda: usage, _serve, kept, bare=True)


def table(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Trials by what befell them.

    Args:
        rows: one a trial.

    Returns:
        One a kind, in the order in which they first come.
    """
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    return [_summary(kind, [row for row in rows if row["kind"] == kind]) for kind in kinds]


def _summary(kind: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    again = [row["again"] for row in rows]
    return {
        "kind": kind,
        "trials": len(rows),
        "struck": sum(row["struck"] for row in rows),
        "again": f"{np.mean(again):.1f}, {max(again)}",
        "seconds": f"{np.mean([row['seconds'] for row in rows]):.1f}",
        "lost": sum(bool(row["lost"]) for row in rows),
    }


def _serve(words: list[str]) -> int:
    given = dict(parse_overrides([word for word in words if word != _QUICK]))
    options = decode((_HASTE if _QUICK in words else {}) | given, Options)
    check_place(options.json)
    directory = Path(options.directory).absolute()
    whole = _whole(directory)
    rows = [_row(directory, whole, trial, options.seed) for trial in _trials(options)]
    if rows:
        print("\n".join(lines_of(table(rows))))
    write_rows(options.json, rows)
    return int(any(row["lost"] for row in rows))


def _trials(options: Options) -> Iterator[_Trial]:
    for number in range(options.kills):
        kind = kills.KINDS[number % len(kills.KINDS)]
        yield _Trial(f"kill-{number}", kind, partial(kills.kill, kind))
    for number in range(options.disks):
        kind = disks.KINDS[number % len(disks.KINDS)]
        yield _Trial(f"disk-{number}", kind, partial(disks.fail, kind))
    for number in range(options.shared):
        yield _Trial(f"shared-{number}", shared.KIND, shared.kill_one)


def _whole(directory: Path) -> Whole:
    """The run that nothing befalls: a first one compiles its programs, a second one is timed."""
    file, programs = directory / f"{_WHOLE}.json", directory / _PROGRAMS
    known = read_json(file)
    if known is None:
        first, path = directory / f"{_WHOLE}-cold", directory / _WHOLE
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()) and not (directory / _MARK).exists():
                raise ConfigError(f"--directory '{directory}': it holds what this command did not make; choose another")
            for left in (first, path):
                shutil.rmtree(left, ignore_errors=True)
            write_json(directory / _MARK, environment())
        except OSError as error:
            raise ConfigError(f"--directory '{directory}': {error.strerror}") from error
        print("running what nothing befalls", file=sys.stderr, flush=True)
        uninterrupted(first, programs)
        whole = uninterrupted(path, programs)
        if other := differences(path, first):
            raise RuntimeError(f"{path} and {first} differ although nothing befell them: {', '.join(other)}")
        known = {"first": whole.first, "trained": whole.trained, "total": whole.total}
        write_json(file, known)
    return Whole(directory / _WHOLE, **known)


def _row(directory: Path, whole: Whole, trial: _Trial, seed: int) -> dict[str, Any]:
    """What came of a trial, which is made once. The run is kept only if something was lost."""
    file, path = directory / f"{trial.name}-s{seed}.json", directory / f"{trial.name}-s{seed}"
    row = read_json(file)
    if row is None:
        shutil.rmtree(path, ignore_errors=True)
        happened = trial.happen(path, directory / _PROGRAMS, whole, random.Random(f"{seed} {trial.name}"))
        row = {"trial": trial.name, "kind": trial.kind} | happened
        write_json(file, row)
        print(f"{trial.name}: {trial.kind}: lost: {row['lost'] or 'nothing'}", file=sys.stderr, flush=True)
        if not row["lost"]:
            shutil.rmtree(path)
    return dict(row)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
