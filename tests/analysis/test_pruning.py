import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from metarule import MLP, Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, Trace, final_metrics
from metarule.analysis import pruning
from metarule.analysis.ablation import terms
from metarule.analysis.pruning import prune
from metarule.config.toml import ConfigError

KEY = jax.random.key(0)
LIFETIMES = 64
# Backprop's delta rule, which solves these functions, and three terms that it does not need.
TOY = Lifetime(
    rule=Polynomial(terms=("pre*modulator", "pre*post", "weight", "modulator*weight")),
    circuit=Feedforward(hidden=(4,), feedback="transpose", derivative=True),
    tasks=Boolean(inputs=2, functions="separable"),
    inner_loop=InnerLoop(steps=60),
)
SPLIT = TOY.tasks.split(0)
THETA = jnp.array([1.0, 1e-6, -1e-5, 2e-6])


def pruned(lifetime=TOY, theta=THETA, tolerance=0.02, progress=lambda trial: None):
    return prune(lifetime, theta, SPLIT, KEY, LIFETIMES, tolerance, progress)


@pytest.fixture(scope="module")
def traces():
    """How often the rule had been traced at each look of `shorter`."""
    return []


@pytest.fixture(scope="module")
def shorter(traces):
    calls, update = [], Polynomial.update

    def count_text(self, *arguments):
        calls.append(arguments)
        return update(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Polynomial, "update", count_text)
        return pruned(progress=lambda trial: traces.append(len(calls)))


@pytest.fixture
def worth(monkeypatch):
    """Have a function of θ say what a rule is worth; returns the pools and keys of its looks."""

    def use(score):
        looks = []

        def look(lifetime, theta, pool, key, lifetimes):
            looks.append((pool is SPLIT.test, tuple(jax.random.key_data(key).tolist())))
            return np.full(lifetimes, float(score(np.asarray(theta))))

        monkeypatch.setattr(pruning, "scores_by_task", look)
        return looks

    return use


def test_junk_goes_and_what_matters_stays(shorter):
    assert TOY.equation(shorter.theta) == "Δw = 1·pre·modulator"
    assert terms(TOY, shorter.theta) == {"pre*modulator": 1.0}
    assert shorter.before.mean() > 0.9
    assert shorter.after.mean() > shorter.before.mean() - 0.05
    last = {trial.term: trial for trial in shorter.trials}["pre*modulator"]
    assert (last.outcome, last.score < 0.5) == ("kept", True)


def test_of_terms_that_are_missed_alike_the_smaller_in_its_unit_goes_first(shorter):
    assert shorter.removed == ("modulator*weight", "pre*post", "weight")


def test_one_compiled_program_serves_all_looks(shorter, traces):
    assert len(traces) == len(shorter.trials)
    assert traces[0] > 0
    assert len(set(traces)) == 1


def test_a_term_that_harms_goes_first_and_the_rule_is_better_without_it():
    better = pruned(theta=THETA.at[1].set(-0.3), tolerance=0.0)
    assert better.removed[0] == "pre*post"
    assert better.after.mean() > better.before.mean() + 0.1


def test_scores_are_means_over_the_same_fresh_lifetimes_by_held_out_task(shorter):
    report_key, held_out = jax.random.split(KEY, 3)[2], int(SPLIT.test.size)
    for theta, scores in ((THETA, shorter.before), (shorter.theta, shorter.after)):
        solved = final_metrics(TOY, theta, SPLIT.test, report_key, LIFETIMES)["solved"]
        assert scores.shape == (held_out,)
        assert scores.mean() == pytest.approx(np.mean([solved[task::held_out].mean() for task in range(held_out)]))
    assert shorter.decided_on == int(SPLIT.train.size)


def test_each_projection_loses_terms_of_its_own(worth):
    apart = replace(TOY, inner_loop=replace(TOY.inner_loop, theta="per_projection"))
    theta = jnp.stack([THETA, THETA])
    worth(lambda theta: theta[0, 0] != 0 and theta[1, 1] != 0)
    found = pruned(apart, theta)
    assert list(terms(apart, found.theta)) == ["projection 1: pre*modulator", "projection 2: pre*post"]
    assert apart.equation(found.theta) == "Δw₁ = 1·pre·modulator\nΔw₂ = 1e-06·pre·post"
    assert len(found.removed) == 6


