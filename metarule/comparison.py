"""Several learners on the same tasks, from the same weights, in the same order: who is better, and by how much."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from metarule.evaluation import Curves, curves, spread
from metarule.lifetime import Lifetime
from metarule.statistics import interval, reached
from metarule.types import Learner, PRNGKey, Theta

__all__ = [
    "INITIAL",
    "LEARNED",
    "REACH",
    "SHOTS",
    "Contender",
    "by_task",
    "compare",
    "contenders_of",
    "few_shots",
    "held_out",
    "points_of",
    "rows_table",
    "summarise",
    "table",
]

# The learned rule, and the rule that it started from, among contenders; the others are baselines.
LEARNED, INITIAL = "learned", "initial"
# Score to be reached, where nobody says which.
REACH = 0.9

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


def points_of(learner: Learner, points: int) -> tuple[int, ...]:
    """Presentations after which a network is assessed: evenly spread, and after 1, 3 and 5 examples of each class.

    Args:
        learner: who lives.
        points: how many are evenly spread.

    Returns:
        The presentations, in order, birth left out.
    """
    even = spread(learner.presentations, points)
    few = {learner.tasks.shot * shots for shots in SHOTS}
    return tuple(sorted({end for end in (*even, *few) if 0 < end <= learner.presentations}))


def compare(
    contenders: Mapping[str, Contender],
    pool: Any,
    key: PRNGKey,
    lifetimes: int,
    points: tuple[int, ...],
    tasks: int | None = None,
) -> dict[str, Curves]:
    """Scores along the lives of each contender; all are given the same key. Arguments as of `curves`."""
    return {
        name: jax.device_get(curves(one.learner, one.theta, pool, key, lifetimes, points, tasks))
        for name, one in contenders.items()
    }


def by_task(values: Any, tasks: int | None) -> Float[np.ndarray, "tasks ..."]:
    """Means over the networks that met the same task; life number i of the leading axis met task i mod `tasks`."""
    if tasks is None:
        return np.asarray(values, float)
    return np.asarray(values, float).reshape(-1, tasks, *values.shape[1:]).mean(axis=0)


def few_shots(where: Sequence[int], shot: int) -> dict[int, int]:
    """Places among points at which 1, 3 and 5 examples of each class had been met, by that number.

    Args:
        where: presentations at each point.
        shot: presentations of one example of each class; 0 where there is no such thing.

    Returns:
        Those of the places that there are.
    """
    return {shots: where.index(shot * shots) for shots in SHOTS if shot and shot * shots in where}


def summarise(
    seen: Mapping[str, Curves], score: str, shot: int, reach: float, first: str, tasks: int | None = None
) -> dict[str, dict[str, Any]]:
    """What curves of several contenders on the same lives come to.

    Args:
        seen: as from `compare`.
        score: the metric that people quote.
        shot: presentations of one example of each class; 0 where there is no such thing.
        reach: score to be reached.
        first: with whom the others are compared.
        tasks: how many tasks were met, as independent draws of which intervals are taken; None where each life is one.

    Returns:
        By contender: mean and interval of the score at the end, the means of the other metrics, `reached`, the
        presentations from which on the mean score is at least `reach`, `shots`, the score after so many examples of
        each class, and, but for `first`, `behind`: by how much it ends behind `first`, paired.
    """
    finals = {name: by_task(one.metrics[score][:, -1], tasks) for name, one in seen.items()}
    found = {}
    for name, one in seen.items():
        where, values = one.presentations.tolist(), by_task(one.metrics[score], tasks)
        row = interval(finals[name])._asdict()
        row |= {other: float(values[:, -1].mean()) for other, values in one.metrics.items() if other != score}
        row["reached"] = reached(values, where, reach)._asdict()
        few = few_shots(where, shot)
        row["shots"] = {str(shots): interval(values[:, place])._asdict() for shots, place in few.items()}
        if name != first:
            row["behind"] = interval(finals[first] - finals[name])._asdict()
        found[name] = row
    return found


def held_out(
    lifetime: Lifetime,
    seen: Mapping[str, Curves],
    rates: Mapping[str, Mapping[str, Any]],
    reach: float = REACH,
    tasks: int | None = None,
) -> dict[str, Any]:
    """The held-out part of a summary.

    Args:
        lifetime: who lives under the learned rule.
        seen: curves by contender, `learned` and `initial` among them.
        rates: what is known of the tuning of each baseline.
        reach: score to be reached.
        tasks: as of `summarise`.

    Returns:
        What each contender comes to, baselines apart.
    """
    score = lifetime.tasks.score
    rows = summarise(seen, score, lifetime.tasks.shot, reach, LEARNED, tasks)
    return {
        "metric": score,
        "tasks": len(seen[LEARNED].metrics[score]) if tasks is None else tasks,
        "reach": reach,
        LEARNED: rows[LEARNED],
        INITIAL: rows[INITIAL],
        "baselines": {name: rows[name] | dict(known) for name, known in rates.items()},
    }


def contenders_of(held_out: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Who is compared in the held-out part of a summary, by name, in the order in which they are shown."""
    return {LEARNED: held_out[LEARNED], **held_out["baselines"], INITIAL: held_out[INITIAL]}


def table(held_out: Mapping[str, Any], unit: str) -> str:
    """The held-out part of a summary for the screen.

    Args:
        held_out: of a summary.
        unit: what the intervals are taken over.

    Returns:
        Lines.
    """
    count = held_out["seeds" if unit == "seeds" else "tasks"]
    title = f"{count} new tasks" if unit == "tasks" else f"held-out tasks, {count} {unit}"
    rows = {
        name + (f" (rate {row['learning_rate']:.3g})" if "learning_rate" in row else ""): row
        for name, row in contenders_of(held_out).items()
    }
    return rows_table(title, held_out["metric"], rows, held_out.get("reach"))


def rows_table(title: str, score: str, rows: Mapping[str, Mapping[str, Any]], reach: float | None) -> str:
    """Rows of `summarise` for the screen, the first of them the one with which the others are compared.

    Args:
        title: of the column of names.
        score: the metric that people quote.
        rows: by name.
        reach: score of which it is said when it is reached; None where rows hold means and intervals alone.

    Returns:
        Lines.
    """
    first, shots = next(iter(rows)).partition(" (")[0], list(next(iter(rows.values())).get("shots", ()))
    head = f"{title:<36}{score:>8}   {'95 % interval':<18}"
    if reach is not None:
        head += f"  {f'{first} ahead by':<28}{f'to {reach:g}':>7}"
    lines = [(head + "".join(f"{f'{shot} each':>8}" for shot in shots)).rstrip()]
    for name, row in rows.items():
        line = f"  {name:<34}{row['mean']:>8.4f}   {row['low']:.4f} to {row['high']:.4f}  "
        if reach is not None:
            ahead = _signed(row["behind"]) if "behind" in row else ""
            line += f"  {ahead:<28}{_shown(row['reached']['at']):>7}"
        lines.append((line + "".join(f"{row['shots'][shot]['mean']:>8.3f}" for shot in shots)).rstrip())
    if reach is not None:
        each = "; each: examples of each class" if shots else ""
        lines.append(f"(to {reach:g}: presentations from which on the mean score is there{each})")
    return "\n".join(lines)


def _signed(ahead: Mapping[str, float]) -> str:
    return f"{ahead['mean']:+.4f} [{ahead['low']:+.4f}, {ahead['high']:+.4f}]"


def _shown(presentations: int | None) -> str:
    return "never" if presentations is None else str(presentations)
