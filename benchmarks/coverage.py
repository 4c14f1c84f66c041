"""Coverage of 95 % intervals: `python -m benchmarks.coverage [--quick] [--json FILE]`.

Networks are simulated, not trained: tasks and seeds differ in difficulty, each network solves some of the examples of
its task, and scores rise along a lifetime, so that the truth is known. The functions of a run make the intervals.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from msgspec import Meta, Struct
from scipy.special import ndtri
from tqdm import tqdm

from benchmarks import program
from benchmarks.studies.laws import CLOSED, fit
from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial
from metarule.analysis.comparison import HELD_OUT, INITIAL, LEARNED, held_out_report, join_reports
from metarule.analysis.evaluation import Curves
from metarule.analysis.statistics import threshold_point
from metarule.sweeps.report import interquartile
from metarule.sweeps.rows import write_rows
from metarule.tasks.scores import DIVERGED

__all__ = ["Options", "main", "measured"]

_USAGE = """\
Simulate the scores of runs whose true means are known, and print the coverage of each kind of interval that metarule
prints. That of a 95 % interval should be .93 to .97; that of `steps_to_threshold`, which can only be one of the
evaluated points, at least .93. It takes three minutes on two cores.

--quick                            a fifth of the simulations
"""
# Evaluated points of a lifetime, and of one that is twice and 20 times as long.
_POINTS, _LENGTH = (0, 25, 50, 75, 100, 200, 2000), 100
_END = _POINTS.index(_LENGTH)
# Threshold, which the learned rule reaches after 75 steps.
_THRESHOLD = 0.85
# Networks on a task, examples on which each is evaluated, and tasks of a seed.
_NETWORKS, _EXAMPLES, _TASKS = 8, 8, 32
# Score of a task of mean difficulty at each point, by contender, in logits.
_LEVELS = {LEARNED: (-1.0, 1.0, 2.0, 2.6, 3.0, 3.1, 2.0), INITIAL: (-1.0, 0.2, 0.8, 1.0, 1.2, 1.3, 1.3)}
# Standard deviations, in logits, of tasks, of contenders on a task, and of seeds.
_BY_TASK, _BY_PAIR, _BY_SEED = 1.0, 0.5, 0.3
# Numbers of training tasks of a study, and the power law of its gap.
_NUMBERS, _SCALE, _EXPONENT, _NOISE = (1, 2, 5, 10, 20, 50, 100), 0.2, 0.7, 0.02
_LEARNER = Lifetime(
    rule=Polynomial(), circuit=Feedforward(hidden=()), tasks=Boolean(inputs=2), inner_loop=InnerLoop(steps=_LENGTH)
)

# Whether each interval holds the truth; None where there is no interval.
_Verdicts = dict[str, bool | None]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Simulations.

    Attributes:
        simulations: of each kind of interval and sample size.
        json: file for the rows of the table; none if empty.
    """

    simulations: Annotated[int, Meta(ge=10, le=1_000_000)] = 1000
    json: str = ""


def _serve(options: Options, flags: list[str]) -> int:
    cases = tqdm(_CASES, desc="simulating", unit="case", disable=None)
    rows = [row for kind, size in cases for row in measured(kind, size, options.simulations)]
    print(program.table(rows))
    write_rows(options.json, rows)
    return 0


def measured(kind: str, size: int, simulations: int) -> list[dict[str, Any]]:
    """Measure the coverage of a kind of interval.

    Args:
        kind: over what the intervals are taken: `tasks`, `seeds`, `seeds, trimmed` or `seeds, power law`.
        size: number of tasks or seeds.
        simulations: number of simulations.

    Returns:
        One row an interval. `coverage` is the share of intervals that hold the truth, `none` the share of simulations
        without an interval, since all values were equal.
    """
    verdicts = [_KINDS[kind](np.random.default_rng([size, number]), size) for number in range(simulations)]
    rows = []
    for name in verdicts[0]:
        held = [verdict for one in verdicts if (verdict := one[name]) is not None]
        shares = {"coverage": float(np.mean(held)), "none": 1 - len(held) / simulations}
        rows.append({"interval": name, "over": kind, "size": size, **shares, "simulations": simulations})
    return rows


