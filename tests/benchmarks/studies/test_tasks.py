import pytest
from fabricated import results

from benchmarks.studies.tasks import check, draw, table, table_rows
from metarule.config.toml import ConfigError
from metarule.sweeps.declaration import Case

pytestmark = pytest.mark.drawn

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


def test_rows_hold_errors_and_their_gap():
    rows = table_rows(made())
    assert [(row["rule"], row["training_tasks"]) for row in rows[:7]] == [
        *(("7 terms", number) for number in (1, 2, 4, 8, 16, 32)),
        ("16 terms", 1),
    ]
    assert [row["rule"] for row in rows[12:]] == ["7 terms", "16 terms", "all"]
    assert rows[12]["exponent"].mean == pytest.approx(1)
    assert rows[12]["closed"].mean == pytest.approx(30)
    assert rows[14]["closing_exponent"].mean == pytest.approx(0, abs=1e-6)  # both gaps are alike
    for row in rows[:12]:
        assert row["training_error"].mean == pytest.approx(0.2)
        assert row["new_error"].mean == pytest.approx(0.2 + 0.3 / row["training_tasks"])
        assert row["gap"].mean == pytest.approx(0.3 / row["training_tasks"])
        assert row["delta"].mean == pytest.approx(0.25)


def test_the_table_has_the_exponent_and_the_figure_is_drawn(tmp_path):
    study = made()
    text = table(table_rows(study), study)
    assert "7 terms: gap ≈ 0.300·N^−1.00 [–]; 0.01 with 30 [–] tasks" in text  # seeds are alike
    assert "tasks that close the gap: number of terms to the power of" in text
    draw(tmp_path / "figure.png", table_rows(study), study)
    assert (tmp_path / "figure.png").stat().st_size > 20_000


def test_other_axes_are_refused():
    study = results("tasks", {"product": {AXIS: ("all",)}, "cases": CASES}, lambda *_: [0.5] * 5)
    with pytest.raises(ConfigError, match="numbers of optimizer.train_tasks"):
        check(study.study, study.plan)
    study = made()
    check(study.study, study.plan)
