import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from metarule import MLP, Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, Trace
from metarule.analysis import ablation
from metarule.analysis.ablation import (
    contribution_report,
    contributions,
    contributions_table,
    limited_contribution_report,
    scores_by_task,
)
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
def set_scores(monkeypatch):
    """Replace scores by a function of θ and of the number of the task."""

    def use(score):
        def fake_scores(lifetime, theta, pool, key, lifetimes):
            return np.array([score(theta, task) for task in range(4)], float)

        monkeypatch.setattr(ablation, "scores_by_task", fake_scores)

    return use


def measured(lifetime=TOY, theta=THETA):
    return contributions(lifetime, theta, SPLIT.test, KEY, 8)


def test_contributions_by_hand(set_scores):
    """Three terms: one needed by all tasks, one needed by the first task, and one that harms the first task."""
    set_scores(lambda theta, task: 0.8 * bool(theta[0]) + 0.2 * (task == 0) * (bool(theta[3]) - bool(theta[2])))
    rows = measured()
    assert [row.term for row in rows] == ["pre*modulator", "modulator*weight", "weight"]
    assert [row.coefficient for row in rows] == pytest.approx([0.5, 0.1, -0.2])
    assert [row.without.mean for row in rows] == pytest.approx([0.0, 0.75, 0.85])
    assert [row.difference.mean for row in rows] == pytest.approx([0.8, 0.05, -0.05])
    assert [row.cumulative.mean for row in rows] == pytest.approx([0.8, 0.85, 0.8])


def test_differences_are_paired_by_task(set_scores):
    """Scores differ widely between tasks, contributions hardly."""
    set_scores(lambda theta, task: 0.2 * task + bool(theta[0]) * (0.1 + 0.001 * task))
    row = next(row for row in measured() if row.term == "pre*modulator")
    assert row.difference.high - row.difference.low < 0.01 < 0.3 < row.without.high - row.without.low


def test_all_evaluations_share_one_program(monkeypatch):
    calls, update = [], Polynomial.update

    def counting_update(self, *arguments):
        calls.append(arguments)
        return update(self, *arguments)

    monkeypatch.setattr(Polynomial, "update", counting_update)
    lifetime = replace(TOY, inner_loop=InnerLoop(steps=12))
    scores_by_task(lifetime, THETA, SPLIT.test, KEY, 8)
    traced = len(calls)
    rows = measured(lifetime)
    assert (traced > 0, len(calls)) == (True, traced)
    assert rows[-1].cumulative.mean == scores_by_task(lifetime, THETA, SPLIT.test, KEY, 8).mean()


def test_each_projection_has_its_own_terms_and_frozen_terms_are_unchanged(set_scores):
    circuit, inner_loop = Feedforward(hidden=(2,)), InnerLoop(steps=20, theta="per_projection")
    separate = replace(TOY, circuit=circuit, inner_loop=inner_loop)
    set_scores(lambda theta, task: bool(theta[1, 0]))
    rows = measured(separate, jnp.stack([THETA, THETA]))
    assert (len(rows), rows[0].term) == (6, "projection 2: pre*modulator")
    frozen = Polynomial(
        terms=("delta", "e*modulator"),
        traces={"e": Trace(of="pre*post", learned=True)},
        initial={"delta": 0.5},
        frozen=("delta",),
    )
    set_scores(lambda theta, task: bool(theta["coefficients"][0]))
    theta = {"coefficients": jnp.array([0.2]), "logit_decay": jnp.zeros(1)}
    assert [row.term for row in measured(replace(TOY, rule=frozen), theta)] == ["e*modulator"]


def test_the_table_starts_with_the_most_important_terms(set_scores):
    set_scores(lambda theta, task: 0.9 * bool(theta[0]) + 0.02 * task)
    text = contributions_table(contribution_report(TOY, THETA, SPLIT, KEY, 8))
    assert text.splitlines()[0].startswith(f"{HELD_OUT}, 8 lifetimes")
    assert text.splitlines()[1].split()[:3] == ["pre*modulator", "0.5", "0.0300"]
    assert len(text.splitlines()) == 5


def test_a_run_skips_rules_with_many_coefficients():
    many = replace(TOY, rule=Polynomial(terms=("taylor(pre, post, weight, modulator; 2)",)))
    rows = limited_contribution_report(many, jnp.ones(81), SPLIT, KEY, 8)
    assert contributions_table(rows) == (
        "contributions of terms skipped: the rule has 81 coefficients; "
        "a run measures up to 32; metarule prune measures all"
    )


def test_a_rule_without_terms_has_no_contributions():
    network = replace(TOY, rule=MLP(hidden=(2,)))
    theta = network.init_theta(KEY)
    assert limited_contribution_report(network, theta, SPLIT, KEY, 8) is None
    with pytest.raises(ConfigError, match="rule = MLP: it has no terms"):
        measured(network, theta)
