"""Section about conditioning: the share of animals that show each phenomenon, by contender and by timing."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from metarule.analysis.comparison import INITIAL, LEARNED
from metarule.circuits.conditioning import ConditioningCircuit
from metarule.config.toml import ConfigError
from metarule.reports.content import Cell, Details, Section, Table, cell, figure, table
from metarule.reports.stored import stored_figure
from metarule.runs import figures
from metarule.runs.directory import read_experiment
from metarule.tasks.conditioning import Conditioning

__all__ = ["phenomena_section"]

_SIDES = {"below": "<", "trained": "", "between": "~", "above": ">"}


def phenomena_section(path: Path, report: Mapping[str, Any]) -> Iterator[Section]:
    """Section about the phenomena of conditioning.

    Args:
        path: directory of the run.
        report: the part `phenomena` of a summary.
    """
    first = next(iter(report.values()))
    names = (LEARNED, *first["baselines"], INITIAL)
    shares = [
        [_name(name, row), *map(cell, (row["shown"], *row["baselines"].values(), row["initial"]))]
        for name, row in report.items()
    ]
    timings = [f"{one['field']} {_SIDES[one['side']]}{one['value']:g}" for one in first["by_timing"]]
    by_timing = [
        [_name(name, row), *(cell(one[LEARNED], ".2f") for one in row["by_timing"])] for name, row in report.items()
    ]
    weakest = "Share at the weakest of the trained timings and of those between them. Initial: before meta-training."
    marks = "~ between the trained values, < below them, > above them."
    tables = (table("Share of animals that show each phenomenon", ("phenomenon", *names), shares, weakest),)
    details = [Details("Shares by timing", table=table("Learned rule", ("phenomenon", *timings), by_timing, marks))]
    if criteria := _criteria(path, report):
        details.insert(0, Details("Criteria of each phenomenon", table=criteria))
    drawn = [*figure("circuit", "Circuit: plastic, fixed and modulating synapses", lambda: _circuit(path))]
    drawn += stored_figure(path, "phenomena", "phenomena", "Stimuli, targets and learned responses of each phenomenon")
    drawn += figure("timings", "Shares by timing and intensity", lambda: figures.draw_timings.svg(report))
    if first["baselines"]:
        caption = "Shares of the baselines against their learning rate"
        drawn += figure("rates", caption, lambda: figures.draw_rates.svg(report))
    yield Section("Which phenomena it shows", (), tuple(drawn), tables, details=tuple(details))


def _name(name: str, row: Mapping[str, Any]) -> Cell:
    return Cell(name if row["trained"] else f"{name} (not trained on)")


def _criteria(path: Path, report: Mapping[str, Any]) -> Table | None:
    """Table of the criteria of all phenomena; nothing where the experiment cannot be decoded."""
    with suppress(ConfigError):
        tasks = read_experiment(path).tasks
        found = tasks.phenomena if isinstance(tasks, Conditioning) else ()
        rows = [
            [Cell(one.name), Cell("; ".join(one.criteria).replace("<=", "≤").replace(">=", "≥"))]
            for one in found
            if one.name in report
        ]
        note = (
            "An animal shows a phenomenon if all its criteria hold. Before, peak and after: responses in its lifetime; "
        )
        note += "control: response of an animal without the treatment. Unit: the response to the US."
        return table("Criteria", ("phenomenon", "criteria"), rows, note) if rows else None
    return None


def _circuit(path: Path) -> str:
    """Drawing of the circuit; empty where it is another one, or cannot be decoded."""
    try:
        circuit = read_experiment(path).circuit
    except ConfigError:
        return ""
    return figures.draw_circuit.svg(circuit) if isinstance(circuit, ConditioningCircuit) else ""
