from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from metarule import MLP, Boolean, Feedforward, InnerLoop, Lifetime, Polynomial
from metarule.analysis.comparison import HELD_OUT
from metarule.analysis.readback import read_back, readback_table
from metarule.analysis.visited import visited
from metarule.config.toml import ConfigError

KEY = jax.random.key(0)
LIFETIMES = 8


@dataclass(frozen=True)
class Bent:
    """A rule of which only `bend` is no polynomial."""

    def init(self, key):
        return {"hebb": jnp.array(0.5), "decay": jnp.array(-0.1), "drift": jnp.zeros(()), "bend": jnp.zeros(())}

    def delta(self, theta, memory, synapse):
        change = theta["hebb"] * synapse.pre * synapse.modulator + theta["decay"] * synapse.weight + theta["drift"]
        return change + theta["bend"] * jnp.tanh(3 * (synapse.pre + synapse.weight) * synapse.modulator), memory


LEARNER = Lifetime(
    rule=Bent(),
    circuit=Feedforward(hidden=(3,), feedback="random"),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=20),
)
SPLIT = LEARNER.tasks.split(0)
EXACT = LEARNER.init_theta(KEY)
NOTHING = jax.tree.map(jnp.zeros_like, EXACT)


def found(theta=EXACT, learner=LEARNER, **options):
    return read_back(learner, theta, SPLIT, KEY, LIFETIMES, **options)


@pytest.fixture(scope="module")
def bent():
    return found(NOTHING | {"bend": jnp.array(0.2)}, tolerance=0.02)


@pytest.mark.long
def test_a_polynomial_is_read_back_with_its_terms_and_coefficients():
    result = found(tolerance=1e-4)
    assert result.rule == Polynomial(terms=("pre*modulator", "weight"))
    np.testing.assert_allclose(result.theta, [0.5, -0.1], rtol=1e-4)
    assert result.equation == "Δw = 0.5·pre·modulator − 0.1·weight"
    assert result.r2 > 0.999
    assert result.fits[0].lifetimes == (LIFETIMES,) * 3
    assert len(result.candidates) == 27


def test_terms_are_fitted_on_one_draw_and_measured_on_held_out_tasks(bent):
    """Both are computed here by another method, and R² on the fitted states would be another."""
    theta, polynomial = NOTHING | {"bend": jnp.array(0.2)}, bent.rule
    pools = (SPLIT.train, SPLIT.train, SPLIT.test)
    fitted, _, measured = (
        visited(LEARNER, theta, pool, key, LIFETIMES)[0]
        for pool, key in zip(pools, jax.random.split(KEY, 3), strict=True)
    )
    values = {"pre": 0.0, "weight": 0.0, "modulator": 0.0}

    def columns(draw):
        values.update({name: getattr(draw.variables, name) for name in values})
        return np.stack([eval(name.replace("^", "**"), {}, values) for name in polynomial.names], axis=1)

    def r2(draw):
        return 1 - np.mean((draw.change - columns(draw) @ np.asarray(bent.theta)) ** 2) / np.var(draw.change)

    solution = np.linalg.lstsq(columns(fitted), fitted.change)[0]
    np.testing.assert_allclose(bent.theta, solution, rtol=1e-4)
    assert bent.r2 == pytest.approx(r2(measured), abs=1e-5)
    assert abs(r2(fitted) - r2(measured)) > 1e-3


def test_r2_is_that_of_the_number_of_terms_on_the_curve(bent):
    fit = bent.fits[0]
    assert 0.5 < fit.r2 == fit.curve[len(fit.terms)] < 0.999
    assert fit.terms == fit.order[: len(fit.terms)]
    assert fit.all_terms_r2 == fit.curve[-1]
    assert fit.curve[1] < fit.r2 <= fit.curve.max()


def test_a_smaller_tolerance_takes_more_terms(bent):
    assert len(found(NOTHING | {"bend": jnp.array(0.2)}, tolerance=0.001).rule.terms) > len(bent.rule.terms)


