"""The battery of `check_rule` for every rule of the package."""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import pytest

from metarule.rules import MLP, RULES, Lifted, Polynomial, Trace
from metarule.runs.experiment import Experiment
from metarule.testing import RULE_CHECKS, check_rule


@dataclasses.dataclass(frozen=True)
class Gated:
    """Hebbian plasticity gated by a synaptic tag, as an example of a user's own rule."""

    decay: float = 0.8

    def init(self, key):
        return {"rate": jnp.array(0.1), "gate": jnp.ones(2)}

    def memory(self, weight):
        return jnp.zeros_like(weight)

    def delta(self, theta, tag, synapse):
        tag = self.decay * tag + synapse.pre * synapse.post
        gate = jax.nn.sigmoid(theta["gate"][0] * synapse.modulator + theta["gate"][1])
        return theta["rate"] * gate * tag, tag


ELIGIBILITY = {"eligibility": Trace(of="pre*post", decay=0.8)}
RULES_UNDER_TEST = {
    "seven": Polynomial(terms=("seven",)),
    "sixteen": Polynomial(terms=("sixteen",)),
    "own terms": Polynomial(terms=("post^2*weight^3", "pre^2*potential - 0.5*weight", "1")),
    "all variables": Polynomial(terms=("pre_trace*post", "pre*post_trace", "pre*post*neuromodulator")),
    "frozen": Polynomial(terms=("seven", "oja"), initial={"oja": 0.3, "1": 0.1}, frozen=("oja", "1")),
    "eligibility": Polynomial(terms=("eligibility*neuromodulator", "weight"), traces=ELIGIBILITY),
    "fixed decay": Polynomial(terms=("slow*pre",), traces={"slow": Trace(of="weight - 2*post", learned=False)}),
    "traces": Polynomial(
        terms=("bcm", "covariance", "eligibility^2*mean_pre", "pre"), traces=ELIGIBILITY, frozen=("bcm", "pre")
    ),
    "only decays": Polynomial(
        terms=("eligibility*modulator",),
        traces=ELIGIBILITY,
        initial={"eligibility*modulator": 1},
        frozen=("modulator*eligibility",),
    ),
    "27": Polynomial(terms=("taylor(pre, post, weight; 2)",)),
    "81": Polynomial(terms=("taylor(pre, post, weight, neuromodulator; 2)",), without=("1", "weight")),
    "mlp": MLP(),
    "deep mlp": MLP(inputs=("pre_trace", "neuromodulator", "potential"), hidden=(3, 2), activation="softplus"),
    "one-sided mlp": MLP(inputs=("pre",), hidden=(2,), activation="relu"),
    "lifted": Lifted(Gated()),
    "every rule by name": Polynomial(terms=tuple(RULES)),
}


@pytest.mark.parametrize("check", RULE_CHECKS)
@pytest.mark.parametrize("rule", RULES_UNDER_TEST)
def test_every_rule_satisfies_the_contract(rule, check):
    check_rule(RULES_UNDER_TEST[rule], checks=(check,))


def test_every_kind_of_rule_is_tested():
    kinds = typing.get_args(typing.get_type_hints(Experiment)["rule"])
    assert set(kinds) <= {type(rule) for rule in RULES_UNDER_TEST.values()}
