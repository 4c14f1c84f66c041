"""Figures of conditioning: the circuit, responses, and shares by timing and rate."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from metarule.analysis.phenomena import Example
from metarule.circuits.conditioning import ConditioningCircuit, Connection
from metarule.runs.figures.canvas import COLOURS, blank, figure_of, picture
from metarule.runs.figures.labels import draw_caption
from metarule.tasks.conditioning import Conditioning, ConditioningTask
from metarule.types import STIMULI

__all__ = ["draw_circuit", "draw_phenomena", "draw_rates", "draw_timings"]

_COLUMNS = 3
_US = STIMULI.index("US")
_STIMULUS_COLOURS = dict(zip(STIMULI, COLOURS))
# Lines of the responses to each CS, and to it in the control.
_LINES = {"CS1": ("-", ":"), "CS2": ("--", "-.")}
# Text on dark and on light cells, which are so on any background.
_LIGHT, _DARK = "#FEFEFE", "#111111"
_UNITS = {"intensities": "of the stimuli"}
_PLASTIC, _FIXED, _MODULATION = COLOURS[2], "0.6", COLOURS[3]


@picture
def draw_circuit(circuit: ConditioningCircuit) -> Any:
    """Draw neurons and synapses, plastic or fixed, with their modulating neurons."""
    figure, (axes,) = figure_of(1, height=4.5)
    box = {"boxstyle": "round,pad=0.5", "fc": "white", "ec": "black"}
    positions = _positions(circuit).items()
    names = {name: axes.text(*place, name, ha="center", va="center", bbox=box) for name, place in positions}
    for synapse in circuit.synapses:
        _draw_synapse(axes, synapse, names, circuit.neurons)
    for label, colour, line in (("plastic", _PLASTIC, "-"), ("fixed", _FIXED, "-"), ("modulates", _MODULATION, "--")):
        axes.plot([], [], color=colour, linestyle=line, label=label)
    axes.legend(loc="upper right")
    axes.set(xlim=(-0.4, 2.4), ylim=(-1.1, len(STIMULI) - 0.5), title="Synapses, with their initial strength")
    axes.set_axis_off()
    return figure


@picture
def draw_phenomena(tasks: Conditioning, example: Example, shown: Mapping[str, float], caption: str = "") -> Any:
    """Draw one panel a phenomenon: stimuli above, target and learned responses below, on one scale.

    Args:
        tasks: the task family, with its phenomena.
        example: one run of each schedule.
        shown: by phenomenon, the share of animals that show it at the weakest timing.
        caption: line below the axes.
    """
    columns = min(_COLUMNS, len(tasks.phenomena))
    rows = -(-len(tasks.phenomena) // columns)
    figure = blank(5.2 * columns, 3.2 * rows + 0.5)
    responses = []
    panels = figure.subfigures(rows, columns, squeeze=False).reshape(-1)
    for number, (phenomenon, panel) in enumerate(zip(tasks.phenomena, panels)):
        above, below = panel.subplots(2, 1, sharex=True, height_ratios=(1, 3))
        kind = "" if number in tasks.trained else ", not trained on"
        above.set_title(f"{phenomenon.name}{kind}: {100 * shown[phenomenon.name]:.0f} % of animals")
        animal, control = _schedule(example, 2 * number), _schedule(example, 2 * number + 1)
        _draw_stimuli(above, animal.task)
        _draw_responses(below, animal, control, targets=number in tasks.trained)
        below.set(xlabel="step", ylabel="response (fraction of the US)")
        responses.append(below)
    ends = [end for axes in responses for end in axes.get_ylim()]
    for axes in responses:
        axes.set_ylim(min(ends), max(ends))
    title = {"title": caption or None, "title_fontsize": "small", "alignment": "left"}
    figure.legend(*below.get_legend_handles_labels(), ncols=2 * columns, loc="outside lower left", **title)
    return figure


@picture
def draw_timings(report: Mapping[str, Any], caption: str = "") -> Any:
    """Draw a map of the learned rule's shares `by_timing` in a report from `measure_phenomena`, a row a phenomenon."""
    timings = next(iter(report.values()))["by_timing"]
    columns: dict[str, list[int]] = {}
    for number, timing in enumerate(timings):
        columns.setdefault(timing["field"], []).append(number)
    figure, panels = _maps(report, list(map(len, columns.values())))
    for axes, (field, numbers) in zip(panels, columns.items(), strict=True):
        shares = np.array([[row["by_timing"][number]["learned"] for number in numbers] for row in report.values()])
        _draw_map(axes, shares, [f"{timings[number]['value']:g}\n{timings[number]['side']}" for number in numbers])
        axes.set_xlabel(f"{field} ({_UNITS.get(field, 'steps')})")
    figure.suptitle("Animals that show each phenomenon under the learned rule (fraction), by timing and intensity")
    draw_caption(figure, caption)
    return figure


