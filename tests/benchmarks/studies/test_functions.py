import pytest
from fabricated import results

from benchmarks.studies.functions import check, draw, table, table_rows
from metarule.sweeps.declaration import Case

pytestmark = pytest.mark.drawn

KINDS = ("separable", "all")
CASES = (Case(name="one layer, 7 terms", set={"circuit.hidden": []}), Case(name="hidden layer, 7 terms"))


@pytest.fixture(scope="module")
def made():
    """The learned rule solves 0.95 at the end, and 0.92 from 20 steps on; the delta rule half."""
    line = lambda who: [0.0, 0.5, 0.92, 0.93, 0.95] if who == "learned" else [0.0, 0.95, 0.2, 0.4, 0.5]
    return results(
        "functions",
        {"product": {"tasks.functions": KINDS}, "cases": CASES},
        lambda setting, test, who, seed: line(who),
        baselines=("delta",),
        trained=lambda setting, seed: 0.97,
    )


def test_rows_hold_rules_and_then_baselines_of_each_circuit(made):
    check(made.study, made.plan)
    rows = table_rows(made)
    assert [(row["circuit"], row["functions"], row["rule"]) for row in rows] == [
        (circuit, kind, rule)
        for circuit in ("one layer", "hidden layer")
        for kind in KINDS
        for rule in ("7 terms", "delta")
    ]
    learned, delta = rows[:2]
    assert (learned["new"].mean, learned["trained_on"].mean) == pytest.approx((0.95, 0.97))
    assert delta["trained_on"] is None


def test_steps_are_those_from_which_the_mean_stays_at_the_threshold(made):
    learned, delta = table_rows(made)[:2]
    assert learned["steps"] == 20
    assert delta["steps"] is None
    assert "share of solved new functions stays at 0.9" in table(table_rows(made), made)


def test_the_figure_is_drawn(made, tmp_path):
    draw(tmp_path / "figure.png", table_rows(made), made)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
