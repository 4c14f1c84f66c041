"""Gradients of every kind of rule through a lifetime."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec import Struct

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, unroll
from metarule.rules import MLP, Lifted, Polynomial, Trace


class Proportional(Struct, frozen=True):
    def init(self, key):
        return jnp.array(0.1)

    def delta(self, theta, memory, synapse):
        return theta * synapse.modulator, memory


ELIGIBILITY = {"eligibility": Trace(of="pre*post")}


TRACES = Polynomial(
    terms=("eligibility*modulator", "bcm"), traces=ELIGIBILITY, initial={"eligibility*modulator": 0.3, "bcm": 0.1}
)


@pytest.mark.parametrize(
    ("rule", "theta"),
    [(MLP(hidden=(3,)), "shared"), (Lifted(Proportional()), "shared"), (TRACES, "shared"), (TRACES, "per_projection")],
    ids=["mlp", "lifted", "traces", "traces of each projection"],
)
def test_every_parameter_affects_the_loss_of_a_lifetime(rule, theta):
    lifetime = Lifetime(
        rule=rule, circuit=Feedforward(hidden=(3,)), tasks=Boolean(inputs=2), inner_loop=InnerLoop(steps=6, theta=theta)
    )
    task = lifetime.tasks.sample(jax.random.key(0), lifetime.tasks.split(0).train, 0)

    def loss(theta):
        context, state = lifetime.init(theta, jax.random.key(1), task)
        state, outputs = unroll(lifetime, theta, context, state, jnp.arange(6))
        return outputs.loss.sum() + lifetime.evaluate(theta, context, state)[0]

    gradient = jax.jit(jax.grad(loss))(lifetime.init_theta(jax.random.key(2)))
    for leaf in jax.tree.leaves(gradient):
        assert np.all(np.isfinite(leaf))
        assert np.all(np.asarray(leaf) != 0)
    assert lifetime.equation(gradient).count("\n") == (theta == "per_projection")
