"""Explanation of a rule as sentences and tables, made from its numbers by fixed templates."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from metarule.analysis.comparison import count_text
from metarule.rules.terms import typeset

__all__ = ["explanation_tables", "sentences"]

# Terms in a sentence, terms in a list, rows and columns of a table.
_TERMS, _LISTED, _ROWS, _COLUMNS = 3, 8, 12, 6
# Cosine below which no rule is called close, gain of a sum of rules that is mentioned, and the same of a bound.
_CLOSE, _GAIN, _CUT = 0.5, 0.01, 0.01


def sentences(report: Mapping[str, Any]) -> list[str]:
    """Explain a rule in sentences.

    Args:
        report: the numbers, as `metarule.explain` returns them.
    """
    lines = [_of_part(part) for part in report["parts"]]
    if any(share <= -_CUT for part in report["parts"] for _, share in _largest(part["shares"] or {})):
        lines.append("A negative share means that the term counteracts the others.")
    for part in (part for part in report["parts"] if part["beyond"] >= _CUT):
        share = f"{part['part'].capitalize()}: in {_percent(part['beyond'])} of the visited states"
        lines.append(f"{share}, w + Δw is beyond the bound of the weights, which cuts Δw; shares and cosines ignore it.")
    contributions = report["contributions"] or {}
    return lines + (_of_ablation(contributions) if "terms" in contributions else [])


def explanation_tables(report: Mapping[str, Any]) -> str:
    """Format shares and cosines for the screen, a column for each part of the synapses."""
    parts = report["parts"][:_COLUMNS]
    over = f"{report['of']}, {count_text(report['lifetimes'], 'lifetimes')}"
    tables = []
    if any(part["shares"] for part in parts):
        rows = [{typeset(term): share for term, share in (part["shares"] or {}).items()} for part in parts]
        note = "shares add up to 1 and may be negative"
        tables.append(_table("share of the variance of Δw", parts, rows, note, abs))
        deviations = "".join(f"{part['deviation']:>{_width(part)}.3g}" for part in parts)
        tables[-1] = tables[-1].replace("\n(", f"\n  {'standard deviation of Δw':<34}{deviations}\n(", 1)
    rows = [part["cosines"] for part in parts]
    note = "cosine Σ Δw·Δw′ / (|Δw|·|Δw′|) over the same states"
    tables.append(_table("cosine with rules by name", parts, rows, note, float))
    more = len(report["parts"]) - len(parts)
    others = f"\n({count_text(more, 'further parts')} in summary.json)" if more else ""
    return f"{over}\n\n" + "\n\n".join(tables) + others


def _of_part(part: Mapping[str, Any]) -> str:
    """Nearest rules and largest shares of the synapses of one part."""
    name, cosines = part["part"].capitalize(), list(part["cosines"].items())
    if not cosines:
        return f"{name}: Δw is 0, or no rule by name can be compared with it."
    (nearest, highest), *others = cosines
    after = f"; next: {others[0][0]}, {others[0][1]:.2f}" if others else ""
    close = f"Δw is closest to that of the rule {nearest} (cosine {highest:.2f}{after})."
    far = f"Δw is close to that of no rule by name (highest cosine: {nearest}, {highest:.2f})."
    text = f"{name}: {close if highest >= _CLOSE else far}"
    mixture = part["mixture"]
    if part["is_whole"] and len(mixture["coefficients"]) > 1 and mixture["cosine"] >= highest + _GAIN:
        ordered = sorted(mixture["coefficients"].items(), key=lambda one: -one[1])
        total = " + ".join(f"{value:.3g}·{rule}" for rule, value in ordered)
        text += f" The closest sum of such rules, {total}, has cosine {mixture['cosine']:.2f}."
    if part["shares"]:
        largest = _largest(part["shares"])
        listed = [f"{_percent(share)} from {typeset(term)}" for term, share in largest]
        text += f" Of the variance of Δw, {_joined(listed)}"
        left = len(part["shares"]) - len(largest)
        rest = sum(part["shares"].values()) - sum(share for _, share in largest)
        text += f"; {_percent(rest)} from {count_text(left, 'other terms')}." if left else "."
    return text


def _of_ablation(contributions: Mapping[str, Any]) -> list[str]:
    """Effect of each term on the score: those that are clear, and those that are not."""
    rows, metric = contributions["terms"], contributions["metric"]
    needed = [row for row in rows if _sign(row["difference"]) > 0]
    harmful = [row for row in rows if _sign(row["difference"]) < 0]
    unclear = [typeset(row["term"]) for row in rows if not _sign(row["difference"])]
    lines = []
    for some, verb in ((needed, "falls"), (harmful[::-1], "rises")):
        shown = [f"without {typeset(row['term'])} by {_difference(row['difference'])}" for row in some[:_TERMS]]
        if shown:
            more = len(some) - len(shown)
            others = f"; also without {count_text(more, 'other terms')}" if more else ""
            lines.append(f"On {contributions['of']}, {metric} {verb} {', '.join(shown)}{others}.")
    if unclear:
        listed = ", ".join(unclear[:_LISTED])
        more = f" and {len(unclear) - _LISTED} more" if len(unclear) > _LISTED else ""
        lines.append(f"No measurable effect of a term alone (the 95 % interval contains 0): {listed}{more}.")
    return lines


def _sign(difference: Mapping[str, Any]) -> int:
    """Sign of a difference whose interval excludes 0, or that has no interval; else 0."""
    mean, low, high = (difference[name] for name in ("mean", "low", "high"))
    is_clear = low is None or high is None or low > 0 or high < 0
    return int(is_clear) * ((mean > 0) - (mean < 0))


def _difference(difference: Mapping[str, Any]) -> str:
    """Size of a difference with its interval."""
    ends = [difference[name] for name in ("low", "high")]
    known = "no interval" if None in ends else ", ".join(f"{one:.3f}" for one in sorted(map(abs, ends)))
    return f"{abs(difference['mean']):.3f} [{known}]"


def _largest(shares: Mapping[str, float]) -> list[tuple[str, float]]:
    """Terms with the largest shares, of at least 1 %."""
    ordered = sorted(shares.items(), key=lambda one: -abs(one[1]))[:_TERMS]
    return [one for one in ordered if abs(one[1]) >= _CUT] or ordered[:1]


def _table(
    title: str,
    parts: Sequence[Mapping[str, Any]],
    columns: Sequence[Mapping[str, float]],
    note: str,
    size: Callable[[float], float],
) -> str:
    """Numbers by name, a column for each part, the largest first."""
    names = dict.fromkeys(name for column in columns for name in column)
    order = sorted(names, key=lambda name: -max(size(column[name]) for column in columns if name in column))
    shown = order[:_ROWS]
    width = max(34, *(len(name) for name in shown))
    lines = [f"{title:<{width + 2}}" + "".join(f"{part['part']:>{_width(part)}}" for part in parts)]
    for name in shown:
        cells = (f"{column[name]:.3f}" if name in column else "–" for column in columns)
        lines.append(f"  {name:<{width}}" + "".join(f"{cell:>{_width(p)}}" for cell, p in zip(cells, parts, strict=True)))
    omitted = f"the {len(shown)} largest of {len(order)} terms; " if len(shown) < len(order) else ""
    return "\n".join([*lines, f"({omitted}{note})"])


def _width(part: Mapping[str, Any]) -> int:
    return max(10, len(part["part"]) + 2)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %".replace("-", "−")


def _joined(parts: Sequence[str]) -> str:
    """Join parts with commas and a final `and`."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
