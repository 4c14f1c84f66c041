"""Figures of an inferred rule: coefficients, models, trajectories, residuals and identifiability."""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from metarule.analysis.comparison import LEARNED
from metarule.rules.terms import typeset
from metarule.runs.figures.canvas import COLOURS, blank, figure_of, picture
from metarule.runs.figures.labels import draw_caption
from metarule.runs.figures.methods import style_of
from metarule.runs.inference_tables import LOOSE, largest_first, likeliest_first

__all__ = ["draw_inferred_coefficients", "draw_models", "draw_residuals", "draw_spectrum", "draw_trajectories"]
__all__ += ["inference_caption"]

# Rows of the figure of coefficients, at most.
_ROWS = 30
# Multiple of the largest estimate that differs from 0, or of the usual interval, at which the axis ends.
_CUT = 3.0
# Ratio of differences above which their axis is logarithmic outside ±1 nat.
_RANGE = 30.0
# Trials of the running mean of choices, and the start of the name of their probability.
_TRIALS, _CHOICES = 15, "P("
# Ends of the 95 % interval of N(0, 1), and of the histogram of residuals.
_NORMAL, _END = 1.96, 5.0
# Loose directions that are named, and characters of their equations.
_NAMED, _CHARACTERS = 3, 90
_OTHER, _PLAIN = "0.55", "{x:g}"


