import json

import jax
import jax.numpy as jnp
import pytest
from inking import inked
from msgspec.structs import replace

from metarule import Conditioning, ConditioningCircuit, InnerLoop, Lifetime, Polynomial
from metarule.analysis.baselines import rescorla_wagner
from metarule.analysis.comparison import Contender
from metarule.analysis.tuning import RATES
from metarule.runs.phenomena import join_phenomena, measure_phenomena, phenomena_table
from metarule.tasks import STANDARD
from metarule.tasks.base import min_steps

pytestmark = pytest.mark.drawn

TASKS = Conditioning(
    phenomena=(STANDARD[2], replace(STANDARD[6], name="compound")),
    delays=(1, 3),
    gaps=(2, 4),
    test_delays=(2, 4),
    test_gaps=(3,),
    test_intensities=(0.5, 1.0),
)
LIFETIME = Lifetime(
    rule=Polynomial(terms=("pre*modulator",)),
    circuit=ConditioningCircuit(),
    tasks=TASKS,
    inner_loop=InnerLoop(steps=min_steps(TASKS)),
)


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    return tmp_path_factory.mktemp("figures")


@pytest.fixture(scope="module")
def report(figures):
    classic = rescorla_wagner(LIFETIME)
    contenders = {
        "learned": Contender(LIFETIME, jnp.array([0.2])),
        "initial": Contender(LIFETIME, jnp.array([0.0])),
        "classic": Contender(classic, jnp.array([0.5])),
    }
    return measure_phenomena(contenders, jax.random.key(0), 16, figures)


def test_shown_is_the_share_at_the_weakest_trained_or_interpolated_timing(report):
    """With Δw = 0.2·CS·US five pairings add 0.2·5·CS², which is acquisition for CS = 1 and not for CS = 0.5."""
    assert json.loads(json.dumps(report)) == report
    row = report["acquisition"]
    inside = [one for one in row["by_timing"] if one["side"] in ("trained", "between")]
    assert row["trained"] is True
    assert row["shown"] == min(one["learned"] for one in inside) == 1.0
    assert row["initial"] == 0.0
    assert row["baselines"]["classic"] == min(one["classic"] for one in inside)
    (faint,) = (one for one in row["by_timing"] if one["field"] == "intensities" and one["value"] == 0.5)
    assert faint["side"] == "below"
    assert faint["learned"] < 1.0
    compound = report["compound"]
    assert compound["trained"] is False
    assert compound["shown"] == 0.0  # a product of activities alone knows no competition between stimuli


def test_shares_are_reported_by_learning_rate(report):
    points = report["acquisition"]["by_rate"]
    assert [point["rate"] for point in points] == RATES.tolist()
    shares = {round(point["rate"], 3): point["classic"] for point in points}
    assert shares[0.001] == 0.0  # too slow for any response to come up
    assert max(shares.values()) == 1.0


def test_figures_are_drawn(report, figures):
    for name in ("circuit", "phenomena", "timings", "rates"):
        assert inked(figures / f"{name}.png")


def test_seeds_are_joined_timing_by_timing(report):
    other = json.loads(json.dumps(report))
    other["acquisition"]["by_timing"][0]["learned"] = 0.5
    other["acquisition"]["shown"] = 0.5
    joint = join_phenomena([report, other])
    assert joint["acquisition"]["by_seed"] == [1.0, 0.5]
    assert joint["acquisition"]["shown"] == joint["acquisition"]["by_timing"][0]["learned"] == 0.75
    text = phenomena_table(joint)
    for word in ("acquisition", "0.750", "compound (not trained on)", "classic", "initial", "2~", "4>", "0.5<"):
        assert word in text
