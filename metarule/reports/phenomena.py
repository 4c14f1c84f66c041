"""Section about conditioning: the share of animals that show each phenomenon, by contender and by timing."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metarule.analysis.comparison import INITIAL, LEARNED
from metarule.circuits.conditioning import ConditioningCircuit
from metarule.config.toml import ConfigError
from metarule.reports.content import Cell, Section, cell, figure, table
from metarule.reports.stored import stored_figure
from metarule.runs import figures
from metarule.runs.directory import read_experiment

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
    weakest = "Share at the weakest of the trained timings and of those between them."
    marks = "~ between the trained values, < below them, > above them."
    tables = (
        table("Share of animals that show each phenomenon", ("phenomenon", *names), shares, weakest),
        table("Learned rule, by timing", ("phenomenon", *timings), by_timing, marks),
    )
    drawn = [*figure("circuit", "Circuit: plastic, fixed and modulating synapses", lambda: _circuit(path))]
    drawn += stored_figure(path, "phenomena", "phenomena", "Stimuli, targets and learned responses of each phenomenon")
    drawn += figure("timings", "Shares by timing and intensity", lambda: figures.draw_timings.svg(report))
    if first["baselines"]:
        caption = "Shares of the baselines against their learning rate"
        drawn += figure("rates", caption, lambda: figures.draw_rates.svg(report))
    yield Section("Which phenomena it shows", (), tuple(drawn), tables)


def _name(name: str, row: Mapping[str, Any]) -> Cell:
    return Cell(name if row["trained"] else f"{name} (not trained on)")


def _circuit(path: Path) -> str:
    """Drawing of the circuit; empty where it is another one, or cannot be decoded."""
    try:
        circuit = read_experiment(path).circuit
    except ConfigError:
        return ""
    return figures.draw_circuit.svg(circuit) if isinstance(circuit, ConditioningCircuit) else ""
