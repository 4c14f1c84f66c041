import numpy as np
import pytest
from inferred import inferred, unidentified
from inking import inked
from matplotlib.figure import Figure

from metarule.config.messages import collect_warnings
from metarule.runs.figures import (
    draw_inferred_coefficients,
    draw_models,
    draw_residuals,
    draw_spectrum,
    draw_trajectories,
)


@pytest.fixture
def texts(monkeypatch):
    """Texts of the figures that are drawn, which must not cause warnings."""
    found, write = [], Figure.savefig

    def savefig(figure, *args, **kwargs):
        write(figure, *args, **kwargs)
        found.extend(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))

    monkeypatch.setattr(Figure, "savefig", savefig)
    with collect_warnings() as warnings:
        yield found
    assert warnings == []


def example(of, observed):
    line = np.linspace(0, 1, len(observed))
    return {
        "animal": "mouse 7",
        "of": of,
        "observed": observed,
        "simulated": line,
        "low": line - 0.1,
        "high": line + 0.1,
    }


def test_the_largest_of_many_coefficients(tmp_path, texts):
    draw_inferred_coefficients(tmp_path / "many.png", inferred("pre, post, weight, neuromodulator"))
    assert inked(tmp_path / "many.png")
    assert {"Inferred coefficients (30 largest of 81 terms)", "post²·weight", "pre·post"} < set(texts)
    assert "coefficient (Δw per unit of the term)" in texts
    assert "goes on beyond the axis" not in texts


def test_selected_and_unbounded_coefficients(tmp_path, texts):
    report = unidentified() | {"selected": ["pre*post"]}
    draw_inferred_coefficients(tmp_path / "unbounded.png", report)
    assert inked(tmp_path / "unbounded.png")
    assert {"the same, not selected", "bootstrap over animals", "goes on beyond the axis"} < set(texts)
    assert "Inferred coefficients (1 of 27 terms selected)" in texts


def test_a_rule_without_coefficients_has_no_figure_of_them(tmp_path, texts):
    draw_inferred_coefficients(tmp_path / "none.png", inferred(coefficients={}))
    assert not (tmp_path / "none.png").exists()


@pytest.mark.long
def test_coefficients_that_are_all_zero(tmp_path, texts):
    report = inferred()
    for row in report["coefficients"].values():
        row |= {"estimate": 0.0, "low": 0.0, "high": 0.0}
    draw_inferred_coefficients(tmp_path / "zero.png", report)
    assert inked(tmp_path / "zero.png")


def test_models_in_order_even_without_an_interval(tmp_path, texts):
    report = inferred()
    report["models"]["oja"]["difference"] |= {"low": None, "high": None}
    draw_models(tmp_path / "models.png", report)
    assert inked(tmp_path / "models.png")
    labels = dict.fromkeys(text for text in texts if text.endswith(("(2)", "(1)", "(0)")))
    assert list(labels) == ["inferred rule (2)", "oja (1)", "null (0)"]
    assert any("rule − model (nats an animal), 95 % interval, logarithmic beyond ±1" in one for one in texts)


@pytest.mark.long
def test_trajectories_of_activity_and_choices(tmp_path, texts):
    choices, activity = np.tile([0.0, 1.0, np.nan], 10), [0.1, None, 0.4]
    draw_trajectories(
        tmp_path / "all.png",
        [example("P(choice = 1)", choices), example("weight 0→1", activity), example("P(choice = 1)", choices[:2])],
    )
    assert inked(tmp_path / "all.png")
    assert {"observed, mean of 15 trials", "observed choices", "observed", "95 % band", "trial", "step"} < set(texts)
    assert "weight 0→1\n(recorded units)" in texts


def test_residuals_with_the_share_outside(tmp_path, texts):
    values = [[0.0] * 9, [3.0] + [np.nan] * 8]
    draw_residuals(tmp_path / "residuals.png", {"residual": values, "of": "activity", "lag1": 0.031})
    assert inked(tmp_path / "residuals.png")
    assert "10.0 % outside ±1.96 (5 % expected), autocorrelation at lag 1: 0.03 (0 expected)" in texts
    draw_residuals(tmp_path / "far.png", {"residual": [0.0, 9.0], "of": "weights", "lag1": None})
    assert "standardised residual of weights (standard deviations; outermost bars: all beyond)" in texts


@pytest.mark.long
def test_spectra_with_loose_directions_and_without(tmp_path, texts):
    draw_spectrum(tmp_path / "loose.png", unidentified())
    assert inked(tmp_path / "loose.png")
    assert {"determined: 9", "loose: 17", "not determined at all (no finite value): 1"} < set(texts)
    assert "1: pre·post − pre·post²·weight" in texts
    assert "9 of 27 directions of θ are determined: not identified" in texts
    draw_spectrum(tmp_path / "all.png", inferred())
    assert inked(tmp_path / "all.png")
    assert "determined: 27" in texts
