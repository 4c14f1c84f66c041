import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from metarule import MLP, Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, Trace
from metarule.analysis import ablation
from metarule.analysis.ablation import contributions, contributions_table, measure, measure_if_few, scores_by_task
from metarule.analysis.comparison import HELD_OUT
from metarule.config.toml import ConfigError

KEY = jax.random.key(0)
TOY = Lifetime(
    rule=Polynomial(terms=("pre*modulator", "pre*post", "weight", "modulator*weight")),
    circuit=Feedforward(hidden=()),
    tasks=Boolean(inputs=2, functions="separable"),
    inner_loop=InnerLoop(steps=20),
)
SPLIT = TOY.tasks.split(0)
THETA = jnp.array([0.5, 0.0, -0.2, 0.1])


@pytest.fixture
def worth(monkeypatch):
    """Have a function of θ and of the number of the task say what a rule is worth."""

    def use(score):
        def look(lifetime, theta, pool, key, lifetimes):
            return np.array([score(theta, task) for task in range(4)], float)

        monkeypatch.setattr(ablation, "scores_by_task", look)

    return use


def measured(lifetime=TOY, theta=THETA):
    return contributions(lifetime, theta, SPLIT.test, KEY, 8)


def test_contributions_by_hand(worth):
    """Three terms: one that all tasks need, one that the first needs, and one that harms the first."""
    worth(lambda theta, task: 0.8 * bool(theta[0]) + 0.2 * (task == 0) * (bool(theta[3]) - bool(theta[2])))
    found = measured()
    assert [row.term for row in found] == ["pre*modulator", "modulator*weight", "weight"]
    assert [row.coefficient for row in found] == pytest.approx([0.5, 0.1, -0.2])
    assert [row.without.mean for row in found] == pytest.approx([0.0, 0.75, 0.85])
    assert [row.difference.mean for row in found] == pytest.approx([0.8, 0.05, -0.05])
    assert [row.alone_up_to.mean for row in found] == pytest.approx([0.8, 0.85, 0.8])


def test_differences_are_paired_by_task(worth):
    """Scores differ widely between tasks; what the term adds is about the same on each."""
    worth(lambda theta, task: 0.2 * task + bool(theta[0]) * (0.1 + 0.001 * task))
    row = next(row for row in measured() if row.term == "pre*modulator")
    assert row.difference.high - row.difference.low < 0.01 < 0.3 < row.without.high - row.without.low


def test_one_program_serves_all_looks(monkeypatch):
    calls, update = [], Polynomial.update

    def count_text(self, *arguments):
        calls.append(arguments)
        return update(self, *arguments)

    monkeypatch.setattr(Polynomial, "update", count_text)
    lifetime = replace(TOY, inner_loop=InnerLoop(steps=12))
    scores_by_task(lifetime, THETA, SPLIT.test, KEY, 8)
    traced = len(calls)
    found = measured(lifetime)
    assert (traced > 0, len(calls)) == (True, traced)
    assert found[-1].alone_up_to.mean == scores_by_task(lifetime, THETA, SPLIT.test, KEY, 8).mean()


def test_each_projection_has_terms_of_its_own_and_frozen_ones_stay(worth):
    circuit, inner_loop = Feedforward(hidden=(2,)), InnerLoop(steps=20, theta="per_projection")
    apart = replace(TOY, circuit=circuit, inner_loop=inner_loop)
    worth(lambda theta, task: bool(theta[1, 0]))
    found = measured(apart, jnp.stack([THETA, THETA]))
    assert (len(found), found[0].term) == (6, "projection 2: pre*modulator")
    frozen = Polynomial(
        terms=("delta", "e*modulator"),
        traces={"e": Trace(of="pre*post", learned=True)},
        initial={"delta": 0.5},
        frozen=("delta",),
    )
    worth(lambda theta, task: bool(theta["coefficients"][0]))
    theta = {"coefficients": jnp.array([0.2]), "logit_decay": jnp.zeros(1)}
    assert [row.term for row in measured(replace(TOY, rule=frozen), theta)] == ["e*modulator"]


def test_the_table_shows_the_most_needed_terms(worth):
    worth(lambda theta, task: 0.9 * bool(theta[0]) + 0.02 * task)
    text = contributions_table(measure(TOY, THETA, SPLIT, KEY, 8))
    assert text.splitlines()[0].startswith(f"{HELD_OUT}, 8 lifetimes")
    assert text.splitlines()[1].split()[:3] == ["pre*modulator", "0.5", "0.0300"]
    assert len(text.splitlines()) == 5


def test_many_coefficients_are_left_out_of_a_run_in_one_line():
    many = replace(TOY, rule=Polynomial(terms=("taylor(pre, post, weight, modulator; 2)",)))
    found = measure_if_few(many, jnp.ones(81), SPLIT, KEY, 8)
    assert contributions_table(found) == (
        "contributions of terms left out: the rule has 81 coefficients; a run measures up to 32, metarule.prune all"
    )


def test_a_rule_without_terms_has_no_contributions():
    network = replace(TOY, rule=MLP(hidden=(2,)))
    theta = network.init_theta(KEY)
    assert measure_if_few(network, theta, SPLIT, KEY, 8) is None
    with pytest.raises(ConfigError, match="rule = MLP: it has no terms"):
        measured(network, theta)
