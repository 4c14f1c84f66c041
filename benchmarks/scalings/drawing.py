"""A picture of meta-steps on more devices, of the model beside them, and of what it predicts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarule.runs.figures.canvas import COLOURS, figure_of, picture, save

__all__ = ["draw_scaling"]

_Rows = Sequence[Mapping[str, Any]]


@picture
def draw_scaling(file: Path, setups: _Rows, checks: _Rows, predictions: _Rows) -> None:
    """Draw the time of a meta-step by set-up, measured against modelled, and predicted for accelerators.

    Args:
        file: where the picture goes.
        setups: rows of set-ups that share the same lifetimes.
        checks: rows of the model and of what was measured.
        predictions: rows by lifetimes and devices.
    """
    figure, (bars, points, lines) = figure_of(3, 4.5, 4.2)
    bars.barh(range(len(setups)), [row["minimum_ms"] for row in setups], color=COLOURS[0])
    bars.set_yticks(range(len(setups)), [row["what"] for row in setups])
    for place, row in enumerate(setups):
        bars.text(row["minimum_ms"], place, f" {row['minimum_ms']:.3g}", va="center", fontsize="small")
    bars.invert_yaxis()
    bars.margins(x=0.15)
    bars.set_xlabel("ms a meta-step, the same lifetimes")
    for number, kind in enumerate(("fitted", "checked")):
        some = [row for row in checks if row["case"] == kind]
        style = {"color": COLOURS[number], "label": kind}
        points.scatter([row["measured_ms"] for row in some], [row["model_ms"] for row in some], **style)
    both = [row[name] for row in checks for name in ("measured_ms", "model_ms")]
    points.plot([min(both), max(both)], [min(both), max(both)], color="0.6", linewidth=0.8)
    points.set(xscale="log", yscale="log", xlabel="measured ms", ylabel="ms by the model")
    for axis in (points.xaxis, points.yaxis, lines.yaxis):
        axis.set_minor_formatter("")
    points.legend(frameon=False)
    for number, devices in enumerate(dict.fromkeys(row["devices"] for row in predictions)):
        line = [row for row in predictions if row["devices"] == devices]
        style = {"color": COLOURS[number], "marker": "o", "label": f"{devices} × {line[0]['device']}"}
        lines.plot([row["lives"] for row in line], [row["predicted_ms"] for row in line], **style)
    lines.set(xscale="log", yscale="log", xlabel="lives a meta-step", ylabel="ms a meta-step (prediction)")
    lines.legend(frameon=False)
    save(figure, file)
