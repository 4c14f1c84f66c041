import numpy as np
from inking import inked

from metarule.runs.figures import draw_coefficients, draw_meta_loss, draw_performance, draw_seeds, draw_tasks


def test_meta_loss_with_values_that_are_not_finite(tmp_path):
    losses = [None if step % 7 == 0 else 1 / (step + 1) for step in range(60)]
    draw_meta_loss(tmp_path / "figures" / "loss.png", range(1, 61), losses)
    assert inked(tmp_path / "figures" / "loss.png")


def test_one_meta_step_is_enough(tmp_path):
    draw_meta_loss(tmp_path / "loss.png", [1], [0.5])
    draw_coefficients(tmp_path / "coefficients.png", [1], {"θ": {"pre*post": [0.1]}})
    assert inked(tmp_path / "loss.png")
    assert inked(tmp_path / "coefficients.png")


def test_more_terms_than_colours(tmp_path):
    terms = {f"pre^{power}": list(np.linspace(0, power, 5)) for power in range(1, 21)}
    draw_coefficients(tmp_path / "coefficients.png", range(5), {"projection 1": terms, "projection 2": terms})
    assert inked(tmp_path / "coefficients.png")


def test_performance_and_seeds(tmp_path):
    curve = {"mean": [0.1, 0.5], "low": [0.0, 0.4], "high": [0.2, 0.6]}
    none = {"mean": [0.1, 1.0], "low": [None, None], "high": [None, None]}
    written = {"steps": [0, 10], "score": "solved", "contenders": {"learned": curve, "delta": none}}
    draw_performance(tmp_path / "performance.png", written, 10, "4 tasks")
    draw_performance(tmp_path / "horizon.png", written, 5, "4 tasks")
    assert inked(tmp_path / "horizon.png")
    draw_tasks(
        tmp_path / "tasks.png", {"learned": [0.9, 0.8, 1.0], "delta": [0.5, 0.6, 0.7]}, "solved", "held-out tasks"
    )
    draw_seeds(tmp_path / "seeds.png", {"learned": [0.9, 0.8], "delta": [0.5, 0.6]}, "solved", "2 seeds")
    assert inked(tmp_path / "performance.png")
    assert inked(tmp_path / "seeds.png")
    assert inked(tmp_path / "tasks.png")
