"""How long a θ-gradient takes, beside other ways to it: `python -m benchmarks.speed [--quick] [--json FILE]`."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from benchmarks.speeds.contest import contest
from benchmarks.speeds.drawing import draw_speeds
from benchmarks.speeds.forms import FORMS
from benchmarks.speeds.growth import AXES, grow, verdicts
from benchmarks.speeds.problem import SIZES, Size
from benchmarks.starts import starts
from benchmarks.tables import kept, lay_out
from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.toml import ConfigError, decode, parse_overrides
from metarule.runs import figures
from metarule.runs.experiment import read_experiment_file
from metarule.sweeps.rows import check_place, lines_of, write_rows

__all__ = ["Options", "main"]

_USAGE = """\
usage: python -m benchmarks.speed [--quick] [--option VALUE ...]

Time the theta-gradient of one problem (benchmarks/speeds/problem.py) in metarule, in C by hand, in the form of the
literature, in PyTorch and TorchOpt (the extra `bench`), and the forward pass in numpy; all in turns in one process, and
checked against each other. Then the cost in metarule as lifetimes grow longer or more, networks wider and rules richer, and
the time of a command until its first meta-step, with no programs kept (off), none there yet (cold) and all there
(warm). All of it takes twenty minutes on two cores; started again it goes on where it was stopped.

--quick                            a small network and few points, in a directory of its own: about two minutes
--help                             this text

