"""Which lifetimes are compiled, and that they give the loss, the state and the θ-gradient of the scan."""

import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import FUNCTIONS, UNKNOWN, assert_close, assert_same, both, gradients, setting

from metarule import (
    MLP,
    Boolean,
    Conditioning,
    ConditioningCircuit,
    Feedforward,
    InnerLoop,
    Lifetime,
    Points,
    Polynomial,
    Recurrent,
    Tabular,
    Trace,
)
from metarule.config.toml import read
from metarule.kernels import kernels, why_not
from metarule.lifetime.scans import loop
from metarule.lifetime.unroll import lifetime_loss
from metarule.rules import RULES
from metarule.runs.experiment import decode_experiment

KEY, LENGTH = jax.random.key(0), 10


@dataclasses.dataclass(frozen=True)
class Gated:
    """A user's rule with a synaptic tag, written for one synapse."""

    def init(self, key):
        return {"rate": jnp.array(0.1), "gate": jnp.ones(2)}

    def memory(self, weight):
        return jnp.zeros_like(weight)

    def delta(self, theta, tag, synapse):
        tag = 0.8 * tag + synapse.pre * synapse.post
        gate = jax.nn.sigmoid(theta["gate"][0] * synapse.modulator + theta["gate"][1])
        return theta["rate"] * gate * tag, tag


@dataclasses.dataclass(frozen=True)
class Erf(Gated):
    """A user's rule that needs an operation without a scalar form."""

    def delta(self, theta, tag, synapse):
        return theta["rate"] * jax.scipy.special.erf(synapse.post) + theta["gate"][0] * synapse.modulator, tag


class Pause(Boolean, frozen=True, kw_only=True, tag="pause"):
    """Boolean functions with plasticity at every other step."""

    def stimulus(self, task, t, key):
        return super().stimulus(task, t, key)._replace(plasticity=jnp.where(t % 2 == 0, 1.0, 0.0))


def learner(rule=None, circuit=None, tasks=None, **inner_loop):
    return Lifetime(
        rule=rule or Polynomial(terms=("seven",)),
        circuit=circuit or Feedforward(hidden=(3,)),
        tasks=tasks or Boolean(inputs=2),
        inner_loop=InnerLoop(**{"steps": LENGTH} | inner_loop),
    )


ELIGIBILITY = {"e": Trace(of="pre*post")}
TWO = Polynomial(terms=("delta", "weight"))
TRACES = Polynomial(terms=("pre_trace*modulator", "pre*post_trace", "weight"))
EIGHTY_ONE = Polynomial(terms=("taylor(pre, post, weight, modulator; 2)",))
IRIS = Tabular(dataset="iris", ways=3, test_classes="all", train_examples=20, test_examples=5)

# Lifetimes and the reason for which their loop is left to XLA, empty where it is compiled. Together they have every
# rule, circuit, task family and setting of the inner loop.
LIFETIMES = {
    "seven terms": (learner(), ""),
    "sixteen terms, bounded": (
        learner(
            Polynomial(terms=("sixteen",)),
            Feedforward(hidden=(2,), feedback="random", derivative=True),
            theta="per_projection",
            weight_bound=0.5,
            l1=0.1,
        ),
        "",
    ),
    "81 terms": (learner(EIGHTY_ONE, Feedforward(hidden=()), online_loss_weight=0.0), ""),
    "a learned trace": (
        learner(
            Polynomial(terms=("e*modulator", "weight"), traces=ELIGIBILITY),
            Feedforward(hidden=(2,)),
            theta="per_path",
            online_loss_weight=0.3,
        ),
        "",
    ),
    "every rule by name": (learner(Polynomial(terms=tuple(RULES))), ""),
    "mlp": (learner(MLP(hidden=(3,)), theta="per_projection"), ""),
    "deep mlp": (
        learner(MLP(inputs=("modulator", "weight"), hidden=(3, 2), activation="softplus"), Feedforward(hidden=())),
        "",
    ),
    "a user's rule": (learner(Gated(), tasks=Pause(inputs=2)), ""),
    "recurrent": (learner(TRACES, Recurrent(neurons=3), theta="per_path"), ""),
    "conditioning": (learner(TRACES, ConditioningCircuit(), Conditioning(), steps=520, weight_bound=2.0), ""),
    "points": (learner(TWO, Feedforward(hidden=(2,), activation="relu"), tasks=Points()), ""),
    "table": (learner(TWO, Feedforward(hidden=(2,), output="softmax", feedback="zero"), tasks=IRIS), ""),
    "bfloat16": (learner(bfloat16=True), "numbers of bfloat16 and float"),
    "a rule with erf": (learner(Erf()), "the primitive erf"),
}
# Compared with the scan, in double precision or in single precision.
DOUBLE = ["sixteen terms, bounded", "81 terms", "a learned trace", "a user's rule"]
DOUBLE += ["recurrent", "conditioning"]
SINGLE = ["deep mlp", "points", "table"]


def reasons(learner, mode):
    """Why the loop of a lifetime is not compiled."""
    found = []

    def scan(body, carry, xs):
        found.append(why_not(body, carry, xs))
        return jax.lax.scan(body, carry, xs)

    def trace():
        task = learner.tasks.sample(KEY, learner.tasks.split(0).train, 0)
        return lifetime_loss(learner, learner.init_theta(KEY), task, KEY, scan)

    with kernels(mode):
        jax.eval_shape(trace)
    return found


