"""Several learners on the same tasks, from the same weights, in the same order: who is better, and by how much."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from metarule.analysis.evaluation import Curves, learning_curves, spread
from metarule.analysis.statistics import NO_SPAN, interval, span, steps_to_threshold
from metarule.lifetime.learner import Lifetime
from metarule.tasks.base import primary_metric, round_steps
from metarule.tasks.scores import DIVERGED
from metarule.types import Learner, PRNGKey, Split, Theta

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
    "contenders_of",
    "count_text",
    "describe_split",
    "few_shots",
    "held_out",
    "join",
    "points_of",
    "rows_table",
    "signed",
    "summarise",
    "table",
]

# The learned rule, and the rule that it started from, among contenders; the others are baselines.
LEARNED, INITIAL = "learned", "initial"
# Score to be reached, where nobody says which.
THRESHOLD = 0.9
# What test tasks are to the rule that was learned on the training tasks of the same split.
HELD_OUT, NOTHING_HELD_OUT = "held-out tasks", "training tasks (nothing held out)"
# Multiples of the length of a lifetime at which a rule is judged: one that was learned on short ones may fail later.
HORIZONS = (2, 5, 20)

# Examples of each class after which a classification is read, as in few-shot learning.
SHOTS = (1, 3, 5)


class Contender(NamedTuple):
    """Who is compared.

    Attributes:
        learner: who lives.
        theta: under which θ.
    """

    learner: Learner
    theta: Theta


def points_of(learner: Learner, points: int, horizons: Sequence[int] = ()) -> tuple[int, ...]:
    """Steps after which a network is assessed.

    Args:
        learner: who lives.
        points: how many are evenly spread over a lifetime, besides those after 1, 3 and 5 examples of each class.
        horizons: multiples of its length after which a network that goes on learning is assessed, too.

    Returns:
        The steps, in order, birth left out.
    """
    length = learner.steps
    few = {round_steps(learner.tasks) * shots for shots in SHOTS}
    within = {end for end in (*spread(length, points), *few) if 0 < end <= length}
    return tuple(sorted(within | {length * horizon for horizon in horizons}))


def compare(
    contenders: Mapping[str, Contender],
    pool: Any,
    key: PRNGKey,
    lifetimes: int,
    points: tuple[int, ...],
    tasks: int | None = None,
) -> dict[str, Curves]:
    """Scores along the lifetimes of each contender; all are given the same key. Arguments as of `learning_curves`."""
    return {
        name: jax.device_get(learning_curves(one.learner, one.theta, pool, key, lifetimes, points, tasks))
        for name, one in contenders.items()
    }


def by_task(seen: Curves, metric: str) -> Float[np.ndarray, "tasks points"]:
    """Average a metric over the networks that met the same task, for tasks alone are independent of each other."""
    values = np.asarray(seen.metrics[metric], float)
    met, where, counts = np.unique(seen.task, return_inverse=True, return_counts=True)
    sums = np.zeros((met.size, values.shape[1]))
    np.add.at(sums, where, values)
    return sums / counts[:, None]


def few_shots(where: Sequence[int], round_steps: int) -> dict[int, int]:
    """Places among points at which 1, 3 and 5 examples of each class had been met, by that number.

    Args:
        where: steps at each point.
        shot: steps of one example of each class; 0 where there is no such thing.

    Returns:
        Those of the places that there are.
    """
    return {shots: where.index(round_steps * shots) for shots in SHOTS if round_steps and round_steps * shots in where}


def summarise(seen: Mapping[str, Curves], learner: Learner, threshold: float, first: str) -> dict[str, dict[str, Any]]:
    """Summarise curves of several contenders on the same lifetimes; all intervals are over tasks.

    Args:
        seen: as from `compare`.
        learner: one of them; it tells the length of a lifetime, the score and the examples of each class.
        threshold: score to be reached.
        first: with whom the others are compared.

    Returns:
        By contender: mean and interval of the score at the end of a lifetime, the means of the other metrics,
        `diverged`, the number of its networks that did, `reached`, the steps from which on the mean score is at
        least `reach`, `shots`, the score after so many examples of each class, `horizon`, the score after so many times
        the length of a lifetime, and, but for `first`, `behind`: by how much it ends behind `first`, paired.
    """
    score, length = primary_metric(learner.tasks), learner.steps
    where = seen[first].steps.tolist()
    end = where.index(length)
    scores = {name: by_task(one, score) for name, one in seen.items()}
    found = {}
    for name, one in seen.items():
        values, finals = scores[name], {metric: each[:, end] for metric, each in one.metrics.items()}
        row: dict[str, Any] = _share(values[:, end])
        row |= {metric: float(each.mean()) for metric, each in finals.items() if metric != score}
        row[DIVERGED] = int(finals[DIVERGED].sum())
        row["steps_to_threshold"] = steps_to_threshold(values[:, : end + 1], where[: end + 1], threshold)._asdict()
        few = few_shots(where, round_steps(learner.tasks))
        row["shots"] = {str(shots): _share(values[:, place]) for shots, place in few.items()}
        beyond = range(end, len(where)) if len(where) > end + 1 else ()
        row["horizon"] = {
            str(where[place] // length): _share(values[:, place])
            | {DIVERGED: int(one.metrics[DIVERGED][:, place].sum())}
            for place in beyond
        }
        if name != first:
            row["difference"] = interval(scores[first][:, end] - values[:, end])._asdict()
        found[name] = row
    return found


def held_out(
    lifetime: Lifetime,
    seen: Mapping[str, Curves],
    rates: Mapping[str, Mapping[str, Any]],
    of: str,
    threshold: float = THRESHOLD,
) -> dict[str, Any]:
    """Make the held-out part of a summary.

    Args:
        lifetime: who lives under the learned rule.
        seen: curves by contender, `learned` and `initial` among them.
        rates: what is known of the tuning of each baseline.
        of: what the tasks are, such as `describe_split` says.
        threshold: score to be reached.

    Returns:
        What each contender comes to, baselines apart.
    """
    rows = summarise(seen, lifetime, threshold, LEARNED)
    return {
        "metric": primary_metric(lifetime.tasks),
        "of": of,
        "tasks": len(np.unique(seen[LEARNED].task)),
        "lifetimes": len(seen[LEARNED].task),
        "threshold": threshold,
        LEARNED: rows[LEARNED],
        INITIAL: rows[INITIAL],
        "baselines": {name: rows[name] | dict(known) for name, known in rates.items()},
    }


def join(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join the held-out parts of runs that differ in their seed alone; all intervals are over seeds.

    Each seed parts the tasks anew, so that tasks are nested in seeds: the mean of a seed is one independent value,
    whose spread over seeds holds that of its tasks, too.

    Args:
        reports: as from `held_out`, one a seed.

    Returns:
        One such part, in which each contender has its score `by_seed`; `tasks` are those of one seed, and what is
        `reached` or measured besides the score is left to the parts.
    """
    by_name: dict[str, list[Any]] = {
        name: [contenders_of(report)[name] for report in reports] for name in contenders_of(reports[0])
    }
    rows = {name: _joined(rows, by_name[LEARNED]) for name, rows in by_name.items()}
    first = reports[0]
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
    """Say whether the test tasks of a split are new: a family may be asked to hold nothing out."""
    leaves = zip(jax.tree.leaves(split.train), jax.tree.leaves(split.test), strict=True)
    return NOTHING_HELD_OUT if all(bool(jnp.array_equal(one, other)) for one, other in leaves) else HELD_OUT