Columns: ratio is the fastest run in that of C, 81 terms and MLP included; forms without a bound are compared with C
without one. difference is the largest from the first form that solves the same, as a share of the largest number;
beyond 0.001 a form is WRONG, and its time left out. microseconds are those of one unit of work, in a lifetime longer than
two steps without the overhead_ms of such a short one; growth compares them with those of the point before.
"""
_QUICK = "--quick"
_HASTE: dict[str, Any] = {
    "directory": "runs/speed-quick",
    "sizes": [[2, 4, 1, 50, 16]],
    "forms": [name for name in FORMS if "81" not in name and name != "torch.compile"],  # which take long to compile
    "seconds": 1.0,
    "steps": [100, 1000],
    "lives": [8, 64],
    "hidden": [8, 32],
    "terms": [3, 9],
    "configs": ["configs/boolean.toml"],
    "trials": 1,
}
_GIB = 2**30
_FIGURE = "speed.png"

_Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured.

    Attributes:
        directory: where what is done, and the figure, are kept.
        json: file for the rows of all tables.
        sizes: of the problem.
        forms: of the gradient.
        seconds: that the calls of one form take, unless two take longer.
        memory_gib: what a form of the literature may take; else its lives are split.
        steps: lengths of lifetime along which cost grows.
        lives: how many of them.
        hidden: numbers of hidden neurons.
        terms: of the rule.
        configs: whose first meta-step is timed.
        trials: of each kind of start.
    """

    directory: Annotated[str, Meta(min_length=1, description="where what is done, and the figure, are kept")] = (
        "runs/speed"
    )
    json: Annotated[str, Meta(description="file for the rows of all tables; none if empty")] = ""
    sizes: Annotated[
        tuple[tuple[_Count, _Count, _Count, _Count, _Count], ...],
        Meta(description="sizes of the problem: inputs, hidden, outputs, steps and lifetimes"),
    ] = SIZES
    forms: Annotated[tuple[str, ...], Meta(description="forms of the gradient")] = tuple(FORMS)
    seconds: Annotated[float, Meta(gt=0, description="time for the calls of one form; two are made at least")] = 10.0
    memory_gib: Annotated[
        float, Meta(gt=0, description="memory that a form of the literature may take; its lives are split to fit")
    ] = 8.0
    steps: Annotated[
        tuple[Annotated[int, Meta(ge=10, le=10_000_000)], ...],
        Meta(description="lengths of lifetime, from short to long"),
    ] = (100, 1000, 10_000, 100_000)
    lifetimes: Annotated[tuple[_Count, ...], Meta(description="lives side by side, from few to many")] = (
        1,
        8,
        64,
        512,
        4096,
    )
    hidden: Annotated[tuple[_Count, ...], Meta(description="hidden neurons, from few to many")] = (8, 32, 128, 512)
    terms: Annotated[tuple[Literal[3, 9, 27, 81], ...], Meta(description="terms of the rule: 3, 9, 27 or 81")] = (
        3,
        9,
        27,
        81,
    )
    configs: Annotated[tuple[str, ...], Meta(description="configs whose first meta-step is timed")] = (
        "configs/boolean.toml",
        "configs/digits.toml",
    )
    trials: Annotated[int, Meta(ge=1, le=100, description="trials of each kind of start")] = 3


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 1 if the device failed or a figure could not be drawn, 2 for bad input, 128 + signal if
        stopped.
    """
    kept = "tables that are done are kept"
    return cli.run("benchmarks.speed", words, _USAGE, _serve, kept, (Source(Options),), bare=True, cached=False)


@figures.drawn_last()
def _serve(words: list[str]) -> int:
    given = dict(parse_overrides([word for word in words if word != _QUICK]))
    options = decode((_HASTE if _QUICK in words else {}) | given, Options)
    _check(options)
    directory = Path(options.directory)
    lay_out(directory, options)
    forms, growth, begun = _forms(directory, options), _growth(directory, options), _starts(directory, options)
    draw_speeds(directory / _FIGURE, forms, growth, begun)
    print(f"figure: {directory / _FIGURE}")
    tables = {"forms": forms, "lyapunov_exponent": growth, "starts": begun}
    write_rows(options.json, [{"table": table} | row for table, rows in tables.items() for row in rows])
    return 0


def _check(options: Options) -> None:
    """Refuse what would fail after others were measured."""
    check_place(options.json)
    for name in options.forms:
        if name not in FORMS:
            raise ConfigError(f"forms: there is no '{name}'; allowed: {'; '.join(FORMS)}")
    for config in options.configs:
        if not Path(config).is_file():
            raise ConfigError(f"configs: there is no file '{config}'")
        read_experiment_file(Path(config), [])
    for field in ("steps", "lives", "hidden", "terms"):
        points = getattr(options, field)
        if list(points) != sorted(set(points)):
            raise ConfigError(f"{field} = {list(points)}: expected numbers that grow")


def _forms(directory: Path, options: Options) -> list[dict[str, Any]]:
    rows, room = [], int(options.memory_gib * _GIB)
    for size in (Size(*numbers) for numbers in options.sizes):
        file = directory / f"forms-{'-'.join(map(str, size))}.json"
        found = kept(file, partial(contest, size, options.forms, options.seconds, room))
        _show(found)
        rows += found
    return rows


def _growth(directory: Path, options: Options) -> list[dict[str, Any]]:
    rows = []
    for name, axis in AXES.items():
        points = getattr(options, axis.option)
        if points:
            file = directory / f"growth-{name.replace(', ', '-').replace(' ', '-')}.json"
            found = kept(file, partial(grow, name, points, options.seconds))
            _show(found, verdicts(found))
            rows += found
    return rows


def _starts(directory: Path, options: Options) -> list[dict[str, Any]]:
    rows = []
    for config in map(Path, options.configs):
        file = directory / f"starts-{config.stem}.json"
        rows += kept(file, partial(_started, config, options.trials))
    _show(rows)
    return rows


def _started(config: Path, trials: int) -> list[dict[str, Any]]:
    return [{"config": config.stem} | starts(config, trials)]


def _show(rows: Sequence[Mapping[str, Any]], lines: Sequence[str] = ()) -> None:
    if rows:
        print("\n".join([*lines_of([_readable(row) for row in rows]), *lines]) + "\n", flush=True)


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    forms = {"difference": ".1e", "temporary_bytes": ",", "work": ",", "point": ","}
    return {
        name: format(value, forms[name]) if name in forms and value is not None else value
        for name, value in row.items()
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