@pytest.mark.parametrize("name", LIFETIMES)
def test_the_loop_of_a_lifetime_is_compiled_or_the_reason_is_given(name):
    subject, reason = LIFETIMES[name]
    (found,) = reasons(subject, "auto")
    assert found.startswith(reason) if reason else found == ""


@pytest.mark.parametrize("name", DOUBLE)
def test_a_lifetime_is_that_of_the_scan(name, float64):
    subject, _ = LIFETIMES[name]
    compiled, scanned = both(partial(gradients, subject), *setting(subject, 0.05))
    assert_close(compiled, scanned)
    for leaf in jax.tree.leaves(scanned[1]):
        assert np.any(leaf != 0), "nothing depends on θ"


@pytest.mark.parametrize("name", SINGLE)
def test_a_lifetime_of_single_precision_is_that_of_the_scan(name):
    subject, _ = LIFETIMES[name]
    assert_same(partial(gradients, subject), *setting(subject, 0.05))


def test_lifetimes_diverge_where_those_of_the_scan_do():
    """Divergence is found by the loss or the gradient of a lifetime, and may not be hidden in a lane."""
    with jax.enable_x64(False):
        subject = learner(Polynomial(terms=("delta", "weight^3", "pre*post*weight^2")), weight_bound=1e18, steps=60)
        _, contexts, states = setting(subject, 0.05)
        thetas = jnp.geomspace(1e-5, 1, 12)[:, None] * jnp.ones((1, 3))
        run = jax.vmap(partial(gradients, subject), (0, None, None))
        compiled, scanned = both(run, thetas, contexts, states)
    diverged, expected = (
        ~np.isfinite(loss) | ~np.all(np.isfinite(gradient), axis=-1) for (loss, _), gradient in (compiled, scanned)
    )
    assert 0.2 < np.mean(expected) < 0.8
    np.testing.assert_array_equal(diverged, expected)


def test_each_operation_is_that_of_the_scan(float64):
    """Derivatives have no other operations, and test_scalars checks their form."""
    step = lambda state, x: (state * x + 0.1, {name: function(state) for name, function in FUNCTIONS.items()})
    assert_same(lambda start: loop(step, start, jnp.linspace(0.5, 1, 3)), np.array([0.3, -0.8, 0.6, 0.45]))


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_operation_without_a_scalar_form_is_the_reason(name, float64):
    function, reason = UNKNOWN[name]
    with kernels("on"):
        found = why_not(lambda state, x: (function(state * x), None), jnp.ones(4), jnp.ones(3))
    assert reason in found


def test_what_does_not_depend_on_the_state_may_be_anything():
    """Sorted constants, random numbers and indexed stimuli are computed before the loop."""
    table = np.arange(12.0, dtype=np.float32).reshape(6, 2)

    def run(start, factor, key, rows):
        def step(state, x):
            number, row = x
            noise = jax.random.normal(jax.random.fold_in(key, number), (2,), start.dtype)
            sorted_twice = jnp.sort(jnp.sort(factor)[::-1] * number.astype(start.dtype))
            stimulus = jnp.asarray(table, start.dtype)[row] + jax.scipy.special.erf(factor)
            return jnp.tanh(state + noise + stimulus * sorted_twice), jnp.sum(sorted_twice)

        return loop(step, start, (jnp.arange(4), rows))

    def total(start, factor, key, rows):
        return sum(map(jnp.sum, run(start, factor, key, rows)))

    keys, rows = jax.random.split(KEY, 3), np.array([[0, 2, 5, 1], [1, 1, 0, 3], [4, 5, 0, 0]])
    gradient = jax.vmap(jax.value_and_grad(total, (0, 1)), (None, None, 0, 0))
    assert_same(gradient, jnp.ones(2), jnp.array([0.3, -0.7]), keys, rows)


FAULTS = {
    "another shape": lambda c, x: (jnp.concatenate([c, c]), None),
    "a number": lambda c, x: (jnp.sum(c) * x, None),
    "truth values": lambda c, x: (c > x, None),
    "another structure": lambda c, x: ((c, c), None),
    "no pair": lambda c, x: c * x,
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_state_that_changes_its_type_is_an_error_as_in_the_scan(name):
    def message(mode):
        with kernels(mode), pytest.raises(TypeError, match="scan body") as caught:
            loop(FAULTS[name], jnp.ones(3), jnp.ones(4))
        return str(caught.value)

    assert message("on") == message("off")


# The loops of the configs in the mode that users have.
CONFIGS = {
    "bandit": "",
    "boolean": "",
    "boolean-2": "",
    "conditioning": "",
    "digits": "",
    "digits-5-shot": "",
    "memory": "",
    "mixture": "",
    "navigation": "",
    "paper": "",
    "points": "",
    "structure-search": "",
}


def test_every_config_is_listed():
    folder = Path(__file__).parents[2] / "configs"
    others = ("study-", "simulate-", "infer-")
    assert {path.stem for path in folder.glob("*.toml") if not path.stem.startswith(others)} == set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loop_of_a_config_is_compiled_or_the_reason_is_given(name):
    experiment = decode_experiment(read(Path(__file__).parents[2] / "configs" / f"{name}.toml")[1])
    assert reasons(experiment.lifetime, "auto") == [CONFIGS[name]]