def _over_tasks(rng: np.random.Generator, size: int) -> _Verdicts:
    report = held_out_report(_LEARNER, _curves(rng, size, 0.0), {}, HELD_OUT, _THRESHOLD)
    true = threshold_point(_truth(LEARNED, 0.0)[: _END + 1], _POINTS[: _END + 1], _THRESHOLD)
    steps = report[LEARNED]["steps_to_threshold"]
    low, high = (np.inf if end is None else end for end in (steps["low"], steps["high"]))
    return _verdicts(report, 0.0) | {"steps_to_threshold": bool(low <= (np.inf if true is None else true) <= high)}


def _over_seeds(rng: np.random.Generator, size: int) -> _Verdicts:
    """Seeds with tasks of their own."""
    reports = [held_out_report(_LEARNER, _curves(rng, _TASKS, _BY_SEED), {}, HELD_OUT) for _ in range(size)]
    return _verdicts(join_reports(reports), _BY_SEED)


def _trimmed(rng: np.random.Generator, size: int) -> _Verdicts:
    """Scores of seeds that are not normal: the better, the closer together."""
    middle = _sigmoid(2.0 + _BY_SEED * ndtri(np.linspace(0.25, 0.75, 1001))).mean()
    interval = interquartile(_sigmoid(2.0 + _BY_SEED * rng.normal(size=size)))
    return {"interquartile mean": _holds(interval._asdict(), middle)}


def _power_law(rng: np.random.Generator, size: int) -> _Verdicts:
    gaps = _SCALE * np.array(_NUMBERS, float) ** -_EXPONENT + rng.normal(0, _NOISE, (size, len(_NUMBERS)))
    truth = {"scale": _SCALE, "exponent": _EXPONENT, "closed": (_SCALE / CLOSED) ** (1 / _EXPONENT)}
    fitted = fit(_NUMBERS, gaps)._asdict()
    return {name: _holds(fitted[name]._asdict(), value) for name, value in truth.items()}


def _curves(rng: np.random.Generator, tasks: int, by_seed: float) -> dict[str, Curves]:
    """Simulated scores of both contenders on the same tasks, under one seed."""
    hard, task = rng.normal(0, _BY_TASK, tasks), np.repeat(np.arange(tasks), _NETWORKS)
    curves = {}
    for name, levels in _LEVELS.items():
        shift = rng.normal(0, _BY_PAIR, tasks) + rng.normal(0, by_seed)
        right = rng.binomial(_EXAMPLES, _sigmoid(np.add.outer((hard + shift)[task], levels)))
        metrics: Any = {"solved": right / _EXAMPLES, DIVERGED: np.zeros(right.shape)}
        curves[name] = Curves(np.array(_POINTS), metrics, task)  # type: ignore[arg-type]
    return curves


def _truth(name: str, by_seed: float) -> Float[np.ndarray, " points"]:
    """Mean score of a contender over all tasks and seeds at each point, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = np.sqrt(_BY_TASK**2 + _BY_PAIR**2 + by_seed**2)
    return weights @ _sigmoid(np.add.outer(spread * nodes, _LEVELS[name])) / weights.sum()


def _verdicts(report: Mapping[str, Any], by_seed: float) -> _Verdicts:
    learned, initial = (_truth(name, by_seed) for name in (LEARNED, INITIAL))
    return {
        "score": _holds(report[LEARNED], learned[_END]),
        "difference": _holds(report[INITIAL]["difference"], learned[_END] - initial[_END]),
        "score at 20 ×": _holds(report[LEARNED]["horizon"]["20"], learned[-1]),
    }


def _holds(row: Mapping[str, float], true: float) -> bool | None:
    return None if np.isnan(row["low"]) else bool(row["low"] <= true <= row["high"])


def _sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


_KINDS: dict[str, Callable[[np.random.Generator, int], _Verdicts]] = {
    "tasks": _over_tasks,
    "seeds": _over_seeds,
    "seeds, trimmed": _trimmed,
    "seeds, power law": _power_law,
}
_CASES = [
    *(("tasks", size) for size in (3, 5, 10, 20, 128)),
    *((kind, size) for kind in ("seeds", "seeds, trimmed") for size in (3, 5, 10, 20)),
    ("seeds, power law", 10),
]
main = program.command(
    "benchmarks.coverage", _USAGE, Options, _serve, {"simulations": 200}, interrupted="nothing was written"
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
