"""Gradient descent against searches on equal terms: `python -m benchmarks.search [--quick] [--json FILE]`."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from msgspec.structs import replace

from benchmarks.costs import relative_cost
from benchmarks.races import Racer, draw_races, lead, reached, read_race
from metarule.commands import cli, sweep
from metarule.config.schema import describe
from metarule.config.toml import decode, parse_overrides
from metarule.meta import Gradient
from metarule.runs import figures
from metarule.runs.experiment import Experiment
from metarule.runs.files import read_json, write_json
from metarule.sweeps.plan import Sweep, read_sweep
from metarule.sweeps.report import PLAN, interquartile, make_report
from metarule.sweeps.rows import check_place, lines_of, write_rows

__all__ = ["FAMILIES", "Options", "choose", "main", "table", "tuned"]

_USAGE = """\
usage: python -m benchmarks.search [--quick] [--option VALUE ...]

Race gradient descent and searches without gradients from the same initial theta, on Boolean functions and on
conditioning, with rules of 7, 16 and 81 terms. Each method is tuned first: the settings of
benchmarks/sweeps/search-boolean.toml and search-conditioning.toml, eight a method, are run with seeds of their own, and
the one with the best score on training tasks goes into the race. Out come a table and a figure of the held-out score
against lives and against seconds. Started again it goes on where it was stopped; several processes share the work.

--quick                            two methods that are not tuned, two seeds, few meta-steps: under a minute
--retry                            run failed cells again
--help                             this text

Options [defaults]:
"""
FAMILIES = ("boolean", "conditioning")
_FOLDER = Path(__file__).parent / "sweeps"
_FIGURE = "search.png"
_QUICK, _RETRY = "--quick", "--retry"
# Methods that the others are compared with, by their names in the sweep files.
_GRADIENT, _RANDOM = "gradient", "random search"


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the races are run.

    Attributes:
        directory: where the sweeps, the table and the figure are kept.
        json: file for the rows of the table, too.
        seeds: of each race; those of the tuning are others.
        curve: how often along a run its rule is scored.
    """

    directory: Annotated[str, Meta(min_length=1, description="where sweeps and figure are kept")] = "runs/search"
    json: Annotated[str, Meta(description="file for the rows of the table; none if empty")] = ""
    seeds: Annotated[int, Meta(ge=1, le=100, description="seeds of each race, from 0")] = 10
    curve: Annotated[int, Meta(ge=2, le=1000, description="scores along a run")] = 24


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 1 if some cells failed or a figure could not be drawn, 2 for bad input, 128 + signal if
        stopped.
    """
    usage = (_USAGE + describe(Options)).rstrip()
    kept = "what is done is kept"
    return cli.run("benchmarks.search", words, lambda: usage, _serve, kept, bare=True)


def choose(directory: Path) -> dict[str, dict[str, Any]]:
    """The best setting of each case of a sweep that is done, by what it comes to on training tasks.

    Args:
        directory: of the sweep.

    Returns:
        By name of the case, the values that its setting has beyond those of the case. The mean score over seeds
        decides; of settings that score alike, the mean meta-loss.

    Raises:
        ConfigError: a directory that holds no sweep, or a case of which no setting is done.
    """
    report, plan = make_report(directory), read_json(directory / PLAN)
    values: dict[tuple[str, str], list[float]] = {}
    for row in report.rows:
        values.setdefault((row["setting"], row["metric"]), []).append(np.nan if row["value"] is None else row["value"])
    best: dict[str, tuple[tuple[float, float], dict[str, Any]]] = {}
    for setting in plan["settings"]:
        scores, losses = (
            values.get((setting["label"], name), [np.nan]) for name in (f"training_{report.score}", "meta_loss")
        )
        worth = (_or_worst(float(np.mean(scores))), _or_worst(-float(np.mean(losses))))
        case = setting["values"]["case"]
        if case not in best or worth > best[case][0]:
            best[case] = (worth, {field: value for field, value in setting["values"].items() if field != "case"})
    return {case: chosen for case, (_, chosen) in best.items()}


def tuned(declared: Sweep, chosen: Mapping[str, Mapping[str, Any]], seeds: int, curve: int) -> Sweep:
    """The sweep of the race: each case with its chosen setting alone.

    Args:
        declared: the sweep that tuned them.
        chosen: as from `choose`.
        seeds: how many, from that of the config on.
        curve: scores along a run.

    Returns:
        The sweep.
    """
    cases = tuple(
        replace(case, product={field: (value,) for field, value in chosen[case.name].items()})
        for case in declared.cases
        if case.name in chosen
    )
    return replace(declared, seeds=seeds, cases=cases, curve=curve)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows for the screen, and what they say of gradient descent.

    Args:
        rows: one a method and problem. `seconds` are those of a seed beside the others, without compiling and judging,
            on a machine that may have had other work. `ahead` is by how much it ends ahead of random search, paired by
            seed; `share` the lifetimes after which gradient descent is where the best search ends, as a share of those
            after which that search is there itself. Lifetimes with their gradient count at their cost.

    Returns:
        Lines.
    """
    return "\n".join([*lines_of(rows), *(_chase(row) for row in rows if row["best_search"])])


