"""Figures of a run."""

from metarule.runs.figures.canvas import drawn_last
from metarule.runs.figures.conditioning import draw_circuit, draw_phenomena, draw_rates, draw_timings
from metarule.runs.figures.inference import (
    draw_inferred_coefficients,
    draw_models,
    draw_residuals,
    draw_spectrum,
    draw_trajectories,
    inference_caption,
)
from metarule.runs.figures.labels import run_name
from metarule.runs.figures.runs import (
    draw_coefficients,
    draw_front,
    draw_meta_loss,
    draw_performance,
    draw_seeds,
    draw_tasks,
    performance_notes,
    seeds_notes,
)

__all__ = [
    "draw_circuit",
    "draw_coefficients",
    "draw_front",
    "draw_inferred_coefficients",
    "draw_meta_loss",
    "draw_models",
    "draw_performance",
    "draw_phenomena",
    "draw_rates",
    "draw_residuals",
    "draw_seeds",
    "draw_spectrum",
    "draw_tasks",
    "draw_timings",
    "draw_trajectories",
    "drawn_last",
    "inference_caption",
    "performance_notes",
    "run_name",
    "seeds_notes",
]
