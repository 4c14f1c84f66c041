"""Time of a θ-gradient in several implementations: `python -m benchmarks.speed [--quick] [--json FILE]`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from benchmarks import program
from benchmarks.program import lay_out, read_or_measure
from benchmarks.speeds.drawing import draw_speeds
from benchmarks.speeds.implementations import IMPLEMENTATIONS, compared, compared_experiment
from benchmarks.speeds.library import descent
from benchmarks.speeds.problem import SIZES, Size
from benchmarks.speeds.work import AXES, cost_curve, verdicts
from benchmarks.starts import starts
from metarule.config.toml import ConfigError
from metarule.runs import figures
from metarule.runs.experiment import Experiment, read_experiment_file
from metarule.sweeps.rows import write_rows

__all__ = ["Options", "main"]

_USAGE = """\
Time the theta-gradient of one problem (benchmarks/speeds/problem.py) in metarule, in C by hand, as in the literature,
in PyTorch and TorchOpt (the extra `bench`), and its forward pass in numpy; all in turns in one process, and checked
against each other. Then time that of a config in metarule, the stated one for longer and more lifetimes, wider networks
and richer rules, and the first meta-step of a command, with no cache of compiled programs (off), an empty one (cold)
and a full one (warm). It takes under an hour on two cores; a second start goes on where the first was stopped.

In the tables, "metarule, kernel" is what users get: a time loop that is compiled to one operation, or XLA's loop where
a kernel would not be faster, with the reason as its note; "metarule, XLA" always has XLA's loop. ms is the fastest run,
ratio that over C, with a bound where the form has one, and compile_s the seconds that building its program takes
without any cache. difference is the largest from the first form of the same problem, as a share of the largest number;
beyond 0.001 a form is WRONG and not timed. microseconds are those of one item of work, without the overhead_ms of a
lifetime of two steps where lifetimes grow longer; ratio_to_previous compares them with those of the previous point.

--quick                            a small network and few points, in a directory of its own: about two minutes
"""
_QUICK: dict[str, Any] = {
    "directory": "runs/speed-quick",
    "sizes": [[2, 4, 1, 50, 16]],
    # Without those that are slow to compile.
    "implementations": [name for name in IMPLEMENTATIONS if "81" not in name and name != "torch.compile"],
    "seconds": 0.5,
    "steps": [100, 1000],
    "lifetimes": [8, 64],
    "hidden": [8, 32],
    "terms": [3, 9],
    "configs": ["configs/boolean.toml"],
    "trials": 1,
}
_FIGURE = "speed.png"

_Count = Annotated[int, Meta(ge=1, le=1_000_000)]
_Length = Annotated[int, Meta(ge=10, le=10_000_000)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Measurements.

    Attributes:
        directory: for measurements and the figure.
        json: file for the rows of all tables; none if empty.
        sizes: sizes of the problem: inputs, hidden, outputs, steps and lifetimes.
        implementations: forms of the gradient.
        gradients: configs whose θ-gradient is timed in metarule, with kernels and without.
        seconds: for all calls of one form; there are at least two.
        memory_gib: memory that an implementation of the literature may take; its lifetimes are split to fit.
        steps: lengths of lifetime, ascending.
        lifetimes: numbers of lifetimes, ascending.
        hidden: numbers of hidden neurons, ascending.
        terms: terms of the rule, ascending: 3, 9, 27 or 81.
        configs: configs whose first meta-step is timed.
        trials: trials of each kind of start.
    """

    directory: Annotated[str, Meta(min_length=1)] = "runs/speed"
    json: str = ""
    sizes: tuple[tuple[_Count, _Count, _Count, _Count, _Count], ...] = SIZES
    implementations: tuple[str, ...] = tuple(IMPLEMENTATIONS)
    gradients: tuple[str, ...] = ("configs/conditioning.toml",)
    seconds: Annotated[float, Meta(gt=0)] = 10.0
    memory_gib: Annotated[float, Meta(gt=0)] = 8.0
    steps: tuple[_Length, ...] = (100, 1000, 10_000, 100_000)
    lifetimes: tuple[_Count, ...] = (1, 8, 64, 512, 4096)
    hidden: tuple[_Count, ...] = (8, 32, 128, 512)
    terms: tuple[Literal[3, 9, 27, 81], ...] = (3, 9, 27, 81)
    configs: tuple[str, ...] = ("configs/boolean.toml", "configs/digits.toml")
    trials: Annotated[int, Meta(ge=1, le=100)] = 3