def contenders_of(held_out: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Who is compared in the held-out part of a summary, by name, in the order in which they are shown."""
    return {LEARNED: held_out[LEARNED], **held_out["baselines"], INITIAL: held_out[INITIAL]}


def table(held_out: Mapping[str, Any]) -> str:
    """Lay out the held-out part of a summary for the screen, and say where learning has made the rule worse.

    Args:
        held_out: of a summary.

    Returns:
        Lines.
    """
    over = "seeds" if "seeds" in held_out else "tasks"
    rows = {
        name + (f" (rate {row['learning_rate']:.3g})" if "learning_rate" in row else ""): row
        for name, row in contenders_of(held_out).items()
    }
    title = f"{held_out['of']}, {count_text(held_out[over], over)}"
    lines = [rows_table(title, held_out["metric"], rows, held_out.get("threshold"))]
    if held_out[INITIAL]["difference"]["mean"] < 0:
        lines.append(f"the learned rule ends below the rule it started from: {signed(held_out[INITIAL]['behind'])}")
    return "\n".join(lines)


def count_text(number: int, theta_scale: str) -> str:
    """A number of tasks or seeds in words."""
    return f"{number} {theta_scale if number != 1 else theta_scale.removesuffix('s')}"


def rows_table(title: str, score: str, rows: Mapping[str, Mapping[str, Any]], threshold: float | None) -> str:
    """Lay out rows of `summarise` for the screen, the first of them the one with which the others are compared.

    Args:
        title: of the column of names.
        score: the metric that people quote.
        rows: by name.
        threshold: score of which it is said when it is reached; None where rows do not know.

    Returns:
        Lines: scores with intervals, differences and networks that diverged; scores beyond the length of training.
    """
    leader = next(iter(rows.values()))
    first, shots, horizon = next(iter(rows)).partition(" (")[0], list(leader.get("shots", ())), list(leader["horizon"])
    width = max(34, *(len(name) for name in rows), len(title) - 2)
    head = f"{title:<{width + 2}}{score:>9}   {'95 % interval':<18}  {f'{first} ahead by':<28}{'diverged':>8}"
    head += "" if threshold is None else f"{f'to {threshold:g}':>8}"
    lines = [head + "".join(f"{f'{shot} each':>8}" for shot in shots)]
    for name, row in rows.items():
        ahead = signed(row["difference"]) if "difference" in row else ""
        line = f"  {name:<{width}}{row['mean']:>9.4f}   {span(row['low'], row['high']):<18}  "
        line += f"{ahead:<28}{row[DIVERGED]:>8}"
        line += "" if threshold is None else f"{_shown(row['steps_to_threshold']['at']):>8}"
        lines.append(line + "".join(f"{row['shots'][shot]['mean']:>8.3f}" for shot in shots))
    if threshold is not None:
        each = "; each: examples of each class" if shots else ""
        lines.append(f"(to {threshold:g}: steps from which on the mean score is there{each})")
    if horizon:
        lines += ["", f"{'after so many times its length':<{width + 2}}" + "".join(f"{at + ' ×':>9}" for at in horizon)]
        for name, row in rows.items():
            lines.append(f"  {name:<{width}}" + "".join(f"{row['horizon'][at]['mean']:>9.4f}" for at in horizon))
    return "\n".join(lines)


def _joined(rows: Sequence[Mapping[str, Any]], learned: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The row of a contender over seeds, and by how much it is behind the learned rule, paired by seed."""
    finals, others = ([row["mean"] for row in some] for some in (rows, learned))
    horizon = {
        at: _share([row["horizon"][at]["mean"] for row in rows])
        | {DIVERGED: sum(row["horizon"][at][DIVERGED] for row in rows)}
        for at in rows[0]["horizon"]
    }
    behind = interval(np.subtract(others, finals))
    diverged = sum(row[DIVERGED] for row in rows)
    return _share(finals) | {"by_seed": finals, DIVERGED: diverged, "horizon": horizon, "difference": behind._asdict()}


def _share(values: Sequence[float] | Float[np.ndarray, " units"]) -> dict[str, Any]:
    """Mean and interval of a score, which lies between 0 and 1."""
    return interval(np.asarray(values), share=True)._asdict()


def signed(ahead: Mapping[str, float]) -> str:
    """A difference and its interval for the screen, as in `+0.0310 [+0.0120, +0.0500]`."""
    between = span(ahead["low"], ahead["high"], "+.4f", ", ")
    return f"{ahead['mean']:+.4f} {between if between == NO_SPAN else f'[{between}]'}"


def _shown(steps: int | None) -> str:
    return "never" if steps is None else str(steps)
