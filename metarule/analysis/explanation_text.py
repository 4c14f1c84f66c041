"""Explanation of a rule as sentences and tables, made from its numbers by fixed templates."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from metarule.analysis.comparison import count_text
from metarule.rules.terms import typeset

__all__ = ["explanation_tables", "percent_text", "sentences"]

# Terms in a sentence, terms in a list, rows and columns of a table.
_TERMS, _LISTED, _ROWS, _COLUMNS = 3, 8, 12, 6
# Cosine below which no rule is called close, gain of a sum of rules that is mentioned, and the least share that is.
_CLOSE, _GAIN, _SHARE = 0.5, 0.01, 0.01


def sentences(report: Mapping[str, Any]) -> list[str]:
    """Explain a rule in sentences.

    Args:
        report: the numbers, as `metarule.explain` returns them.
    """
    parts, contributions = report["parts"], report["contributions"] or {}
    lines = [line for part in parts for line in (_nearest(part), *_shares(part))]
    if any(row["mean"] <= -_SHARE for part in parts for _, row in _largest(part["shares"] or {})):
        lines.append("A negative share means that the term counteracts the others.")
    cut = [f"{percent_text(one['beyond'])} ({one['part']})" for one in parts if one["beyond"] >= _SHARE]
    if cut:
        bound = "w + Δw is beyond the bound of the weights, which cuts Δw; shares and cosines are of Δw before that"
        lines.append(f"In some of the visited states, {bound}: {', '.join(cut)}.")
    return lines + (_effects(contributions) if "terms" in contributions else [])


def explanation_tables(report: Mapping[str, Any]) -> str:
    """Format shares and cosines for the screen, a column for each part of the synapses."""
    parts = report["parts"][:_COLUMNS]
    tables = [f"{report['of']}, {count_text(report['lifetimes'], 'lifetimes')}; 95 % intervals over lifetimes"]
    if any(part["shares"] for part in parts):
        rows = [{typeset(term): row for term, row in (part["shares"] or {}).items()} for part in parts]
        deviations = [f"{part['deviation']:.3g}" for part in parts]
        note = "shares add up to 1 and may be negative"
        tables.append(_table("share of the variance of Δw", parts, rows, note, abs, deviations))
    note = "Σ Δw·Δw′ / (|Δw|·|Δw′|) over the same states"
    tables.append(_table("cosine with rules by name", parts, [part["cosines"] for part in parts], note, float))
    more = len(report["parts"]) - len(parts)
    return "\n\n".join(tables) + (f"\n({count_text(more, 'further parts')} in summary.json)" if more else "")


def percent_text(share: float) -> str:
    """Format a share in whole percent, as in `−24 %`."""
    return f"{round(100 * share) or 0} %".replace("-", "−")


def _nearest(part: Mapping[str, Any]) -> str:
    """Rules by name that are closest to the Δw of one part of the synapses."""
    name, cosines = part["part"].capitalize(), list(part["cosines"].items())
    if not cosines:
        return f"{name}: Δw is 0, or there is no rule by name to compare it with."
    (nearest, first), *others = cosines
    if first["mean"] < _CLOSE:
        return f"{name}: Δw is close to that of no rule by name (highest cosine: {nearest}, {_cosine(first)})."
    equal = [f"{rule} ({_cosine(row)})" for rule, row in others if _overlap(first, row)]
    after = f"; next: {others[0][0]}, {_cosine(others[0][1])}" if others and not equal else ""
    text = f"{name}: Δw is closest to that of the rule {nearest} (cosine {_cosine(first)}{after})."
    text += f" Not clearly farther: {', '.join(equal)}." if equal else ""
    mixture = part["mixture"]
    if part["is_whole"] and len(mixture["coefficients"]) > 1 and mixture["cosine"] >= first["mean"] + _GAIN:
        ordered = sorted(mixture["coefficients"].items(), key=lambda one: -one[1])
        total = " + ".join(f"{value:.3g}·{rule}" for rule, value in ordered)
        text += f" The closest sum of such rules, {total}, has cosine {mixture['cosine']:.2f}."
    return text


def _shares(part: Mapping[str, Any]) -> list[str]:
    """Terms with the largest shares in one part of the synapses."""
    if not part["shares"]:
        return []
    largest = _largest(part["shares"])
    *first, last = [f"{_percent_interval(row)} from {typeset(term)}" for term, row in largest]
    listed = f"{', '.join(first)} and {last}" if first else last
    left = len(part["shares"]) - len(largest)
    rest = 1 - sum(row["mean"] for _, row in largest)
    others = f"; {percent_text(rest)} from {count_text(left, 'other terms')}" if left else ""
    return [f"{part['part'].capitalize()}: of the variance of Δw, {listed}{others}."]


def _effects(contributions: Mapping[str, Any]) -> list[str]:
    """Effect of each term on the score: those that are clear, and those that are not."""
    rows, lines = contributions["terms"], []
    signs = [_sign(row["difference"]) for row in rows]
    for sign, verb in ((1, "falls"), (-1, "rises")):
        some = [row for row, own in zip(rows, signs, strict=True) if own == sign][::sign]
        shown = [f"by {_size(row['difference'])} without {_placed(row['term'])}" for row in some[:_TERMS]]
        more = f"; also without {count_text(len(some) - len(shown), 'other terms')}" if len(some) > len(shown) else ""
        if shown:
            score = f"the score ({contributions['metric']}, with 95 % intervals)"
            lines.append(f"On {contributions['of']}, {score} {verb} {', '.join(shown)}{more}.")
    unclear = [_placed(row["term"]) for row, own in zip(rows, signs, strict=True) if not own]
    if unclear:
        more = f" and {len(unclear) - _LISTED} more" if len(unclear) > _LISTED else ""
        listed = f"{', '.join(unclear[:_LISTED])}{more}"
        lines.append(f"Leaving out one of these terms alone has no measurable effect on the score: {listed}.")
    if len(rows) > 1:
        lines.append(
            f"These intervals are not corrected for the {len(rows)} terms: about one in twenty misses by chance."
        )
    return lines


def _placed(term: str) -> str:
    """Name of a term, with its path or projection after it if each has its own θ."""
    group, _, name = term.rpartition(": ")
    return typeset(name) + (f" ({group})" if group else "")


def _sign(difference: Mapping[str, Any]) -> int:
    """Sign of a difference whose interval excludes 0, or that has no interval; else 0."""
    mean, low, high = (difference[name] for name in ("mean", "low", "high"))
    is_clear = low is None or high is None or low > 0 or high < 0
    return int(is_clear) * ((mean > 0) - (mean < 0))


def _size(difference: Mapping[str, Any]) -> str:
    """Size of a difference with its interval, if it has one."""
    ends = [difference[name] for name in ("low", "high")]
    known = "" if None in ends else f" [{', '.join(f'{one:.3f}' for one in sorted(map(abs, ends)))}]"
    return f"{abs(difference['mean']):.3f}{known}"


def _largest(shares: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Terms with the largest shares, of at least 1 %."""
    ordered = sorted(shares.items(), key=lambda one: -abs(one[1]["mean"]))[:_TERMS]
    return [one for one in ordered if abs(one[1]["mean"]) >= _SHARE] or ordered[:1]


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """True if two intervals overlap; false if one does not exist."""
    return None not in (one["low"], other["high"]) and bool(other["high"] >= one["low"])