def _chase(row: Mapping[str, Any]) -> str:
    """After how many lifetimes gradient descent is where the best search ends."""
    where = f"{row['family']}, {row['terms']} terms: gradient descent"
    if row["share"] is None:
        return f"{where} does not reach the final score of {row['best_search']}"
    return f"{where} reaches the final score of {row['best_search']} with {row['share']:.3f} of the lifetimes"


@figures.drawn_last()
def _serve(words: list[str]) -> int:
    flags = [word for word in words if word in (_QUICK, _RETRY)]
    options = decode(dict(parse_overrides([word for word in words if word not in flags])), Options)
    check_place(options.json)
    root = Path(f"{options.directory}-quick" if _QUICK in flags else options.directory)
    rows: list[dict[str, Any]] = []
    races: dict[str, list[Racer]] = {}
    for family in FAMILIES[:1] if _QUICK in flags else FAMILIES:
        if status := _race(family, root, options, flags):
            return status
        races[family] = read_race(root / family, _costs(root / family))
        rows += _rows(family, races[family])
    draw_races(root / _FIGURE, races)
    print(f"\n{table(rows)}\n\nfigure: {root / _FIGURE}")
    write_rows(options.json, rows)
    return 0


def _race(family: str, root: Path, options: Options, flags: list[str]) -> int:
    """Tune every method on a family, and run each as it does best; the quick form is not tuned."""
    file, tuning = _FOLDER / f"search-{family}.toml", root / f"{family}-tuning"
    declared, _ = read_sweep(file)
    if _QUICK in flags:
        chosen = {case.name: {field: values[0] for field, values in case.product.items()} for case in declared.cases}
    else:
        status = sweep.main([str(file), "--directory", str(tuning), *flags])
        if status:  # a method whose settings were not all run would be tuned less than the others
            return status
        chosen = choose(tuning)
    race = tuned(declared, chosen, options.seeds, options.curve)
    again = " ".join(["python -m benchmarks.search --directory", quote(options.directory), *flags])
    return sweep.run(race, file.parent / declared.config, root / family, flags, again)


def _costs(directory: Path) -> dict[str, float]:
    """What a lifetime with its gradient costs in each case that takes one; measured once and kept."""
    file = directory / "costs.json"
    known = read_json(file)
    if known is None:
        settings = read_json(directory / PLAN)["settings"]
        experiments = {one["values"]["case"]: decode(one["experiment"], Experiment) for one in settings}
        descents = {case: one for case, one in experiments.items() if isinstance(one.optimizer, Gradient)}
        known = {case: relative_cost(one) for case, one in descents.items()}
        write_json(file, known)
    return dict(known)


def _rows(family: str, racers: Sequence[Racer]) -> Iterator[dict[str, Any]]:
    for racer in racers:
        others = {one.method: one for one in racers if one.terms == racer.terms and one.method != racer.method}
        best = (
            max(others.values(), key=lambda one: _or_worst(_final(one)), default=None)
            if racer.method == _GRADIENT
            else None
        )
        score = _final(best) if best else np.inf
        there, then = reached(racer, score), reached(best, score) if best else None
        control = others.get(_RANDOM)
        ahead = lead(racer, control) if control else (None, None, None)
        end = interquartile(racer.learning_curves[:, -1], share=True)
        yield {
            "family": family,
            "terms": racer.terms,
            "method": racer.method,
            "seeds": len(racer.seeds),
            "score": end.mean,
            "low": end.low,
            "high": end.high,
            "lives": float(racer.lifetimes[-1]),
            "seconds": float(racer.seconds[-1]),
            "ahead": ahead[0],
            "ahead_low": ahead[1],
            "ahead_high": ahead[2],
            "best_search": best.method if best else None,
            "share": there / then if there and then else None,
            "setting": racer.setting,
        }


def _final(racer: Racer) -> float:
    return interquartile(racer.learning_curves[:, -1]).mean


def _or_worst(value: float) -> float:
    return value if np.isfinite(value) else -np.inf


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