@figures.drawn_last()
def _serve(options: Options, flags: list[str]) -> int:
    _check(options)
    directory = Path(options.directory)
    lay_out(directory, options)
    tables = {name: make(directory, options) for name, make in _TABLES.items()}
    draw_speeds(directory / _FIGURE, *tables.values())
    print(f"figure: {directory / _FIGURE}")
    write_rows(options.json, [{"table": table} | row for table, rows in tables.items() for row in rows])
    return 0


def _check(options: Options) -> None:
    """Refuse bad options before anything is measured."""
    for name in options.implementations:
        if name not in IMPLEMENTATIONS:
            raise ConfigError(f"implementations: there is no '{name}'; allowed: {'; '.join(IMPLEMENTATIONS)}")
    for config in options.configs:
        _read("configs", config)
    for config in options.gradients:
        experiment = _read("gradients", config)
        try:
            descent(experiment)
        except ConfigError as error:
            raise ConfigError(f"gradients: '{config}': {error}") from error
    for field in ("steps", "lifetimes", "hidden", "terms"):
        points = getattr(options, field)
        if list(points) != sorted(set(points)):
            raise ConfigError(f"{field} = {list(points)}: expected ascending numbers")


def _read(option: str, config: str) -> Experiment:
    if not Path(config).is_file():
        raise ConfigError(f"{option}: there is no file '{config}'")
    return read_experiment_file(Path(config), [])[0]


def _implementations(directory: Path, options: Options) -> list[dict[str, Any]]:
    rows, forms, memory = [], options.implementations, int(options.memory_gib * 2**30)
    for size in (Size(*numbers) for numbers in options.sizes):
        file = directory / f"implementations-{'-'.join(map(str, size))}.json"
        rows += _shown(read_or_measure(file, partial(compared, size, forms, options.seconds, memory)))
    for config in options.gradients:
        name = Path(config).stem
        measure = partial(compared_experiment, name, _read("gradients", config), forms, options.seconds)
        rows += _shown(read_or_measure(directory / f"implementations-{name}.json", measure))
    return rows


def _costs(directory: Path, options: Options) -> list[dict[str, Any]]:
    rows = []
    for name, axis in AXES.items():
        if points := getattr(options, axis.option):
            file = directory / f"costs-{name.replace(', ', '-').replace(' ', '-')}.json"
            rows += _shown(read_or_measure(file, partial(cost_curve, name, points, options.seconds)), verdicts)
    return rows


def _starts(directory: Path, options: Options) -> list[dict[str, Any]]:
    rows = []
    for config in map(Path, options.configs):
        rows += read_or_measure(directory / f"starts-{config.stem}.json", partial(starts, config, options.trials))
    return _shown(rows)


_Lines = Callable[[Sequence[Mapping[str, Any]]], list[str]]


def _shown(rows: list[dict[str, Any]], lines: _Lines = lambda rows: []) -> list[dict[str, Any]]:
    """Print rows, and lines about them."""
    if rows:
        table = program.table(rows, difference=".1e", temporary_bytes=",", work=",", point=",")
        print("\n".join([table, *lines(rows)]) + "\n", flush=True)
    return rows


_TABLES = {"implementations": _implementations, "costs": _costs, "starts": _starts}
main = program.command("benchmarks.speed", _USAGE, Options, _serve, _QUICK)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
