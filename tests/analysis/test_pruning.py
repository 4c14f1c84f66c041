import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from metarule import MLP, Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, Trace, final_metrics
from metarule.analysis import pruning
from metarule.analysis.ablation import removable_terms
from metarule.analysis.pruning import prune
from metarule.config.toml import ConfigError

KEY = jax.random.key(0)
LIFETIMES = 64
# The delta rule, which solves these functions, and three unnecessary terms.
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
    """Number of traces of the rule at each trial of `shorter`."""
    return []


@pytest.fixture(scope="module")
def shorter(traces):
    calls, update = [], Polynomial.update

    def counting_update(self, *arguments):
        calls.append(arguments)
        return update(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Polynomial, "update", counting_update)
        return pruned(progress=lambda trial: traces.append(len(calls)))


@pytest.fixture
def set_scores(monkeypatch):
    """Replace scores by a function of θ; returns the pools and keys of the evaluations."""

    def use(score):
        evaluations = []

        def fake_scores(lifetime, theta, pool, key, lifetimes):
            evaluations.append((pool is SPLIT.test, tuple(jax.random.key_data(key).tolist())))
            return np.full(lifetimes, float(score(np.asarray(theta))))

        monkeypatch.setattr(pruning, "scores_by_task", fake_scores)
        return evaluations

    return use


def test_unnecessary_terms_are_removed_and_necessary_ones_kept(shorter):
    assert TOY.equation(shorter.theta) == "Δw = 1·pre·modulator"
    assert removable_terms(TOY, shorter.theta) == {"pre*modulator": 1.0}
    assert shorter.before.mean() > 0.9
    assert shorter.after.mean() > shorter.before.mean() - 0.05
    last = {trial.term: trial for trial in shorter.trials}["pre*modulator"]
    assert (last.outcome, last.score < 0.5) == ("kept", True)


def test_of_equally_important_terms_the_smallest_in_its_scale_is_removed_first(shorter):
    assert shorter.removed == ("modulator*weight", "pre*post", "weight")


def test_all_trials_share_one_program(shorter, traces):
    assert len(traces) == len(shorter.trials)
    assert traces[0] > 0
    assert len(set(traces)) == 1


def test_a_harmful_term_is_removed_first_and_the_rule_improves():
    better = pruned(theta=THETA.at[1].set(-0.3), tolerance=0.0)
    assert better.removed[0] == "pre*post"
    assert better.after.mean() > better.before.mean() + 0.1


def test_scores_are_means_over_the_same_fresh_lifetimes_by_held_out_task(shorter):
    report_key, held_out = jax.random.split(KEY, 3)[2], int(SPLIT.test.size)
    for theta, scores in ((THETA, shorter.before), (shorter.theta, shorter.after)):
        solved = final_metrics(TOY, theta, SPLIT.test, report_key, LIFETIMES)["solved"]
        assert scores.shape == (held_out,)
        assert scores.mean() == pytest.approx(np.mean([solved[task::held_out].mean() for task in range(held_out)]))
    assert shorter.training_tasks == int(SPLIT.train.size)


def test_each_projection_has_its_own_terms(set_scores):
    separate = replace(TOY, inner_loop=replace(TOY.inner_loop, theta="per_projection"))
    theta = jnp.stack([THETA, THETA])
    set_scores(lambda theta: theta[0, 0] != 0 and theta[1, 1] != 0)
    result = pruned(separate, theta)
    assert list(removable_terms(separate, result.theta)) == ["projection 1: pre*modulator", "projection 2: pre*post"]
    assert separate.equation(result.theta) == "Δw₁ = 1·pre·modulator\nΔw₂ = 1e-06·pre·post"
    assert len(result.removed) == 6