def _table(
    title: str,
    parts: Sequence[Mapping[str, Any]],
    columns: Sequence[Mapping[str, Any]],
    note: str,
    size: Callable[[float], float],
    deviations: Sequence[str] = (),
) -> str:
    """Estimates by name with their margins, a column for each part, the largest first."""
    names = dict.fromkeys(name for column in columns for name in column)
    whole = [column for part, column in zip(parts, columns, strict=True) if part["is_whole"]]
    order = sorted(names, key=lambda name: -sum(size(one[name]["mean"]) for one in whole if name in one))
    shown = order[:_ROWS]
    width, widths = max(34, *map(len, shown)), [max(16, len(part["part"]) + 2) for part in parts]
    rows = {name: [f"{_margin(column[name])}" if name in column else "–" for column in columns] for name in shown}
    rows |= {"standard deviation of Δw": list(deviations)} if deviations else {}
    lines = [
        f"{title:<{width + 2}}" + "".join(f"{part['part']:>{one}}" for part, one in zip(parts, widths, strict=True))
    ]
    for name, cells in rows.items():
        lines.append(f"  {name:<{width}}" + "".join(f"{cell:>{one}}" for cell, one in zip(cells, widths, strict=True)))
    omitted = f"the {len(shown)} largest of {len(order)} terms; " if len(shown) < len(order) else ""
    return "\n".join([*lines, f"({omitted}{note})"])


def _margin(row: Mapping[str, Any], digits: int = 3) -> str:
    """Estimate with the half of its interval, as in `0.875 ± 0.040`."""
    return f"{row['mean']:.{digits}f}" + ("" if row["high"] is None else f" ± {row['high'] - row['mean']:.{digits}f}")


_cosine = partial(_margin, digits=2)


def _percent_interval(row: Mapping[str, Any]) -> str:
    """Share with the half of its interval, as in `88 ± 4 %`."""
    if row["high"] is None:
        return percent_text(row["mean"])
    margin = f" ± {round(100 * (row['high'] - row['mean']))} %"
    return percent_text(row["mean"]).replace(" %", margin)
