import pytest
from fabricated import results

from benchmarks.studies.comparison import draw, table, table_rows
from metarule.sweeps.declaration import Case

pytestmark = pytest.mark.drawn

ENDS = {
    "learned": [0.3, 0.85, 0.7, 0.82, 0.9],
    "backprop": [0.3, 0.5, 0.6, 0.8, 0.8],
    "backprop, tuned here": [0.3, 0.6, 0.8, 0.85, 0.9],
}


@pytest.fixture(scope="module")
def made():
    curve = lambda setting, test, who, seed: ENDS[who]
    return results("comparison", {}, curve, tests=("iris", "wine"), baselines=("backprop",), retuned=("backprop",))


def test_steps_to_threshold_are_those_from_which_the_score_stays_there(made):
    rows = {row["contender"]: row for row in table_rows(made) if row["test"] == "wine"}
    learned, backprop, tuned = (rows[name] for name in ENDS)
    assert (learned["steps_to_threshold"], learned["share"], learned["of_backprop"]) == (30, 0.75, 1.0)
    assert (backprop["steps_to_threshold"], backprop["of_backprop"], backprop["steps_to_tuned"]) == (30, 1.0, None)
    assert (tuned["steps_to_threshold"], tuned["steps_to_tuned"], learned["steps_to_tuned"]) == (20, 40, 40)
    assert backprop["difference"].mean == pytest.approx(0.1)
    assert learned["difference"] is None


def test_tests_on_which_the_rule_is_fast_are_counted(made):
    assert "within a third of the lifetime on 0 of 2 tests: none" in table(table_rows(made), made)
    fast = dict(ENDS, learned=[0.3, 0.85, 0.85, 0.85, 0.9])
    curve = lambda setting, test, who, seed: fast[who] if test == "iris" else ENDS[who]
    other = results("comparison", {}, curve, tests=("iris", "wine"), baselines=("backprop",), retuned=("backprop",))
    assert "within a third of the lifetime on 1 of 2 tests: iris" in table(table_rows(other), other)


def test_the_figure_is_drawn(made, tmp_path):
    draw(tmp_path / "figure.png", table_rows(made), made)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_several_rules_are_compared_with_baselines_each(tmp_path):
    cases = (Case(name="good", set={"rule.terms": ["seven"]}), Case(name="bad"))
    curve = lambda setting, test, who, seed: [0.9 if who == "delta" or "good" in setting.label else 0.4] * 5
    study = results("comparison", {"cases": cases}, curve, baselines=("delta",))
    rows = table_rows(study)
    assert [(row["rule"], row["contender"]) for row in rows] == [
        (rule, who) for rule in ("good", "bad") for who in ("learned", "delta")
    ]
    assert [row["difference"].mean for row in rows[1::2]] == pytest.approx([0, -0.5])
    assert all(row["share"] is None for row in rows)
    assert "within a third" not in table(rows, study)
    draw(tmp_path / "figure.png", rows, study)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