@pytest.mark.long
def test_a_constant_change_is_the_constant_term():
    constant = found(NOTHING | {"drift": jnp.array(0.01)})
    assert (constant.equation, constant.r2) == ("Δw = 0.01", 1.0)
    assert (found(NOTHING).equation, found(NOTHING).r2) == ("Δw = 0", 1.0)
    other = found(NOTHING | {"drift": jnp.array(0.01)}, terms=("pre",))
    assert (other.equation, other.r2) == ("Δw = 0", 0.0)


def test_a_rule_that_diverges_is_refused():
    with pytest.raises(ConfigError, match="rule: all 8 lifetimes under it diverge, so that it is not read back"):
        found(NOTHING | {"drift": jnp.array(jnp.nan)})


def test_each_path_has_its_own_polynomial():
    inner_loop = replace(LEARNER.inner_loop, theta="per_path")
    learner = replace(LEARNER, circuit=Feedforward(hidden=(3,), feedback="learned"), inner_loop=inner_loop)
    theta = jax.tree.map(lambda leaf: jnp.stack([leaf, 0 * leaf]), EXACT)
    theta["drift"] = theta["drift"].at[1].set(0.01)
    result = found(theta, learner, tolerance=1e-4)
    groups = learner.theta_groups
    assert tuple(fit.group for fit in result.fits) == groups
    assert result.equation == f"Δw[{groups[0]}] = 0.5·pre·modulator − 0.1·weight\nΔw[{groups[1]}] = 0.01"
    assert result.theta.shape == (2, 3)
    assert f"terms, one by one: {groups[1]}" in readback_table(result, HELD_OUT)


def test_a_projection_that_is_not_plastic_has_no_terms():
    inner_loop = replace(LEARNER.inner_loop, theta="per_projection")
    learner = replace(LEARNER, circuit=Feedforward(hidden=(3,), fixed=(0,)), inner_loop=inner_loop)
    result = found(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), EXACT), learner, tolerance=1e-4)
    assert result.equation == "Δw₁ = 0\nΔw₂ = 0.5·pre·modulator − 0.1·weight"
    assert [fit.group for fit in result.fits] == ["projection 2"]


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (("pre_trace",), "terms: synapses of this circuit see no pre_trace; allowed: pre, post"),
        (("bcm",), "terms: trace '.*' is no local variable; allowed: terms without traces"),
    ],
)
def test_terms_of_other_than_local_variables_are_refused(terms, message):
    with pytest.raises(ConfigError, match=message):
        found(terms=terms)


def test_all_variables_that_a_rule_reads_are_candidates():
    learner = replace(LEARNER, rule=MLP(inputs=("pre", "potential"), hidden=(2,), output_scale=1.0))
    result = found(learner.init_theta(KEY), learner)
    assert len(result.candidates) == 9
    assert all({"pre", "potential"} >= set(name.replace("^2", "").split("*")) - {"1"} for name in result.rule.terms)


class Gated(Boolean, frozen=True, kw_only=True):
    """Boolean functions whose last ten steps have no plasticity and other inputs."""

    def stimulus(self, task, t, key):
        stimulus, gate = super().stimulus(task, t, key), jnp.where(t < 10, 1.0, 0.0)
        return stimulus._replace(input=jnp.where(t < 10, stimulus.input, 7.0), plasticity=gate)


def test_visited_states_are_those_of_plastic_steps():
    learner = replace(LEARNER, circuit=Feedforward(hidden=()), tasks=Gated(inputs=2))
    (draw,) = visited(learner, EXACT, SPLIT.train, KEY, LIFETIMES)
    pre, weight, modulator = (getattr(draw.variables, name) for name in ("pre", "weight", "modulator"))
    assert draw.change.shape == (LIFETIMES * 10 * 3,)  # two inputs and the bias
    assert set(np.abs(pre)) == {1.0}
    np.testing.assert_allclose(draw.change, 0.5 * pre * modulator - 0.1 * weight, atol=1e-6)
    assert draw.variables.pre_trace is None


def test_samples_are_limited(monkeypatch):
    monkeypatch.setattr("metarule.analysis.visited._SAMPLES", 40)
    learner = replace(LEARNER, circuit=Feedforward(hidden=()), inner_loop=InnerLoop(steps=21))
    (draw,) = visited(learner, EXACT, SPLIT.train, KEY, LIFETIMES)
    assert draw.change.size == 40
