"""Comparison of several learners on the same tasks, orders and initial weights."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from metarule.analysis.evaluation import Curves, evenly_spaced, paired_curves
from metarule.analysis.statistics import NO_INTERVAL, interval, interval_text, steps_to_threshold
from metarule.lifetime.learner import Lifetime
from metarule.protocols import Learner
from metarule.tasks.base import primary_metric, round_steps
from metarule.tasks.pools import MixturePool, splits_of_families
from metarule.tasks.scores import DIVERGED
from metarule.types import PRNGKey, Split, Theta

__all__ = [
    "HELD_OUT",
    "HORIZONS",
    "INITIAL",
    "LEARNED",
    "NOTHING_HELD_OUT",
    "SHOTS",
    "THRESHOLD",
    "Contender",
    "by_task",
    "compare",
    "count_text",
    "describe_split",
    "difference_text",
    "evaluation_steps",
    "held_out_report",
    "held_out_table",
    "join_descriptions",
    "join_reports",
    "rows_by_contender",
    "rows_table",
    "shot_points",
    "summarise",
    "threshold_of",
]

# Names of two contenders: the learned rule and its initial value. All others are baselines.
LEARNED, INITIAL = "learned", "initial"
# Default score of `steps_to_threshold`.
THRESHOLD = 0.9
# Descriptions of test tasks, relative to the training tasks of the same split.
HELD_OUT, NOTHING_HELD_OUT = "held-out tasks", "training tasks (nothing held out)"
# Multiples of the length of a lifetime at which a rule is evaluated: rules learned on short lifetimes may fail later.
HORIZONS = (2, 5, 20)
# Examples of each class after which classifications are evaluated, as in few-shot learning.
SHOTS = (1, 3, 5)


class Contender(NamedTuple):
    """A learner that is compared, and its θ."""

    learner: Learner
    theta: Theta


def evaluation_steps(learner: Learner, points: int, horizons: Sequence[int] = ()) -> tuple[int, ...]:
    """Steps after which networks are evaluated, in ascending order without step 0.

    Args:
        learner: the learner.
        points: number of evenly spaced steps, besides those after 1, 3 and 5 examples of each class.
        horizons: multiples of the length of a lifetime at which a network that continues to learn is evaluated.
    """
    length = learner.steps
    after_shots = {round_steps(learner.tasks) * shots for shots in SHOTS}
    within = {end for end in (*evenly_spaced(length, points), *after_shots) if 0 < end <= length}
    return tuple(sorted(within | {length * horizon for horizon in horizons}))


def compare(
    contenders: Mapping[str, Contender],
    pool: Any,
    key: PRNGKey,
    lifetimes: int,
    points: tuple[int, ...],
    tasks: int | None = None,
) -> dict[str, Curves]:
    """Compute curves of each contender on the same lifetimes; arguments as of `learning_curves`."""
    learners, thetas = zip(*contenders.values(), strict=True)
    curves = jax.device_get(paired_curves(learners, thetas, pool, key, lifetimes, points, tasks))
    return dict(zip(contenders, curves, strict=True))


def by_task(curves: Curves, metric: str, balanced: bool = True) -> Float[np.ndarray, "tasks points"]:
    """Average a metric over the networks of each task, because only tasks are independent.

    Args:
        curves: of many lifetimes.
        metric: name of the metric.
        balanced: whether values vᵢ of a mixture become m + wᵢ·(vᵢ − m), whose mean is m = Σ wᵢvᵢ / Σ wᵢ with the
            standard error of m; by the weights wᵢ, 1 in the mean, each family counts as much as the others.
    """
    values = np.asarray(curves.metrics[metric], float)
    tasks, index, counts = np.unique(curves.task, return_inverse=True, return_counts=True)
    sums = np.zeros((tasks.size, values.shape[1]))
    np.add.at(sums, index, values)
    means = sums / counts[:, None]
    if curves.family is None or not balanced:
        return means
    weights = np.bincount(index, 1 / np.bincount(curves.family)[curves.family])[:, None]
    mean = np.sum(weights * means, axis=0) / weights.sum()
    return mean + weights / weights.mean() * (means - mean)


def shot_points(steps: Sequence[int], per_round: int) -> dict[int, int]:
    """Index of the point after 1, 3 and 5 examples of each class, by number of examples, for points that exist.

    Args:
        steps: steps before each point.
        per_round: steps of one example of each class; 0 if steps are not in rounds.
    """
    return {shots: steps.index(per_round * shots) for shots in SHOTS if per_round and per_round * shots in steps}


def summarise(
    curves: Mapping[str, Curves], learner: Learner, threshold: float, reference: str
) -> dict[str, dict[str, Any]]:
    """Summarise curves of several contenders on the same lifetimes; all intervals are over tasks.

    Args:
        curves: from `compare`.
        learner: one of the learners; it gives the length of a lifetime, the primary metric and the steps of a round.
        threshold: score of `steps_to_threshold`.
        reference: contender with which the others are compared.

    Returns:
        By contender: `mean`, `low` and `high` of the score at the end of a lifetime; the means of the other metrics;
        `diverged`, the number of diverged networks; `steps_to_threshold`, the step from which the mean score stays at
        the threshold; `shots`, the score after 1, 3 and 5 examples of each class; `horizon`, the score after multiples
        of the length of a lifetime; and, except for the reference, `difference`: final score of the reference − own
        final score, paired.
    """
    metric, length = primary_metric(learner.tasks), learner.steps
    steps = curves[reference].steps.tolist()
    end = steps.index(length)
    scores = {name: by_task(curve, metric) for name, curve in curves.items()}
    rows = {}
    for name, curve in curves.items():
        values, finals = scores[name], {metric: each[:, end] for metric, each in curve.metrics.items()}
        row = _share(values[:, end]) | {other: float(each.mean()) for other, each in finals.items() if other != metric}
        row[DIVERGED] = int(finals[DIVERGED].sum())
        row["steps_to_threshold"] = steps_to_threshold(values[:, : end + 1], steps[: end + 1], threshold)._asdict()
        after_shots = shot_points(steps, round_steps(learner.tasks))
        row["shots"] = {str(shots): _share(values[:, point]) for shots, point in after_shots.items()}
        row["horizon"] = {}
        for point in range(end, len(steps)) if len(steps) > end + 1 else ():
            diverged = int(curve.metrics[DIVERGED][:, point].sum())
            row["horizon"][str(steps[point] // length)] = _share(values[:, point]) | {DIVERGED: diverged}
        if name != reference:
            row["difference"] = interval(scores[reference][:, end] - values[:, end])._asdict()
        rows[name] = row
    return rows


def held_out_report(
    lifetime: Lifetime,
    curves: Mapping[str, Curves],
    tuning: Mapping[str, Mapping[str, Any]],
    of: str,
    threshold: float = THRESHOLD,
) -> dict[str, Any]:
    """Make the held-out part of a summary: the row of each contender from `summarise`, baselines in their own table.

    Args:
        lifetime: the learner of the learned rule.
        curves: by contender, `learned` and `initial` among them.
        tuning: results of the tuning of each baseline.
        of: description of the tasks, from `describe_split`.
        threshold: score of `steps_to_threshold`.
    """
    rows = summarise(curves, lifetime, threshold, LEARNED)
    return {
        "metric": primary_metric(lifetime.tasks),
        "of": of,
        "tasks": len(np.unique(curves[LEARNED].task)),
        "lifetimes": len(curves[LEARNED].task),
        "threshold": threshold,
        LEARNED: rows[LEARNED],
        INITIAL: rows[INITIAL],
        "baselines": {name: rows[name] | dict(entries) for name, entries in tuning.items()},
    }


def join_reports(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join the held-out parts of runs that differ only in their seed; all intervals are over seeds.

    Each seed draws a new split, so that tasks are nested in seeds. The mean of a seed is one independent value; its
    spread over seeds includes that of its tasks.

    Args:
        reports: from `held_out_report`, one for each seed.

    Returns:
        One such part, with the scores of each contender as `by_seed`. `tasks` counts those of one seed.
        `steps_to_threshold`, `shots` and metrics besides the primary one are left out.
    """
    by_seed, first = [rows_by_contender(report) for report in reports], reports[0]
    learned = [rows[LEARNED] for rows in by_seed]
    rows = {name: _joined([rows[name] for rows in by_seed], learned) for name in by_seed[0]}
    del rows[LEARNED]["difference"]
    return {
        "metric": first["metric"],
        "of": first["of"],
        "seeds": len(reports),
        "tasks": first["tasks"],
        "lifetimes": sum(report["lifetimes"] for report in reports),
        LEARNED: rows.pop(LEARNED),
        INITIAL: rows.pop(INITIAL),
        "baselines": rows,
    }


