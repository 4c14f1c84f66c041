import pytest
from fabricated import results

from benchmarks.studies.transfer import draw, table, table_rows
from metarule.sweeps.declaration import Case

pytestmark = pytest.mark.drawn

FAMILIES = ("two inputs", "three inputs")
CASES = (Case(name=FAMILIES[0]), Case(name=FAMILIES[1], set={"tasks.inputs": 3}))


@pytest.fixture(scope="module")
def made():
    """A rule scores 0.9 where it was learned and 0.7 elsewhere; the delta rule 0.8."""
    end = lambda setting, test, who: 0.8 if who != "learned" else 0.9 if setting.label == test else 0.7
    return results(
        "transfer",
        {"cases": CASES},
        lambda setting, test, who, seed: [0.5] * 4 + [end(setting, test, who) + 0.01 * seed],
        tests=FAMILIES,
        retuned=("delta",),
    )


def test_the_matrix(made):
    rows = table_rows(made)
    differences = [f"the test's own − {name}" for name in FAMILIES]
    assert [row["learned on"] for row in rows] == [*FAMILIES, "delta, tuned here", *differences]
    values = [[row[test].mean for test in FAMILIES] for row in rows[:3]]
    for row, expected in zip(values, [[0.91, 0.71], [0.71, 0.91], [0.81, 0.81]], strict=True):
        assert row == pytest.approx(expected)


def test_the_rule_of_a_family_is_compared_with_the_others_there(made):
    rows = table_rows(made)
    assert [rows[3][FAMILIES[1]].mean, rows[4][FAMILIES[0]].mean] == pytest.approx([0.2, 0.2])
    assert rows[3][FAMILIES[0]] is None  # its own
    assert "the test's own − three inputs" in table(rows, made)


def test_the_figure_is_drawn(made, tmp_path):
    draw(tmp_path / "figure.png", table_rows(made), made)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
