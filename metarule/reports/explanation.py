"""Section about the explanation of a rule."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from metarule.reports.content import Section, figure
from metarule.runs import figures
from metarule.runs.directory import EXPLANATION
from metarule.runs.files import read_json

__all__ = ["explanation_section"]


def explanation_section(path: Path) -> Iterator[Section]:
    """Section about the explanation in the directory of a run, if `metarule explain` has made one."""
    report = read_json(path / EXPLANATION / "summary.json")
    if not report:
        return
    caption = "Share of each term in the variance of Δw, over the states that synapses visit"
    drawn = figure("shares", caption, partial(figures.draw_shares.svg, report))
    for number, group in enumerate(dict.fromkeys(one["group"] for one in report["maps"])):
        caption = f"Δw over pairs of local variables{f', {group}' if group else ''}"
        drawn += figure(f"map-{number}", caption, partial(figures.draw_maps.svg, report, group))
    yield Section("What the rule does", (), drawn, items=tuple(report["sentences"]))
