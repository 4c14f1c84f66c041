import json

import jax
import jax.numpy as jnp
import pytest
from inking import inked
from msgspec.structs import replace

from metarule import Conditioning, ConditioningCircuit, InnerLoop, Lifetime, Polynomial
from metarule.baselines import rescorla_wagner
from metarule.comparison import Contender
from metarule.reports import join_phenomena, phenomena_table, report_phenomena
from metarule.tasks import STANDARD

TASKS = Conditioning(phenomena=(STANDARD[2], replace(STANDARD[6], name="compound")), delays=(1, 2), gaps=(2, 3))
LIFE = Lifetime(
    rule=Polynomial(terms=("pre*modulator",)),
    circuit=ConditioningCircuit(),
    tasks=TASKS,
    inner_loop=InnerLoop(presentations=TASKS.needs),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    classic = rescorla_wagner(LIFE)
    contenders = {
        "learned": Contender(LIFE, jnp.array([0.2])),
        "initial": Contender(LIFE, jnp.array([0.0])),
        "classic": Contender(classic, jnp.array([0.5])),
    }
    return folder, report_phenomena(folder, contenders, TASKS.split(0), jax.random.key(0), 16)


def test_the_report_says_who_shows_what(report):
    _, rows = report
    assert json.loads(json.dumps(rows)) == rows
    assert rows["acquisition"] == {"trained": True, "shown": 1.0, "initial": 0.0, "baselines": {"classic": 1.0}}
    assert rows["compound"]["trained"] is False
    assert rows["compound"]["shown"] == 0.0  # a product of activities alone knows no competition between stimuli


def test_pictures_are_drawn(report):
    folder, _ = report
    assert inked(folder / "circuit.png")
    assert inked(folder / "phenomena.png")


def test_seeds_are_joined_and_shown(report):
    _, rows = report
    other = {name: row | {"shown": 0.5} for name, row in rows.items()}
    joint = join_phenomena([rows, other])
    assert joint["acquisition"]["by_seed"] == [1.0, 0.5]
    assert joint["acquisition"]["shown"] == 0.75
    text = phenomena_table(joint)
    for word in ("acquisition", "0.750", "compound (not trained on)", "classic", "initial"):
        assert word in text
