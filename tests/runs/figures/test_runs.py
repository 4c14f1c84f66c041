import warnings

import numpy as np
import pytest
from inking import inked

from metarule.runs.figures import (
    draw_coefficients,
    draw_front,
    draw_meta_loss,
    draw_performance,
    draw_seeds,
    draw_tasks,
    performance_notes,
    seeds_notes,
)

SOLVED = {"metric": "solved", "of": "training tasks (nothing held out)"}


def metrics(steps, **others):
    return [{"step": step, "loss": 1 / step, "lifetimes": 4, "theta": [0.1 * step]} | others for step in steps]


def test_meta_loss_with_values_that_are_not_finite(tmp_path):
    rows = [row | {"loss": None} if row["step"] % 7 == 0 else row for row in metrics(range(1, 61))]
    draw_meta_loss(tmp_path / "figures" / "loss.png", rows, SOLVED, "a run")
    assert inked(tmp_path / "figures" / "loss.png")


def test_negative_meta_losses_are_within_the_axes():
    rows = [row | {"loss": -0.5 - 0.01 * row["step"]} for row in metrics(range(1, 31))]
    (axes,) = draw_meta_loss.__wrapped__(rows, SOLVED | {"metric": "reward"}, "a run").axes
    low, high = axes.get_ylim()
    assert low < -0.8 < -0.51 < high


def test_the_meta_loss_stands_above_the_scores_with_its_rejected_steps():
    rows = metrics(range(1, 101))
    rows[9] |= {"rejected": True}
    for at in (49, 99):
        rows[at] |= {"held_out": {"solved": 0.5, "accuracy": 0.7}, "validation": {"solved": 0.6}}
        rows[at] |= {"lyapunov_exponent": {"median": -0.1, "largest": 0.2}}
    top, below, lowest = draw_meta_loss.__wrapped__(rows, SOLVED, "boolean/s0").axes
    labels = [text.get_text() for text in top.get_legend().get_texts()]
    assert labels == ["each meta-step", "interquartile mean of 5 around each", "rejected: 1"]
    assert [line.get_ydata().tolist() for line in below.get_lines()] == [[0.5, 0.5], [0.6, 0.6]]
    labels = [text.get_text() for text in below.get_legend().get_texts()]
    assert labels == ["training tasks (nothing held out)", "validation tasks"]
    assert below.get_ylabel() == "tasks solved\n(fraction)"
    assert [list(line.get_ydata()) for line in lowest.get_lines()] == [[-0.1, -0.1], [0.2, 0.2], [0, 0]]
    middle = top.get_lines()[1].get_ydata()
    assert middle[50] == pytest.approx((1 / 50 + 1 / 51 + 1 / 52) / 3)  # of what is around it, not of what was before


def test_one_meta_step_is_enough(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_meta_loss(tmp_path / "loss.png", metrics([1]), SOLVED, "a run")
        draw_coefficients(tmp_path / "coefficients.png", ["pre*post"], metrics([1]), "a run")
    assert inked(tmp_path / "loss.png")
    assert inked(tmp_path / "coefficients.png")


def test_a_term_has_one_style_in_all_panels():
    terms = [f"pre^{power}" for power in range(1, 21)]
    names = [f"{panel}: {term}" for panel in ("one", "two") for term in terms]
    sizes = np.concatenate([np.arange(1, 21), 0.01 * np.arange(20, 0, -1)])  # a small θ has labelled terms, too
    rows = [{"step": step, "theta": (step * sizes).tolist()} for step in range(5)]
    figure = draw_coefficients.__wrapped__(names, rows, "a run")
    one, two = (
        {line.get_gid(): line.get_color() for line in axes.get_lines() if line.get_gid()} for axes in figure.axes
    )
    assert one == two
    assert len(set(one.values())) == 8
    assert {"curve:pre^1", "curve:pre^20"} < set(one)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "pre²⁰" in texts
    assert texts[-1] == "12 others"


@pytest.fixture
def performance():
    curve = {"mean": [0.1, 0.5], "low": [0.0, 0.4], "high": [0.2, 0.6]}
    none = {"mean": [0.1, 1.0], "low": [None, None], "high": [None, None]}
    return {"steps": [0, 10], "score": "solved", "contenders": {"learned": curve, "delta": none}}


def test_performance_in_order_of_the_score_with_rates_and_threshold(performance):
    rows = {"learned": {"diverged": 0}, "initial": {"diverged": 2, "steps_to_threshold": {"at": 10}}}
    report = {"of": "held-out tasks", "tasks": 1, "lifetimes": 8, "threshold": 0.9} | rows
    notes = performance_notes(report | {"baselines": {"delta": {"diverged": 0, "learning_rate": 0.0333}}}, "boolean/s0")
    assert notes["caption"] == "boolean/s0: mean and 95 % interval over 1 task, 8 networks; diverged: initial 2"
    text = draw_performance.svg(performance, 10, **notes)
    assert text.index("delta, rate 0.033") < text.index(">learned<")
    for part in (">0.9<", "Held-out tasks: score along the lifetime", "tasks solved (fraction)", notes["caption"]):
        assert part in text
    assert text.count('id="curve:delta"') >= 3  # its line, its band and its entry


def test_performance_beyond_a_lifetime_has_a_panel_of_the_same_scale(performance, tmp_path):
    longer = performance | {"steps": [5, 10]}
    inside, beyond = draw_performance.__wrapped__(longer, 5, "4 tasks").axes
    assert inside.get_ylim() == beyond.get_ylim()
    assert [label.get_text() for label in beyond.get_xticklabels()] == ["1 ×", "2 ×"]
    draw_performance(tmp_path / "performance.png", longer, 5, "4 tasks")
    assert inked(tmp_path / "performance.png")


def test_seeds_and_their_differences():
    interval = {"mean": 0.0, "low": None, "high": None}
    row = {"by_seed": [0.5, 0.6], "difference": interval} | interval
    held_out = {"metric": "solved", "of": "held-out tasks", "seeds": 2, "tasks": 8, "initial": row | {"mean": 0.1}}
    held_out |= {"learned": {"by_seed": [0.9, 0.8], "mean": 0.85, "low": 0.8, "high": 0.9}, "baselines": {}}
    figure = draw_seeds.__wrapped__(held_out, **seeds_notes(held_out, "boolean/s0-1"))
    scores, differences = figure.axes
    assert [label.get_text() for label in scores.get_yticklabels()] == ["learned", "initial"]
    dots = differences.collections[0].get_offsets()
    np.testing.assert_allclose(dots[:, 0], [0.4, 0.2])
    assert not [line for line in scores.get_lines() if len(line.get_xdata()) > 1]  # no categories are joined


def test_tasks_with_the_share_at_the_threshold():
    values = {"delta": [0.5, 0.6, 0.95, 0.2], "learned": [0.9, 0.8, 1.0, 0.95]}
    figure = draw_tasks.__wrapped__(values, "reward", "held-out tasks", 0.9, "a run")
    assert figure.axes[0].get_title() == "Held-out tasks, 4: learned reaches 0.9 or more on 75 % of them"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "learned: 75 % of tasks",
        "delta: 25 % of tasks",
    ]


def test_the_front_of_a_structure_search(tmp_path):
    row = {"mean": 0.5, "low": None, "high": None}
    rows = [row | {"terms": 1, "names": ["post^2"]}, row | {"terms": 3, "names": ["pre", "post", "weight"]}]
    text = draw_front.svg({"metric": "solved", "of": "held-out tasks", "structures": rows}, "a run")
    assert "post²" in text
    assert "a run" in text
