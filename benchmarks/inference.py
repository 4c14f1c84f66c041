"""Inference of rules from simulated recordings: `python -m benchmarks.inference [--quick] [--json FILE]`."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from benchmarks import program
from benchmarks.experiments import CHOICE, TESTS, Setting, found, oja
from benchmarks.program import lay_out, read_or_measure
from benchmarks.recorded import problems, write_recordings, zero
from metarule.config.toml import ConfigError
from metarule.parallel.compilation_cache import VARIABLE
from metarule.runs.files import read_json
from metarule.runs.inference import in_double_precision
from metarule.sweeps.rows import write_rows

__all__ = ["Options", "large", "main", "measured"]

_USAGE = """\
Simulate animals that learn by a known rule, infer the rule from what was recorded, and compare. It takes 20 minutes
on two cores. A second start goes on where the first was stopped.

--quick                            the tests of seconds, two seeds each: a minute
"""
_COMMANDS, _MEMORY = "commands", "memory"
_QUICK = {"seeds": 2, "directory": "runs/inference-quick", "tests": ["oja", "noise", "unknown weights"]}
# Neurons of the large network.
_LARGE = (100, 1000)
_GIB = 2**20  # in the units of `ru_maxrss`


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Experiments.

    Attributes:
        directory: for the rows of each test.
        json: file for the rows of the table; none if empty.
        seeds: simulated experiments of each test; coverage has some times as many.
        tests: their names; empty for all.
    """

    directory: Annotated[str, Meta(min_length=1)] = "runs/inference"
    json: str = ""
    seeds: Annotated[int, Meta(ge=1, le=10_000)] = 10
    tests: tuple[str, ...] = ()


def _serve(options: Options, flags: list[str]) -> int:
    measures: dict[str, Callable[[], list[dict[str, Any]]]] = {
        name: partial(measured, name, test, options.seeds) for name, test in TESTS.items()
    }
    measures |= {_COMMANDS: _commands, _MEMORY: _memory}
    for name in options.tests:
        if name not in measures:
            raise ConfigError(f"tests: there is no '{name}'; allowed: {', '.join(measures)}")
    directory, rows = Path(options.directory), list[dict[str, Any]]()
    lay_out(directory, Options(directory=options.directory, seeds=options.seeds))
    for name in options.tests or measures:
        of_test = read_or_measure(directory / f"{name.replace(',', '').replace(' ', '-')}.json", measures[name])
        formats = dict.fromkeys(("value", "mean", "sd", "worst", "seconds", "first"), ".3g")
        print(program.table(of_test, **formats), end="\n\n", flush=True)
        rows += of_test
    write_rows(options.json, rows)
    return 0


def measured(name: str, test: Setting, seeds: int) -> list[dict[str, Any]]:
    """Infer the rule of one experiment after another.

    Args:
        name: of the test.
        test: experiments, fit, and what is measured.
        seeds: number of experiments, times that of the test.

    Returns:
        One row a measure: `value` over seeds and its `target`, whether it was `met`, `mean`, `sd` and `worst` of all
        seeds, a `note`, `seconds` of a fit, and of the `first` one, whose programs were compiled.
    """
    seeds, results, times = seeds * test.repeated, list[list[float]](), list[float]()
    with in_double_precision():
        for problem in problems(test.case, range(seeds)):
            clock = time.perf_counter()
            one = found(problem, test.case, test.fitted)
            times.append(time.perf_counter() - clock)
            results.append([measure.of(one) for measure in test.measures])
    seconds = {"seconds": float(np.median(times[1:] or times)), "first": times[0]}
    columns = zip(test.measures, np.array(results, float).T, strict=True)
    return [_row(name, one.what, values, one.target, one.over, one.note) | seconds for one, values in columns]


def _row(
    test: str,
    what: str,
    values: Any,
    target: tuple[float | None, float | None],
    over: str = "worst",
    note: str = "",
) -> dict[str, Any]:
    """Row of a measure, from its values in all seeds."""
    low, high = target
    worst = float(values.max() if low is None else values.min())
    value = {"worst": worst, "mean": float(values.mean()), "median": float(np.median(values))}[over]
    is_met = (low is None or value >= low) and (high is None or value <= high)
    has_target = low is not None or high is not None
    numbers = {"mean": float(values.mean()), "sd": float(values.std(ddof=1)) if len(values) > 1 else None}
    return {
        "test": test,
        "what": f"{what}, {over}" if len(values) > 1 else what,
        "value": value,
        "target": _text(low, high),
        "met": is_met if has_target else None,
        **numbers,
        "worst": worst if has_target else None,
        "seeds": len(values),
        "note": note,
    }


def _text(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"≤ {high:g}" if high is not None else f"≥ {low:g}" if low is not None else ""
    return f"{low:g} to {high:g}"


def _commands() -> list[dict[str, Any]]:
    """Seconds of whole commands in new processes, without and with the programs that they compiled before."""
    rows = []
    for name, case, most in (("infer-oja", oja(20), 10.0), ("infer-choice", CHOICE, 60.0)):
        with TemporaryDirectory() as temporary:
            files = write_recordings(Path(temporary, "animals"), case.animals(0))
            for number, what in enumerate(("nothing compiled before", "compiled before")):
                run = Path(temporary, f"run-{number}")
                words = [name, "--tasks.files", files, "--run.directory", str(run)]
                clock = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", "metarule.infer", *words],
                    check=True,
                    stdout=subprocess.DEVNULL,
                    env=os.environ | {VARIABLE: str(Path(temporary, "cache"))},
                )
                seconds = time.perf_counter() - clock
                parts = read_json(run / "summary.json")["seconds"].items()
                parts = ", ".join(f"{part} {value:.1f} s" for part, value in parts if part != "total")
                row = _row(_COMMANDS, f"seconds of {name}, {what}", np.array([seconds]), (None, most), note=parts)
                rows.append(row | {"seconds": seconds, "first": None})
    return rows


def _memory() -> list[dict[str, Any]]:
    """Memory of a process that evaluates the curvature of a large network, and its seconds."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        gib, first, again = pool.submit(large, *_LARGE).result()
    inputs, outputs = _LARGE
    what = f"GiB of a process with {inputs}→{outputs} neurons, 50 animals, 50 steps"
    row = _row(_MEMORY, what, np.array([gib]), (None, 4.0), note="an evaluation with 27 terms")
    return [row | {"seconds": again, "first": first}]


def large(inputs: int, outputs: int) -> tuple[float, float, float]:
    """Evaluate a fit to the recordings of a large network in this process.

    Returns:
        (peak memory of the process in GiB, seconds with compilation, seconds of another evaluation).
    """
    times, case = [], oja(50, inputs=inputs, outputs=outputs, activity_noise=0.1)
    with in_double_precision():
        for problem in problems(case, [0]):
            for _ in range(2):
                clock = time.perf_counter()
                problem.fit(zero(problem), np.eye(problem.size), steps=1)
                times.append(time.perf_counter() - clock)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _GIB, times[0], times[1]


main = program.command("benchmarks.inference", _USAGE, Options, _serve, _QUICK)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
