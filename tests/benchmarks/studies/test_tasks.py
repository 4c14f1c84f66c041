import numpy as np
import pytest
from fabricated import results

from benchmarks.studies.tasks import check, draw, fit, table, table_rows
from metarule.config.toml import ConfigError
from metarule.sweeps.declaration import Case

pytestmark = pytest.mark.drawn

NUMBERS = [1, 2, 3, 5, 9, 20, 50, 100]
AXIS = "optimizer.train_tasks"
CASES = (Case(name="7 terms", set={"rule.terms": ["seven"]}), Case(name="16 terms"))


def made():
    """The error on new tasks is 0.2 + 0.3/N, that on training tasks 0.2, and that of the delta rule 0.25."""
    gap = lambda setting: 0.3 / setting.values[AXIS]
    end = lambda setting, who: 0.8 - gap(setting) if who == "learned" else 0.75
    sweep = {"product": {AXIS: (1, 2, 4, 8, 16, 32)}, "cases": CASES}
    return results(
        "tasks",
        sweep,
        lambda setting, test, who, seed: [0.5] * 4 + [end(setting, who)],
        baselines=("delta",),
        trained=lambda setting, seed: 0.8,
    )


def test_the_intervals_of_a_fit_hold_the_power_law():
    rng = np.random.default_rng(0)
    gaps = 0.3 * np.array(NUMBERS, float) ** -0.5 + rng.normal(0, 0.02, (10, len(NUMBERS)))
    fitted = fit(NUMBERS, gaps)
    assert fitted.exponent.low < 0.5 < fitted.exponent.high
    assert fitted.scale.low < 0.3 < fitted.scale.high
    assert fitted.exponent.high - fitted.exponent.low < 0.3
    assert fit(NUMBERS, gaps[:1]).exponent.mean == pytest.approx(0.5, abs=0.2)
    assert np.isnan(fit(NUMBERS, gaps[:1]).exponent.low)


def test_rows_hold_errors_and_their_gap():
    rows = table_rows(made())
    assert [(row["rule"], row["training_tasks"]) for row in rows[:7]] == [
        *(("7 terms", number) for number in (1, 2, 4, 8, 16, 32)),
        ("16 terms", 1),
    ]
    for row in rows:
        assert row["training_error"].mean == pytest.approx(0.2)
        assert row["new_error"].mean == pytest.approx(0.2 + 0.3 / row["training_tasks"])
        assert row["gap"].mean == pytest.approx(0.3 / row["training_tasks"])
        assert row["delta"].mean == pytest.approx(0.25)


def test_the_table_has_the_exponent_and_the_figure_is_drawn(tmp_path):
    study = made()
    text = table(table_rows(study), study)
    assert "7 terms: gap ≈ 0.300·N^−1.00, exponent 95 % interval –" in text  # seeds are alike
    draw(tmp_path / "figure.png", table_rows(study), study)
    assert (tmp_path / "figure.png").stat().st_size > 20_000


def test_other_axes_are_refused():
    study = results("tasks", {"product": {AXIS: ("all",)}, "cases": CASES}, lambda *_: [0.5] * 5)
    with pytest.raises(ConfigError, match="numbers of optimizer.train_tasks"):
        check(study.study, study.plan)
    study = made()
    check(study.study, study.plan)