def test_frozen_terms_and_decays_are_unchanged(set_scores):
    rule = Polynomial(
        terms=("delta", "weight", "e*modulator"),
        traces={"e": Trace(of="pre*post", learned=True)},
        initial={"weight": -0.1},
        frozen=("weight",),
    )
    lifetime = replace(TOY, rule=rule)
    theta = {"coefficients": jnp.array([0.5, 0.2]), "logit_decay": jnp.array([0.0])}
    set_scores(lambda theta: 1.0)
    result = pruned(lifetime, theta)
    assert result.removed == ("e*modulator", "delta")
    assert removable_terms(lifetime, result.theta) == {}
    assert lifetime.equation(result.theta) == "Δw = −0.1·weight"


def test_losses_do_not_add_up(set_scores):
    set_scores(lambda theta: 0.9 - 0.015 * np.sum(theta == 0))
    assert len(pruned(tolerance=0.02).removed) == 1
    assert len(pruned(tolerance=0.035).removed) == 2


def test_with_tolerance_zero_the_score_does_not_fall(set_scores):
    set_scores(lambda theta: 0.9 - 0.001 * (theta[3] == 0))
    assert pruned(tolerance=0.0).removed == ("pre*post", "weight", "pre*modulator")
    set_scores(lambda theta: 0.9 - 0.001 * (theta[3] == 0) + 0.1 * (theta[1] == 0))
    assert pruned(tolerance=0.0).removed == ("pre*post", "weight", "pre*modulator", "modulator*weight")


def test_passes_repeat_until_one_removes_nothing(set_scores):
    """The first term matters only with the second, and the second only with the third."""
    scores = {"abc": 1.0, "bc": 1.0, "ab": 1.0, "ac": 0.9, "b": 0.5, "a": 1.0, "": 1.0}
    theta = jnp.array([0.2, 0.3, 0.0, 0.1])
    set_scores(lambda theta: scores["".join(name for name, value in zip("ab-c", theta) if value)])
    result = pruned(theta=theta)
    first = [("modulator*weight", "removed"), ("pre*modulator", "kept"), ("pre*post", "removed")]
    decided = [(trial.term, trial.outcome) for trial in result.trials if trial.outcome != "ranked"]
    assert decided == [*first, ("pre*modulator", "removed")]


def test_ranking_removals_and_report_use_three_draws(set_scores):
    evaluations = set_scores(lambda theta: theta[0] != 0)
    outcomes = [trial.outcome for trial in pruned().trials]
    keys = [key for _, key in evaluations]
    full, trials, report = keys[0], keys[1:-2], keys[-2:]
    order = {key for key, outcome in zip(trials, outcomes, strict=True) if outcome == "ranked"}
    removals = {key for key, outcome in zip(trials, outcomes, strict=True) if outcome != "ranked"}
    assert removals == {full}
    assert [len(order), len({full, *report} | order), report[0] == report[1]] == [1, 3, True]
    assert all(held_out == (key in report) for held_out, key in evaluations)


def test_held_out_tasks_decide_nothing(set_scores, monkeypatch):
    """A term needed only by held-out tasks is removed, and the report has the loss."""
    set_scores(lambda theta: 1.0)
    constant = pruning.scores_by_task

    def fake_scores(lifetime, theta, pool, *rest):
        return constant(lifetime, theta, pool, *rest) * (pool is SPLIT.train or bool(theta[0] != 0))

    monkeypatch.setattr(pruning, "scores_by_task", fake_scores)
    result = pruned(tolerance=0.0)
    assert len(result.removed) == 4
    assert (result.before.mean(), result.after.mean()) == (1.0, 0.0)


def test_a_score_of_nan_removes_nothing(set_scores):
    set_scores(lambda theta: np.nan if theta[2] == 0 else 1.0)
    result = pruned()
    assert removable_terms(TOY, result.theta).keys() == {"weight"}
    assert [trial.term for trial in result.trials if trial.outcome != "ranked"][-2] == "weight"
    set_scores(lambda theta: np.nan)
    assert pruned().removed == ()


def test_a_rule_without_terms_is_refused():
    lifetime = replace(TOY, rule=MLP(hidden=(2,)))
    with pytest.raises(ConfigError, match="rule = MLP: it has no terms that could be removed; allowed: Polynomial"):
        pruned(lifetime, lifetime.init_theta(KEY))