@picture
def draw_inferred_coefficients(report: Mapping[str, Any], caption: str = "") -> Any:
    """Draw the largest coefficients with their 95 % intervals, selected ones first; nothing if there are none."""
    terms = largest_first(report)[:_ROWS]
    if not terms:
        return None
    rows, selected = report["coefficients"], set(report["selected"] or report["coefficients"])
    figure, (axes,) = figure_of(1, width=8.0, height=1.8 + 0.24 * len(terms))
    limit = _limit([rows[term] for term in terms])
    for number, term in enumerate(terms):
        row, colour = rows[term], COLOURS[0] if term in selected else _OTHER
        _draw_interval(axes, number, (row["low"], row["high"]), limit, color=colour, linewidth=2.4)
        if row.get("bootstrap"):
            _draw_interval(axes, number + 0.3, row["bootstrap"], limit, color=COLOURS[1], linewidth=0.9)
        face = colour if term in selected else "white"
        axes.plot(row["estimate"], number, "o", color=colour, markerfacecolor=face, markersize=5, zorder=3)
    axes.axvline(0, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_yticks(range(len(terms)), [typeset(term) for term in terms])
    axes.set(xlim=(-limit, limit), ylim=(len(terms) - 0.3, -0.7), xlabel="coefficient (Δw per unit of the term)")
    axes.set_title(_coefficients_title(report, terms))
    keys = [({"color": COLOURS[0], "linewidth": 2.4, "marker": "o"}, "estimate, 95 % interval (may be within the dot)")]
    if selected < set(terms):
        style = {"color": _OTHER, "linewidth": 2.4, "marker": "o", "markerfacecolor": "white"}
        keys.append((style, "the same, not selected"))
    if any(_is_seen(rows[term].get("bootstrap"), limit) for term in terms):
        keys.append(({"color": COLOURS[1], "linewidth": 0.9}, "bootstrap over animals"))
    if any(_furthest(rows[term]) > limit for term in terms):
        keys.append(({"color": "black", "marker": ">", "linestyle": "none"}, "goes on beyond the axis"))
    handles = [axes.plot([], [], label=label, **style)[0] for style, label in keys]
    _draw_keys(figure, handles, 2, caption)
    return figure


@picture
def draw_models(report: Mapping[str, Any], caption: str = "") -> Any:
    """Draw how much the held-out log-likelihood of the inferred rule is above that of each model, the best first."""
    models = likeliest_first(report["models"])
    figure, (axes,) = figure_of(1, width=8.0, height=1.5 + 0.36 * len(models))
    sizes = []
    for number, (name, row) in enumerate(models.items()):
        difference = row.get("difference") or {"mean": 0.0, "low": None, "high": None}
        mean, low, high = (np.nan if difference[end] is None else difference[end] for end in ("mean", "low", "high"))
        reference = row.get("difference") is None
        style = style_of(LEARNED if reference else name, [LEARNED, *models])
        axes.hlines(number, low, high, color=style["color"], linewidth=2.4)
        axes.plot(mean, number, color=style["color"], marker=style["marker"], markersize=6, zorder=3)
        sizes += [] if reference else [abs(value) for value in (mean, low, high) if np.isfinite(value) and value]
    if sizes and max(sizes) > _RANGE * max(min(sizes), 1.0):
        axes.set_xscale("symlog", linthresh=1.0, linscale=0.6)
        axes.xaxis.set_major_formatter(_PLAIN)
    axes.axvline(0, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_yticks(range(len(models)), [f"{name} ({row['parameters']})" for name, row in models.items()])
    axes.set(ylim=(len(models) - 0.5, -0.5), ylabel="model (parameters)")
    scale = ", logarithmic beyond ±1" if axes.get_xscale() == "symlog" else ""
    axes.set_xlabel(f"log-likelihood of the inferred rule − model (nats an animal), 95 % interval{scale}")
    axes.set_title(f"Models on {report['held_out']}; right of 0 the inferred rule is better")
    draw_caption(figure, caption)
    return figure


@picture
def draw_trajectories(examples: Sequence[Mapping[str, Any]], caption: str = "") -> Any:
    """Draw what was observed and what the inferred rule simulates, in one panel an example.

    Args:
        examples: of each, `animal`, `of` (such as `weight 0→1` or `P(choice = 1)`), and at each step `observed` (NaN
            where nothing was), `simulated`, and `low` and `high` of the 95 % band.
        caption: line below the axes.
    """
    columns = min(2, len(examples))
    figure = blank(6.0 * columns, 3.0 * -(-len(examples) // columns) + 0.5)
    panels = figure.subplots(-(-len(examples) // columns), columns, squeeze=False).reshape(-1)
    entries: dict[str, Any] = {}
    for axes, example in zip(panels, examples):
        observed, simulated, low, high = (
            np.array(example[name], float) for name in ("observed", "simulated", "low", "high")
        )
        steps, is_choice = np.arange(len(simulated)), example["of"].startswith(_CHOICES)
        axes.fill_between(steps, low, high, color=COLOURS[5], alpha=0.4, linewidth=0, label="95 % band")
        axes.plot(steps, simulated, color=COLOURS[0], label="simulated with the inferred rule", zorder=3)
        (_draw_choices if is_choice else _draw_observed)(axes, steps, observed)
        unit = "" if is_choice else "\n(recorded units)"
        axes.set(xlabel="trial" if is_choice else "step", ylabel=f"{example['of']}{unit}")
        axes.set_title(str(example["animal"]))
        entries |= {handle.get_label(): handle for handle in axes.get_legend_handles_labels()[0]}
    for axes in panels[len(examples) :]:
        axes.set_axis_off()
    _draw_keys(figure, list(entries.values()), 2 * columns, caption)
    return figure


@picture
def draw_residuals(residuals: Mapping[str, Any], caption: str = "") -> Any:
    """Draw the distribution of standardised residuals beside N(0, 1), which it follows if model and noise are right.

    Args:
        residuals: `residual`, an array with NaN where nothing was observed (of choices: randomised quantile residuals,
            because others are not normal); `of`, the name of what was observed; `lag1`, their autocorrelation from step
            to step.
        caption: line below the axes.
    """
    values = np.ravel(np.array(residuals["residual"], float))
    values = values[np.isfinite(values)]
    figure, (axes,) = figure_of(1)
    edges, points = np.linspace(-_END, _END, 51 if values.size > 500 else 21), np.linspace(-_END, _END, 201)
    axes.hist(np.clip(values, -_END, _END), edges, density=True, color=COLOURS[5], label=f"{values.size:,} residuals")
    axes.plot(points, np.exp(-(points**2) / 2) / np.sqrt(2 * np.pi), color="black", label="N(0, 1)")
    for end in (-_NORMAL, _NORMAL):
        axes.axvline(end, color="0.4", linewidth=0.8, linestyle="--", label=f"±{_NORMAL}" if end > 0 else None)
    lag1 = residuals["lag1"]
    outside = f"{np.mean(np.abs(values) > _NORMAL):.1%}".replace("%", " %")
    text = f"{outside} outside ±{_NORMAL} (5 % expected), autocorrelation at lag 1: "
    axes.set_title(text + ("–" if lag1 is None else f"{lag1:.2f} (0 expected)".replace("-", "−")))
    beyond = "; outermost bars: all beyond" if np.any(np.abs(values) > _END) else ""
    axes.set(xlabel=f"standardised residual of {residuals['of']} (standard deviations{beyond})", ylabel="density")
    axes.legend()
    draw_caption(figure, caption)
    return figure


@picture
def draw_spectrum(report: Mapping[str, Any], caption: str = "") -> Any:
    """Draw the standard deviation of each eigendirection of θ in units of the scale; the loosest have equations."""
    identified = report["identified"]
    spectrum = np.array(identified["spectrum"], float)  # None, which is infinite, becomes NaN
    finite = spectrum[np.isfinite(spectrum) & (spectrum > 0)]
    top = 10 * max(finite.max(initial=LOOSE), LOOSE)
    drawn = np.clip(np.where(np.isfinite(spectrum), spectrum, top), finite.min(initial=LOOSE) / 10, top)
    figure, (axes,) = figure_of(1, width=8.0, height=4.6)
    numbers, is_loose = np.arange(1, len(drawn) + 1), ~(spectrum <= LOOSE)
    groups = (
        (~is_loose, "o", COLOURS[0], "determined"),
        (is_loose & np.isfinite(spectrum), "^", COLOURS[1], "loose"),
        (~np.isfinite(spectrum), "v", "black", "not determined at all (no finite value)"),
    )
    for chosen, marker, colour, label in groups:
        if chosen.any():
            axes.plot(numbers[chosen], drawn[chosen], marker, color=colour, label=f"{label}: {chosen.sum()}")
    axes.axhline(LOOSE, color="0.4", linewidth=0.8, linestyle="--", label=f"{LOOSE:g} of the scale")
    named = [shorten(typeset(one), _CHARACTERS, placeholder=" …") for one in identified["loose"][:_NAMED]]
    for number, text in enumerate(named, 1):
        place = (numbers[-number], drawn[-number])
        axes.annotate(f"{number}", place, xytext=(0, 7), textcoords="offset points", ha="center", fontsize="small")
        axes.plot([], [], " ", label=f"{number}: {text}")
    axes.set(yscale="log", xlabel="eigendirection of θ (number)", ylabel="standard deviation (units of the scale)")
    axes.yaxis.set_major_formatter(_PLAIN)
    axes.margins(y=0.12)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlim(0.4, len(drawn) + 0.6)
    verdict = "partly identified" if identified["verdict"] == "partly" else identified["verdict"]
    title = f"{identified['directions']} of {identified['of']} directions of θ are determined: {verdict}"
    axes.set_title(title)
    _draw_keys(figure, axes.get_legend_handles_labels()[0], 1, caption)
    return figure


def inference_caption(report: Mapping[str, Any], run: str) -> str:
    """Caption of all figures of an inference: the name of the run, and the numbers of animals and observations."""
    animals, observations = report["animals"], report["observations"]
    counts = ", ".join(f"{count:,} observations of {kind}" for kind, count in observations.items())
    return f"{run}: {animals['fitted']} fitted and {animals['held_out']} held-out animals, {counts}"


def _draw_keys(figure: Any, handles: Sequence[Any], columns: int, caption: str) -> None:
    """Draw a legend below the axes, and the caption above its entries."""
    title = {"title": caption or None, "title_fontsize": "small", "alignment": "left"}
    figure.legend(handles=handles, ncols=columns, loc="outside lower left", **title)


def _limit(rows: Sequence[Mapping[str, Any]]) -> float:
    """End of the axis of coefficients: beyond all intervals, or where the longest are cut."""
    furthest = [_furthest(row) for row in rows]
    finite = [end for end in furthest if np.isfinite(end)] or [abs(row["estimate"]) for row in rows]
    clear = [abs(row["estimate"]) for row in rows if None not in (row["low"], row["high"]) and not _contains_zero(row)]
    return 1.1 * min(max(finite), _CUT * max(*clear, float(np.median(finite)), 0.0)) or 1.0


def _contains_zero(row: Mapping[str, Any]) -> bool:
    return bool(row["low"] <= 0 <= row["high"])


def _furthest(row: Mapping[str, Any]) -> float:
    """Largest size of a coefficient and of the ends of its intervals, which are infinite where they are None."""
    ends = (row["low"], row["high"], *(row.get("bootstrap") or ()))
    return max(abs(row["estimate"]), *(np.inf if end is None else abs(end) for end in ends))


def _is_seen(ends: Sequence[float | None] | None, limit: float) -> bool:
    """True if an interval is long enough to be seen, or infinite."""
    low, high = ends or (0.0, 0.0)
    return low is None or high is None or high - low > limit / 500


def _draw_interval(axes: Any, row: int | float, ends: Sequence[float | None], limit: float, **style: Any) -> None:
    """Draw an interval, with an arrowhead at each end that is beyond the axis or infinite (None)."""
    low, high = (infinite if end is None else end for end, infinite in zip(ends, (-np.inf, np.inf), strict=True))
    axes.hlines(row, max(low, -limit), min(high, limit), **style)
    for is_beyond, place, marker in ((low < -limit, -0.985 * limit, "<"), (high > limit, 0.985 * limit, ">")):
        if is_beyond:
            axes.plot(place, row, marker, color=style["color"], markersize=4 + style["linewidth"])


def _coefficients_title(report: Mapping[str, Any], terms: Sequence[str]) -> str:
    others = report["terms"] - len(terms)
    shown = f"{len(terms)} largest of {report['terms']} terms" if others > 0 else "all terms"
    if report["selected"] and len(report["selected"]) < report["terms"]:
        shown = f"{len(report['selected'])} of {report['terms']} terms selected"
    return f"Inferred coefficients ({shown})"


def _draw_observed(axes: Any, steps: Int[np.ndarray, " steps"], observed: Float[np.ndarray, " steps"]) -> None:
    size = float(np.clip(300 / len(steps), 1.5, 5.0))
    axes.plot(steps, observed, "o", color="black", markersize=size, label="observed")


def _draw_choices(axes: Any, trials: Int[np.ndarray, " trials"], observed: Float[np.ndarray, " trials"]) -> None:
    """Draw choices as ticks above and below, and their running mean where any were observed."""
    window = np.ones(min(_TRIALS, len(observed)))
    seen = np.isfinite(observed)
    counts = np.convolve(seen, window, "same")
    means = np.convolve(np.where(seen, observed, 0.0), window, "same") / np.where(counts > 0, counts, np.nan)
    label = f"observed, mean of {len(window)} trials"
    axes.plot(trials, means, color="black", linestyle="--", linewidth=1.0, label=label)
    for choice, low, high in ((0, -0.1, -0.04), (1, 1.04, 1.1)):
        times = trials[observed == choice]
        axes.vlines(times, low, high, color="black", linewidth=0.8, label="observed choices" if choice else None)
    axes.set_ylim(-0.14, 1.14)
