"""Gradient descent against searches on equal terms: `python -m benchmarks.search [--quick] [--json FILE]`."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from msgspec.structs import replace

from benchmarks import program
from benchmarks.program import QUICK
from benchmarks.races import COSTS, Racer, cost_to, draw_races, read_race, relative_cost, scores_at
from metarule.analysis.statistics import Interval
from metarule.commands import sweep
from metarule.config.toml import decode
from metarule.meta import Gradient
from metarule.runs import figures
from metarule.runs.experiment import Experiment
from metarule.runs.files import json_text, read_json
from metarule.runs.sweep_files import PLAN
from metarule.sweeps.declaration import Sweep, read_sweep
from metarule.sweeps.report import interquartile, make_report, paired
from metarule.sweeps.rows import write_rows, write_whole

__all__ = ["FAMILIES", "Options", "choose", "main", "table", "tuned"]

_USAGE = """\
Race gradient descent against searches without gradients from the same initial theta, on Boolean functions and on
conditioning, with rules of 7, 16 and 81 terms. Each method is tuned first: the settings of
benchmarks/sweeps/search-boolean.toml and search-conditioning.toml, eight a method, are run with seeds of their own, and
the one with the best score on training tasks is raced. The table shows the held-out score, lifetimes and seconds, and
the figure the score against lifetimes. It takes half an hour on two cores. A second start goes on where the first was
stopped; several processes share the work.

--quick                            two methods that are not tuned, two seeds, few meta-steps: under a minute
--retry                            run failed cells again
"""
FAMILIES = ("boolean", "conditioning")
_FOLDER = Path(__file__).parent / "sweeps"
_FIGURE = "search.png"
# Names in the sweep files of the methods that others are compared with.
_GRADIENT, _RANDOM = "gradient", "random search"


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Races.

    Attributes:
        directory: for sweeps and the figure.
        json: file for the rows of the table; none if empty.
        seeds: seeds of each race, from 0; methods are tuned with others.
        curve: scores along a run.
    """

    directory: Annotated[str, Meta(min_length=1)] = "runs/search"
    json: str = ""
    seeds: Annotated[int, Meta(ge=1, le=100)] = 10
    curve: Annotated[int, Meta(ge=2, le=1000)] = 24


def choose(directory: Path) -> dict[str, dict[str, Any]]:
    """Choose the best setting of each case of a finished sweep by its score on training tasks.

    The mean score over seeds decides, and among equal scores the mean meta-loss.

    Returns:
        By name of the case, the values that its setting has beyond those of the case.

    Raises:
        ConfigError: a directory without a sweep, or a sweep without a finished cell.
    """
    report, settings = make_report(directory), read_json(directory / PLAN)["settings"]
    values: dict[tuple[str, str], list[float]] = {}
    for row in report.rows:
        values.setdefault((row["setting"], row["metric"]), []).append(np.nan if row["value"] is None else row["value"])

    def rank(setting: Mapping[str, Any]) -> tuple[float, float]:
        metrics = (f"training_{report.score}", "meta_loss")
        score, loss = (float(np.mean(values.get((setting["label"], metric), np.nan))) for metric in metrics)
        return _or_worst(score), _or_worst(-loss)

    cases = dict.fromkeys(setting["values"]["case"] for setting in settings)
    best = {case: max((one for one in settings if one["values"]["case"] == case), key=rank) for case in cases}
    return {
        case: {field: value for field, value in setting["values"].items() if field != "case"}
        for case, setting in best.items()
    }


