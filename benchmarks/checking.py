"""Comparison of the numbers in Markdown with the results that its comments name."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.markdown import Cell, Mention, Part, mentions, parts, prints, rows
from benchmarks.results import FOLDER, Result, numbers, objects, selected
from metarule.analysis.comparison import LEARNED

__all__ = ["Finding", "check", "corrected", "run_cells"]

# Labels in tables of what results call otherwise.
_LABELS = {
    "learned rule": LEARNED,
    "delta rule": "delta",
    "delta rule, same path": "delta",
    "three-factor, R − E[R]": "reward_hebb",
}


class Finding(NamedTuple):
    """Number or cell that no result stands behind.

    Attributes:
        start: offset in the file.
        section: heading above it.
        text: as it stands in the file.
        problem: about it.
        right: text of the cell, where a result decides it; empty elsewhere.
    """

    start: int
    section: str
    text: str
    problem: str
    right: str = ""


def check(text: str, results: Mapping[str, Result]) -> list[Finding]:
    """Compare all numbers in the text of a Markdown file with the results that its comments name."""
    return [finding for part in parts(text) for finding in _of_part(part, results)]


def corrected(text: str, findings: Sequence[Finding]) -> str:
    """Replace the cells that results decide."""
    for finding in sorted(findings, reverse=True):
        if finding.right:
            text = text[: finding.start] + finding.right + text[finding.start + len(finding.text) :]
    return text


def _of_part(part: Part, results: Mapping[str, Result]) -> Iterator[Finding]:
    named = {name: result for name in part.names if (result := selected(results, name))}
    missing = [name for name in part.names if name not in named]
    yield from (Finding(part.start, part.section, name, f"no result in {FOLDER}") for name in missing)
    table, rest = rows(part)
    trees = [result.numbers for result in named.values()]
    found = [*_unmatched(mentions(rest, part.start), trees, named, part)]
    for header, row in table:
        found += _of_row(header, row, named, part)
    # A number may be one of a result that is missing; a cell that a result decides may not.
    yield from (finding for finding in found if finding.right or not missing)


def _of_row(header: list[str], row: list[Cell], named: Mapping[str, Result], part: Part) -> Iterator[Finding]:
    chosen = _of_command(row[0].text, named)
    if named and not chosen:
        yield Finding(row[0].start, part.section, row[0].text, f"no command of {' or '.join(named)}")
        return
    trees = _narrowed([result.numbers for result in chosen.values()], row[0].text)
    by_command = chosen is not named and len(chosen) == 1
    decided = run_cells(next(iter(chosen.values())).numbers, header) if by_command else {}
    for column, (label, cell) in enumerate(zip(header, row)):
        right = decided.get(column)
        if column and right is None:
            found = mentions(cell.blank, cell.start, in_table=bool(part.names))
            yield from _unmatched(found, _narrowed(trees, label), chosen, part, signed=True)
        elif right not in (None, cell.text):
            yield Finding(cell.start, part.section, cell.text, f"{next(iter(chosen))} has {right}", right)


def _of_command(label: str, named: Mapping[str, Result]) -> Mapping[str, Result]:
    """The result with the command, or part of a command, in the label of a row; `named` if there is none in it."""
    words = {word for span in re.findall("`([^`]*)`", label) for word in span.split()}
    known = {name: result.command.split() for name, result in named.items()}
    fitting = [name for name, command in known.items() if words <= {*command, *(Path(word).name for word in command)}]
    if not words or not (fitting or any(word.endswith(".toml") for word in words)):
        return named
    least = min((len(known[name]) for name in fitting), default=0)
    return {name: named[name] for name in fitting if len(known[name]) == least}


def run_cells(report: Any, header: Sequence[str]) -> dict[int, str]:
    """Texts of the cells of a run in a table by column: scores of methods, and of one in longer lifetimes.

    Args:
        report: numbers of the run; there are no such cells if they are those of something else.
        header: labels, such as "backprop", or "learned at 2 × / 5 ×" for scores after multiples of a lifetime.
    """
    held_out = report.get("held_out", {}) if isinstance(report, dict) else {}
    methods = {**held_out, **held_out.get("baselines", {})}
    methods = {name: row for name, row in methods.items() if isinstance(row, dict) and "mean" in row}
    shown = {column: methods[_name(label)] for column, label in enumerate(header) if _name(label) in methods}
    best = max((round(row["mean"], 3) for row in shown.values()), default=None)
    texts = dict[int, str]()
    for column, row in shown.items():
        mean = f"**{_score(row['mean'])}**" if round(row["mean"], 3) == best else _score(row["mean"])
        texts[column] = mean if row["low"] is None else f"{mean} [{_score(row['low'])}, {_score(row['high'])}]"
    for column, label in enumerate(header):
        method, _, times = label.partition(" at ")
        horizons = methods.get(_name(method), {}).get("horizon", {})
        if (found := re.findall(r"\d+(?= ×)", times)) and all(time in horizons for time in found):
            texts[column] = " / ".join(_score(horizons[time]["mean"]) for time in found)
    return texts


def _score(value: float) -> str:
    return re.sub(r"^(−?)0\.", r"\1.", f"{value:.3f}".replace("-", "−"))


def _narrowed(trees: list[Any], label: str) -> list[Any]:
    """Parts of results that a label, or what is before or after a colon in it, names; all of them if it names none."""
    wanted = {_name(text) for text in (label, *label.split(":"))} - {""}
    found = [part for tree in trees for names, part in objects(tree) if not wanted.isdisjoint(map(_name, names))]
    return found or trees


def _name(label: str) -> str:
    """Name of a method or a setting, as results have it."""
    label = re.sub(r"[*`]", "", label).strip()
    return re.sub(r"\W+", "_", _LABELS.get(label, label).lower()).strip("_")


def _unmatched(
    found: Iterable[Mention], trees: list[Any], named: Mapping[str, Result], part: Part, signed: bool = False
) -> Iterator[Finding]:
    """Findings about numbers that none of some parts of results has, and intervals that no object in them has."""
    alone = [[value for tree in trees for value in numbers(tree)]]
    together = [[*numbers(one, deep=False)] for tree in trees for _, one in objects(tree)]
    problem = f"no number of {' or '.join(named)}" if named else "no comment names its result"
    for one in found:
        groups = together if len(one.numbers) > 1 else alone
        if not any(
            all(any(prints(value, text, signed) for value in group) for text in one.numbers) for group in groups
        ):
            yield Finding(one.start, part.section, one.text, problem)
