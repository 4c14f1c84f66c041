"""Scores on held-out tasks: sentences and tables about the learned rule and those with which it is compared."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from metarule.analysis.comparison import LEARNED, count_text, rows_by_contender, threshold_of
from metarule.analysis.statistics import NO_INTERVAL, interval_text
from metarule.analysis.tuning import RATES
from metarule.reports.content import Cell, Table, cell, gain_text, interval_cell, signed, table

__all__ = ["lifetime_steps", "score_tables", "tuning_table", "verdict"]


def verdict(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences about the score of the learned rule, and on which side of the baselines it is.

    Args:
        report: the held-out part of a summary.
    """
    learned, unit = report[LEARNED], "seeds" if "seeds" in report else "tasks"
    metric, ends = report["metric"], interval_text(learned.get("low"), learned.get("high"))
    of = f"{report.get('of', 'held-out tasks')}" + (f" ({count_text(report[unit], unit)})" if unit in report else "")
    text = f"{learned['mean']:.4f} ({metric}) on {of}"
    first = f"The learned rule scores {text}" + (f", 95 % interval {ends}." if ends != NO_INTERVAL else ".")
    return (first, *_sides(report["baselines"]), *_gain(report.get("initial")))


def _sides(baselines: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Sentences about the baselines that the learned rule is above, below, or cannot be told from."""
    sides: dict[str, dict[str, Mapping[str, Any]]] = {"below": {}, "even": {}, "above": {}}
    for name, row in baselines.items():
        if row.get("difference"):
            sides[_side(row["difference"])][name] = row
    texts = {"below": "It is below", "even": "It cannot be told apart from", "above": "It is above"}
    for side, rows in sides.items():
        if rows:
            score = max(row["mean"] for row in rows.values())
            tied = [name for name, row in rows.items() if row["mean"] == score]
            listed = " and ".join(filter(None, (", ".join(tied[:-1]), tied[-1])))
            which = f"{count_text(len(rows), 'baselines')}, of which {listed} {'are' if tied[1:] else 'is'} the best"
            gain = gain_text(rows[tied[0]]["difference"])
            yield f"{texts[side]} {listed if tied == list(rows) else which}: {score:.4f}; learned − {tied[0]} = {gain}."


def _side(difference: Mapping[str, float | None]) -> str:
    low, high = difference["low"], difference["high"]
    if low is None or high is None or low <= 0 <= high:
        return "even"
    return "above" if low > 0 else "below"


def _gain(initial: Mapping[str, Any] | None) -> Iterator[str]:
    if initial and (difference := initial.get("difference")) and _side(difference) != "above":
        yield f"Training did not make the initial rule better: learned − initial = {gain_text(difference)}."


def score_tables(report: Mapping[str, Any]) -> tuple[Table, ...]:
    """Tables of the scores of all contenders: at the end of a lifetime, after few examples, and beyond its length."""
    rows, metric = rows_by_contender(report), report["metric"]
    over, threshold = "seeds" if "seeds" in report else "tasks", threshold_of(report)
    head = ["contender", metric, "95 % interval", "learned − other", "95 % interval of the difference", "diverged"]
    head += [] if threshold is None else [f"steps to {threshold:g}", "95 % interval of the steps"]
    others = sorted({name for row in rows.values() for name in row if _is_other(row[name], name)})
    body = [[*_row(name, row, threshold), *(cell(row.get(other)) for other in others)] for name, row in rows.items()]
    note = f"Intervals are over {over}; differences are paired over them. Initial: the rule before meta-training."
    if threshold is not None:
        note += f" Steps to {threshold:g}: those until the mean score stays at {threshold:g} or more."
    caption = f"Scores at the end of a lifetime on {report.get('of', 'held-out tasks')}"
    return (table(caption, head + others, body, note), *_multiples(rows, metric))


def _is_other(value: Any, name: str) -> bool:
    return isinstance(value, float) and name not in ("mean", "low", "high", "learning_rate", "trace_decay")


def _row(name: str, row: Mapping[str, Any], threshold: float | None) -> list[Cell]:
    difference = row.get("difference") or {}
    cells = [Cell(name), cell(row["mean"]), interval_cell(row), signed(difference.get("mean"))]
    cells += [interval_cell(difference, "+.4f"), cell(row.get("diverged"))]
    if threshold is not None:
        found = row.get("steps_to_threshold", {})
        at, ends = found.get("at"), (found.get("low"), found.get("high"))
        low, high = ("never" if end is None else f"{end:,}" for end in ends)
        between = Cell(low if low == high else f"{low} to {high}", ends[0])
        cells += [Cell("never", float("inf")) if at is None else cell(at), between]
    return cells


def _multiples(rows: Mapping[str, Mapping[str, Any]], metric: str) -> Iterator[Table]:
    """Tables of the scores after few examples of each class, and after multiples of a lifetime."""
    for field, unit, caption in (
        ("shots", " of each", f"{metric} after a number of examples of each class"),
        ("horizon", " ×", f"{metric} after multiples of a lifetime"),
    ):
        multiples = list(next(iter(rows.values())).get(field) or {})
        means = [[one["mean"] for one in (row.get(field) or {}).values()] for row in rows.values()]
        if any(len(set(one)) > 1 for one in means):
            body = [
                [Cell(name), *(cell((row.get(field) or {}).get(multiple, {}).get("mean")) for multiple in multiples)]
                for name, row in rows.items()
            ]
            yield table(caption, ["contender", *(f"{multiple}{unit}" for multiple in multiples)], body)


def tuning_table(reports: Sequence[Mapping[str, Any]]) -> Table | None:
    """Table of the tuned baselines of one run, or of several seeds, with the range of each number over them.

    Baselines without a learning rate, such as an ideal observer, are left out.
    """
    body, ends = [], []
    for name in reports[0]["baselines"]:
        rows = [report["baselines"].get(name, {}) for report in reports]
        if not any(row.get("learning_rate") for row in rows):
            continue
        ends += [name] if any(map(_is_at_end, rows)) else []
        cells = (_range(rows, field) for field in ("learning_rate", "trace_decay", "tuning_lifetimes"))
        body.append([Cell(name), *cells])
    if not body:
        return None
    head = ["baseline", "learning rate", "decay of its trace", "lifetimes for tuning"]
    note = f"At an end of the range of rates, beyond which others may be better: {', '.join(ends)}." if ends else ""
    return table("Baselines, tuned on training tasks", head, body, note)


def _is_at_end(row: Mapping[str, Any]) -> bool:
    """True if the tuned rate is at or beyond an end of the coarse grid, as `tune` describes it."""
    if not (rate := row.get("learning_rate")):
        return False
    coarse = 10 * RATES if row.get("trace_decay") else RATES
    return bool(rate <= coarse[0] or rate >= coarse[-1])


def _range(rows: Sequence[Mapping[str, Any]], field: str) -> Cell:
    values = [row[field] for row in rows if row.get(field) is not None]
    if not values:
        return Cell("")
    low, high = (f"{end:,}" if isinstance(end, int) else f"{end:.3g}" for end in (min(values), max(values)))
    return Cell(low if low == high else f"{low} to {high}", min(values))


def lifetime_steps(performance: Mapping[str, Any], report: Mapping[str, Any]) -> int:
    """Steps of a lifetime: the last point, or a part of it where rules were evaluated beyond a lifetime."""
    multiples = [int(multiple) for multiple in report.get(LEARNED, {}).get("horizon") or ()]
    return int(performance["steps"][-1]) // max(multiples, default=1)