def test_frozen_terms_and_decays_stay(worth):
    rule = Polynomial(
        terms=("delta", "weight", "e*modulator"),
        traces={"e": Trace(of="pre*post", learned=True)},
        initial={"weight": -0.1},
        frozen=("weight",),
    )
    lifetime = replace(TOY, rule=rule)
    theta = {"coefficients": jnp.array([0.5, 0.2]), "logit_decay": jnp.array([0.0])}
    worth(lambda theta: 1.0)
    found = pruned(lifetime, theta)
    assert found.removed == ("e*modulator", "delta")
    assert terms(lifetime, found.theta) == {}
    assert lifetime.equation(found.theta) == "Δw = −0.1·weight"


def test_losses_do_not_add_up(worth):
    worth(lambda theta: 0.9 - 0.015 * np.sum(theta == 0))
    assert len(pruned(tolerance=0.02).removed) == 1
    assert len(pruned(tolerance=0.035).removed) == 2


def test_without_tolerance_no_score_is_lost(worth):
    worth(lambda theta: 0.9 - 0.001 * (theta[3] == 0))
    assert pruned(tolerance=0.0).removed == ("pre*post", "weight", "pre*modulator")
    worth(lambda theta: 0.9 - 0.001 * (theta[3] == 0) + 0.1 * (theta[1] == 0))
    assert pruned(tolerance=0.0).removed == ("pre*post", "weight", "pre*modulator", "modulator*weight")


def test_passes_go_on_until_one_removes_nothing(worth):
    """The first term is idle alone and needed beside the second, which in turn is needed beside the third."""
    scores = {"abc": 1.0, "bc": 1.0, "ab": 1.0, "ac": 0.9, "b": 0.5, "a": 1.0, "": 1.0}
    theta = jnp.array([0.2, 0.3, 0.0, 0.1])
    worth(lambda theta: scores["".join(name for name, value in zip("ab-c", theta) if value)])
    found = pruned(theta=theta)
    first = [("modulator*weight", "removed"), ("pre*modulator", "kept"), ("pre*post", "removed")]
    decided = [(trial.term, trial.outcome) for trial in found.trials if trial.outcome != "alone"]
    assert decided == [*first, ("pre*modulator", "removed")]


def test_what_decides_the_order_the_removals_and_the_report_are_three_draws(worth):
    looks = worth(lambda theta: theta[0] != 0)
    outcomes = [trial.outcome for trial in pruned().trials]
    keys = [key for _, key in looks]
    full, trials, report = keys[0], keys[1:-2], keys[-2:]
    order = {key for key, outcome in zip(trials, outcomes, strict=True) if outcome == "alone"}
    removals = {key for key, outcome in zip(trials, outcomes, strict=True) if outcome != "alone"}
    assert removals == {full}
    assert [len(order), len({full, *report} | order), report[0] == report[1]] == [1, 3, True]
    assert all(held_out == (key in report) for held_out, key in looks)


def test_held_out_tasks_decide_nothing(worth, monkeypatch):
    """A term that held-out tasks alone need goes, and the report says what that costs."""
    worth(lambda theta: 1.0)
    alike = pruning.scores_by_task

    def judged(lifetime, theta, pool, *rest):
        return alike(lifetime, theta, pool, *rest) * (pool is SPLIT.train or bool(theta[0] != 0))

    monkeypatch.setattr(pruning, "scores_by_task", judged)
    found = pruned(tolerance=0.0)
    assert len(found.removed) == 4
    assert (found.before.mean(), found.after.mean()) == (1.0, 0.0)


def test_a_score_that_is_no_number_removes_nothing(worth):
    worth(lambda theta: np.nan if theta[2] == 0 else 1.0)
    found = pruned()
    assert terms(TOY, found.theta).keys() == {"weight"}
    assert [trial.term for trial in found.trials if trial.outcome != "alone"][-2] == "weight"
    worth(lambda theta: np.nan)
    assert pruned().removed == ()


def test_a_rule_without_terms_is_refused():
    lifetime = replace(TOY, rule=MLP(hidden=(2,)))
    with pytest.raises(ConfigError, match="rule = MLP: it has no terms that could be removed; allowed: Polynomial"):
        pruned(lifetime, lifetime.init_theta(KEY))