@picture
def draw_rates(report: Mapping[str, Any], caption: str = "") -> Any:
    """Draw a map of the shares `by_rate` in a report from `measure_phenomena`, one panel a baseline."""
    first = next(iter(report.values()))
    rates = [f"{point['rate']:.2g}" for point in first["by_rate"]]
    figure, panels = _maps(report, [len(rates)] * len(first["baselines"]))
    for name, axes in zip(first["baselines"], panels, strict=True):
        _draw_map(axes, np.array([[point[name] for point in row["by_rate"]] for row in report.values()]), rates)
        axes.set(title=name, xlabel="learning rate")
    figure.suptitle("Animals that show each phenomenon under a baseline (fraction), by its learning rate")
    draw_caption(figure, caption)
    return figure


def _maps(report: Mapping[str, Any], widths: Sequence[int]) -> tuple[Any, Any]:
    """A figure with a panel for each map of so many columns, and a row a phenomenon."""
    figure = blank(2.4 + 0.55 * sum(widths), 1.8 + 0.32 * len(report))
    panels = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
    panels[0].set_yticks(range(len(report)), list(report))
    return figure, panels


def _draw_map(axes: Any, shares: Float[np.ndarray, "rows columns"], columns: Sequence[str]) -> None:
    """Draw shares as colours and numbers."""
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        colour = _LIGHT if share > 0.6 else _DARK
        axes.text(column, row, f"{share:.2f}", ha="center", va="center", color=colour, fontsize="small")
    axes.set_xticks(range(len(columns)), columns, fontsize="small")
    axes.tick_params(length=0)


def _schedule(example: Example, number: int) -> Example:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[number], example)


def _positions(circuit: ConditioningCircuit) -> dict[str, tuple[float, float]]:
    """Positions: sensory neurons on the left, interneurons below, the motor neuron on the right."""
    sensory = {name: (0.0, float(len(STIMULI) - 1 - row)) for row, name in enumerate(STIMULI)}
    columns = np.linspace(0, 2, len(circuit.interneurons) + 2)[1:-1].tolist()
    between = {name: (column, -0.8) for name, column in zip(circuit.interneurons, columns, strict=True)}
    return sensory | between | {circuit.output: (2.0, (len(STIMULI) - 1) / 2)}


def _draw_synapse(axes: Any, synapse: Connection, names: Mapping[str, Any], order: Sequence[str]) -> None:
    pre, post = names[synapse.pre], names[synapse.post]
    start, end = np.array(pre.get_position()), np.array(post.get_position())
    colour = _PLASTIC if synapse.plastic else _FIXED
    late = order.index(synapse.pre) >= order.index(synapse.post)
    axes.annotate("", end, start, arrowprops=_arrow(pre, post, colour, "arc3,rad=0.3" if late else "arc3"))
    low, high = synapse.weight_range
    strength = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    where = {"xytext": (0, 4), "textcoords": "offset points", "ha": "left", "va": "bottom"}
    axes.annotate(strength, 0.3 * start + 0.7 * end, color=colour, fontsize="small", **where)
    if synapse.modulator:
        by = names[synapse.modulator]
        dashed = _arrow(by, None, _MODULATION, "arc3") | {"linestyle": "--", "linewidth": 1.0}
        axes.annotate("", 0.5 * start + 0.5 * end, by.get_position(), arrowprops=dashed)


def _arrow(start: Any, end: Any, colour: str, path: str) -> dict[str, Any]:
    """An arrow from the box of one text to that of another, or to a point."""
    clipped = {"patchA": start.get_bbox_patch()} | ({"patchB": end.get_bbox_patch()} if end is not None else {})
    return clipped | {"arrowstyle": "-|>", "color": colour, "linewidth": 1.6, "shrinkB": 3, "connectionstyle": path}


def _draw_stimuli(axes: Any, task: ConditioningTask) -> None:
    for row, name in enumerate(STIMULI):
        steps = np.flatnonzero(task.stimuli[:, row])
        axes.vlines(steps, -row - 0.4, -row + 0.4, color=_STIMULUS_COLOURS[name], linewidth=1.2)
    axes.set_yticks([-row for row in range(len(STIMULI))], STIMULI, fontsize="small")
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    axes.tick_params(length=0)


def _draw_responses(axes: Any, animal: Example, control: Example, targets: bool) -> None:
    for row, name in enumerate(STIMULI[:-1]):
        colour = _STIMULUS_COLOURS[name]
        own, other = _LINES[name]
        axes.plot(animal.responses[:, row], color=colour, linestyle=own, label=f"to {name}")
        axes.plot(control.responses[:, row], color=colour, linewidth=0.9, linestyle=other, label=f"to {name}, control")
    task, end = animal.task, len(animal.responses) - 1
    us, has_target, sensory = task.probes[_US, _US], targets & (task.targets[:, 2] > 0), task.stimuli[:, :_US] > 0
    for row, name in enumerate(STIMULI[:-1]):
        steps = np.flatnonzero(has_target & sensory[:, row] & (sensory.sum(axis=1) == 1))  # with this stimulus only
        final = task.final_targets[row : row + 1]
        final = final[final[:, 2] > 0]
        times = np.append(steps, np.full(len(final), end))
        values = np.append(task.targets[steps, 0], final[:, 0])
        circles = {"s": 34, "marker": "os"[row], "facecolors": "none", "edgecolors": _STIMULUS_COLOURS[name]}
        axes.scatter(times, values / us, label=f"target, {name}", **circles)