def tuned(declared: Sweep, chosen: Mapping[str, Mapping[str, Any]], seeds: int, curve: int) -> Sweep:
    """Sweep of the race: each case of the sweep that tuned them with the values that `choose` returns."""
    cases = tuple(
        replace(case, product={field: (value,) for field, value in chosen[case.name].items()})
        for case in declared.cases
        if case.name in chosen
    )
    return replace(declared, seeds=seeds, cases=cases, curve=curve)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the rows for the screen, with a line on each problem of gradient descent.

    In each row, `seconds` are those of a seed in the joint program, without compiling and scoring; `difference` is that
    of the final score from random search, paired by seed; `share_of_lifetimes` are those after which gradient descent
    has the final score of the best search, over those of that search; `at_equal_lifetimes` is the score after as many
    lifetimes as all methods had, and so for seconds. A lifetime with its gradient counts as its cost.
    """
    lines = [program.table(rows)]
    for row in rows:
        if best := row["best_search"]:
            start = f"{row['family']}, {row['terms']} terms: gradient descent"
            if row["share_of_lifetimes"] is None:
                lines.append(f"{start} does not reach the final score of {best}")
            else:
                shares = " and ".join(f"{row[f'share_of_{cost}']:.3f} of the {cost}" for cost in COSTS)
                lines.append(f"{start} reaches the final score of {best} with {shares}")
    return "\n".join(lines)


@figures.drawn_last()
def _serve(options: Options, flags: list[str]) -> int:
    root = Path(f"{options.directory}-quick" if QUICK in flags else options.directory)
    rows: list[dict[str, Any]] = []
    races: dict[str, list[Racer]] = {}
    for family in FAMILIES[:1] if QUICK in flags else FAMILIES:
        if status := _race(family, root, options, flags):
            return status
        races[family] = read_race(root / family, _costs(root / family))
        rows += _rows(family, races[family])
    draw_races(root / _FIGURE, races)
    print(f"\n{table(rows)}\n\nfigure: {root / _FIGURE}")
    write_rows(options.json, rows)
    return 0


def _race(family: str, root: Path, options: Options, flags: list[str]) -> int:
    """Tune every method on a family, and race each with its best setting; the quick form is not tuned."""
    file, tuning = _FOLDER / f"search-{family}.toml", root / f"{family}-tuning"
    declared, _ = read_sweep(file)
    if QUICK in flags:
        chosen = {case.name: {field: values[0] for field, values in case.product.items()} for case in declared.cases}
    else:
        status = sweep.main([str(file), "--directory", str(tuning), *flags])
        if status:  # a method with failed settings would be tuned less than the others
            return status
        chosen = choose(tuning)
    race = tuned(declared, chosen, options.seeds, options.curve)
    again = " ".join(["python -m benchmarks.search --directory", quote(options.directory), *flags])
    return sweep.run(race, file.parent / declared.config, root / family, flags, again)


def _costs(directory: Path) -> dict[str, float]:
    """Cost of a lifetime with its gradient in each case that has one; measured once."""
    file = directory / "costs.json"
    known = read_json(file)
    if known is None:
        settings = read_json(directory / PLAN)["settings"]
        experiments = {one["values"]["case"]: decode(one["experiment"], Experiment) for one in settings}
        known = {case: relative_cost(one) for case, one in experiments.items() if isinstance(one.optimizer, Gradient)}
        write_whole(file, json_text(known))
    return dict(known)


def _rows(family: str, racers: Sequence[Racer]) -> Iterator[dict[str, Any]]:
    for racer in racers:
        others = {one.method: one for one in racers if one.terms == racer.terms and one.method != racer.method}
        best, shares = None, dict.fromkeys(f"share_of_{cost}" for cost in COSTS)
        if racer.method == _GRADIENT and others:
            best = max(others.values(), key=lambda one: _or_worst(_middle(one.final).mean))
            for cost in COSTS:
                own, other = (cost_to(one, _middle(best.final).mean, cost) for one in (racer, best))
                shares[f"share_of_{cost}"] = own / other if own and other else None
        control, end = others.get(_RANDOM), _middle(racer.final)
        apart = (control and paired(racer.final, control.final)) or (None, None, None)
        row = {"family": family, "terms": racer.terms, "method": racer.method, "seeds": len(racer.seeds)}
        row |= {"score": end.mean, "low": end.low, "high": end.high}
        row |= {"lifetimes": float(racer.lifetimes[-1]), "seconds": float(racer.seconds[-1])}
        row |= dict(zip(("difference", "difference_low", "difference_high"), apart, strict=True))
        for cost in COSTS:  # all have as much as the one that has least
            budget = min(float(getattr(one, cost)[-1]) for one in (racer, *others.values()))
            equal = _middle(scores_at(racer, budget, cost))
            row |= {f"at_equal_{cost}": equal.mean, f"{cost}_low": equal.low, f"{cost}_high": equal.high}
        yield row | {"best_search": best.method if best else None} | shares | {"setting": racer.setting}


def _middle(scores: Mapping[int, float]) -> Interval:
    return interquartile(np.array(list(scores.values())), share=True)


def _or_worst(value: float) -> float:
    return value if np.isfinite(value) else -np.inf


main = program.command(
    "benchmarks.search", _USAGE, Options, _serve, {}, (QUICK, "--retry"), True, "finished cells are kept"
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