def describe_split(split: Split) -> str:
    """Describe the test tasks of a split: new ones, or the training tasks if the family holds nothing out."""
    if isinstance(split.train, MixturePool):
        return join_descriptions(map(describe_split, splits_of_families(split)))
    leaves = zip(*([_numbers(leaf) for leaf in jax.tree.leaves(pool)] for pool in split), strict=True)
    return NOTHING_HELD_OUT if all(np.array_equal(one, other) for one, other in leaves) else HELD_OUT


def join_descriptions(descriptions: Iterable[str]) -> str:
    """Join the descriptions of the tasks of several families, each once."""
    return " and ".join(dict.fromkeys(descriptions))


def _numbers(leaf: Array) -> np.ndarray:
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def rows_by_contender(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of the held-out part of a summary by contender, in the order of tables."""
    return {LEARNED: report[LEARNED], **report["baselines"], INITIAL: report[INITIAL]}


def threshold_of(report: Mapping[str, Any]) -> float | None:
    """Threshold of a report, from the steps to which it is counted; None if no contender stays at it."""
    rows = (report["contenders"] if "contenders" in report else rows_by_contender(report)).values()
    counted = [row.get("steps_to_threshold", {}).get("at") for row in rows]
    return None if counted.count(None) == len(counted) else report["threshold"]


def held_out_table(report: Mapping[str, Any]) -> str:
    """Format a `held_out_report`, or several joined, for the screen; it warns if learning made the rule worse."""
    units = "seeds" if "seeds" in report else "tasks"
    rows = {
        name + (f" (rate {row['learning_rate']:.3g})" if row.get("learning_rate") else ""): row
        for name, row in rows_by_contender(report).items()
    }
    title = f"{report['of']}, {count_text(report[units], units)}"
    lines = [rows_table(title, report["metric"], rows, report.get("threshold"))]
    gain = report[INITIAL]["difference"]
    if gain["mean"] < 0:
        lines.append(f"the learned rule ends below its initial rule: {difference_text(gain)}")
    return "\n".join(lines)


def count_text(count: int, units: str) -> str:
    """A count with its unit, as in `1 task` or `8 tasks`."""
    return f"{count} {units if count != 1 else units.removesuffix('s')}"


def rows_table(
    title: str, metric: str, rows: Mapping[str, Mapping[str, Any]], threshold: float | None, reference: str = ""
) -> str:
    """Format rows of `summarise` for the screen.

    Args:
        title: of the column of names; a long one has a line of its own.
        metric: name of the primary metric.
        rows: by name, the reference of the differences first; shots and horizons are shown that all of them have.
        threshold: score of `steps_to_threshold`; None if the rows lack it.
        reference: its name in the head of the differences; empty for that of its row.
    """
    leader = next(iter(rows.values()))
    reference = reference or next(iter(rows)).partition(" (")[0]
    shots, horizons = (
        [at for at in leader.get(name, ()) if all(at in row.get(name, ()) for row in rows.values())]
        for name in ("shots", "horizon")
    )
    width = max(34, *(len(name) for name in rows))
    over, title = (title + "\n", "") if len(title) > width + 2 else ("", title)
    head = f"{over}{title:<{width + 2}}{metric:>9}   {'95 % interval':<18}  {f'{reference} − other':<28}{'diverged':>8}"
    head += "" if threshold is None else f"{f'to {threshold:g}':>8}"
    lines = [head + "".join(f"{f'{shot} each':>8}" for shot in shots)]
    for name, row in rows.items():
        difference = difference_text(row["difference"]) if "difference" in row else ""
        line = f"  {name:<{width}}{row['mean']:>9.4f}   {interval_text(row['low'], row['high']):<18}  "
        line += f"{difference:<28}{row[DIVERGED]:>8}"
        if threshold is not None:
            step = row["steps_to_threshold"]["at"]
            line += f"{'never' if step is None else step:>8}"
        lines.append(line + "".join(f"{row['shots'][shot]['mean']:>8.3f}" for shot in shots))
    if threshold is not None:
        each = "; each: examples of each class" if shots else ""
        lines.append(f"(to {threshold:g}: steps until the mean score stays at {threshold:g} or more{each})")
    if horizons:
        lines += ["", f"{'after multiples of a lifetime':<{width + 2}}" + "".join(f"{at + ' ×':>9}" for at in horizons)]
        for name, row in rows.items():
            lines.append(f"  {name:<{width}}" + "".join(f"{row['horizon'][at]['mean']:>9.4f}" for at in horizons))
    return "\n".join(lines)


def _joined(rows: Sequence[Mapping[str, Any]], learned: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Row of a contender over seeds, with its difference from the learned rule, paired by seed."""
    finals, learned_finals = ([row["mean"] for row in some] for some in (rows, learned))
    horizon = {}
    for at in rows[0]["horizon"]:
        diverged = sum(row["horizon"][at][DIVERGED] for row in rows)
        horizon[at] = _share([row["horizon"][at]["mean"] for row in rows]) | {DIVERGED: diverged}
    difference = interval(np.subtract(learned_finals, finals))._asdict()
    diverged = sum(row[DIVERGED] for row in rows)
    return _share(finals) | {"by_seed": finals, DIVERGED: diverged, "horizon": horizon, "difference": difference}


def _share(values: Sequence[float] | Float[np.ndarray, " units"]) -> dict[str, Any]:
    """Mean and interval of a score between 0 and 1."""
    return interval(np.asarray(values), share=True)._asdict()


def difference_text(difference: Mapping[str, float]) -> str:
    """Format a difference and its interval, as in `+0.0310 [+0.0120, +0.0500]`."""
    text = interval_text(difference["low"], difference["high"], "+.4f", ", ")
    return f"{difference['mean']:+.4f} {text if text == NO_INTERVAL else f'[{text}]'}"
