import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace
from small import EXPERIMENT

from metarule import MLP, Feedforward, InnerLoop, Lifetime, Polynomial, Trace
from metarule.config.toml import ConfigError
from metarule.runs.theta_files import THETA_FORMAT, load_theta, save_theta, theta_meaning, write_theta


def test_theta_is_saved_with_its_meaning(tmp_path):
    theta = {"a": jnp.arange(3.0), "b": (jnp.ones((2, 2)), jnp.zeros(()))}
    save_theta(tmp_path, theta, {"equation": "Δw = 0"})
    jax.tree.map(np.testing.assert_array_equal, load_theta(tmp_path, theta, {}), theta)
    meaning = json.loads((tmp_path / "theta.json").read_text())
    assert meaning == {"format": THETA_FORMAT, "equation": "Δw = 0"}


def test_many_leaves_keep_their_order(tmp_path):
    theta = tuple(jnp.full((), float(number)) for number in range(12))
    save_theta(tmp_path, theta, {})
    assert load_theta(tmp_path, theta, {}) == theta


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 torn"])
def test_an_unreadable_theta_is_refused(content, tmp_path):
    save_theta(tmp_path, jnp.zeros(3), {})
    (tmp_path / "theta.npz").write_bytes(content)
    with pytest.raises(ConfigError, match="no θ can be read from it"):
        load_theta(tmp_path, jnp.zeros(3), {})


def test_arrays_of_other_shapes_or_with_code_are_refused(tmp_path):
    save_theta(tmp_path, jnp.zeros(3), {})
    with pytest.raises(ConfigError, match=r"arrays of shape \[\(3,\)\]; the rule needs \[\(4,\)\]"):
        load_theta(tmp_path, jnp.zeros(4), {})
    np.savez(tmp_path / "theta.npz", theta_0=np.array([print], dtype=object))
    with pytest.raises(ConfigError, match="no θ can be read"):
        load_theta(tmp_path, jnp.zeros(1), {})


@pytest.mark.parametrize(
    "rule",
    [MLP(hidden=(3, 2)), Polynomial(terms=("e*modulator",), traces={"e": Trace(of="pre*post")})],
    ids=["mlp", "traces"],
)
def test_every_structure_of_theta_is_read_back(rule, tmp_path):
    theta = rule.init(jax.random.key(0))
    save_theta(tmp_path, theta, {})
    chex.assert_trees_all_equal(load_theta(tmp_path, rule.init(jax.random.key(1)), {}), theta)


def lifetime_of(rule, theta="shared", circuit=EXPERIMENT.circuit):
    return Lifetime(rule=rule, circuit=circuit, tasks=EXPERIMENT.tasks, inner_loop=InnerLoop(theta=theta))


def traced(of="pre*post", **more):
    return Polynomial(terms=("e*modulator", "pre"), traces={"e": Trace(of=of, **more)})


PAIR = Polynomial(terms=("pre*modulator", "weight"))
DEEP = Feedforward(feedback="learned")


@pytest.mark.parametrize(
    ("written", "read", "message"),
    [
        (PAIR, replace(PAIR, terms=PAIR.terms[::-1]), "names.0. is 'pre.modulator' there; the rule needs 'weight'"),
        (PAIR, Polynomial(terms=("pre*modulator", "post")), "names.1. is 'weight' there; the rule needs 'post'"),
        (
            replace(PAIR, terms=(*PAIR.terms, "post"), initial={"post": 0.1}, frozen=("post",)),
            replace(PAIR, terms=(*PAIR.terms, "post"), initial={"post": 0.2}, frozen=("post",)),
            "rule.frozen.post is 0.1 there; the rule needs 0.2",
        ),
        (
            replace(PAIR, terms=(*PAIR.terms, "post"), frozen=("post",)),
            replace(PAIR, terms=(*PAIR.terms, "post"), frozen=("weight",)),
            "rule.frozen.weight is nothing there; the rule needs 0.0",
        ),
        (traced(), traced(of="post"), "rule.traces.e.of is 'pre·post' there; the rule needs 'post'"),
        (traced(decay=0.5, learned=False), traced(decay=0.9, learned=False), "rule.traces.e.decay is 0.5 there"),
        (MLP(inputs=("pre", "post")), MLP(inputs=("pre", "weight")), "rule.inputs.1. is 'post' there"),
        (MLP(), MLP(activation="relu"), "rule.activation is 'tanh' there; the rule needs 'relu'"),
        (MLP(), MLP(output_scale=0.2), "rule.output_scale is 0.1 there; the rule needs 0.2"),
        (MLP(inputs=("pre", "post")), PAIR, "rule.kind is 'mlp' there; the rule needs 'polynomial'"),
    ],
)
def test_a_theta_of_another_rule_is_refused(written, read, message, tmp_path):
    one, other = lifetime_of(written), lifetime_of(read)
    theta = one.init_theta(jax.random.key(0))
    write_theta(tmp_path, one, theta)
    chex.assert_trees_all_equal(load_theta(tmp_path, theta, theta_meaning(one)), theta)
    with pytest.raises(ConfigError, match=f"theta.json: this θ is of another rule: {message}"):
        load_theta(tmp_path, theta, theta_meaning(other))


def test_a_theta_of_other_paths_or_projections_is_refused(tmp_path):
    one, other = lifetime_of(PAIR, "per_path", DEEP), lifetime_of(PAIR, "per_projection", DEEP)
    theta = one.init_theta(jax.random.key(0))
    write_theta(tmp_path, one, theta)
    with pytest.raises(ConfigError, match=r"names\[0\] is 'forward: pre\*modulator' there; .*'projection 1: pre"):
        load_theta(tmp_path, theta, theta_meaning(other))


def test_the_meaning_does_not_depend_on_initial_values_and_scales():
    moved = replace(PAIR, initial={"weight": 0.5}, initial_spread=0.1, hebbian_scale=1.0)
    assert theta_meaning(lifetime_of(moved)) == theta_meaning(lifetime_of(PAIR))
    named = lifetime_of(Polynomial(terms=("seven",)))
    assert theta_meaning(lifetime_of(Polynomial(terms=named.rule.names))) == theta_meaning(named)


def test_a_file_without_the_meaning_is_refused(tmp_path):
    save_theta(tmp_path, jnp.zeros(2), {})
    with pytest.raises(ConfigError, match="rule.kind is nothing there; the rule needs 'polynomial'"):
        load_theta(tmp_path, jnp.zeros(2), theta_meaning(lifetime_of(PAIR)))
