import errno
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace
from small import EXPERIMENT

from metarule import MLP, Feedforward, InnerLoop, Lifetime, Polynomial, Trace
from metarule.config.toml import ConfigError
from metarule.runs.directory import CHECKPOINTS, is_run, read_experiment, seed_directory, start_run
from metarule.runs.files import read_json
from metarule.runs.metrics import append_metrics, read_metrics, truncate_metrics
from metarule.runs.theta_files import load_theta, save_theta
from metarule.runs.training import theta_meaning, write_theta


def test_a_directory_holds_the_config_as_given_and_as_resolved(tmp_path):
    start_run(tmp_path / "a run", EXPERIMENT, given="# mine\nseed = 3\n")
    assert (tmp_path / "a run" / "config.toml").read_text() == "# mine\nseed = 3\n"
    assert read_experiment(tmp_path / "a run") == EXPERIMENT
    environment = json.loads((tmp_path / "a run" / "environment.json").read_text())
    assert environment["packages"]["jax"] == jax.__version__
    assert environment["device"]["platform"] == jax.devices()[0].platform


def test_a_directory_that_holds_a_run_is_refused_unless_overwritten(tmp_path):
    start_run(tmp_path, EXPERIMENT, given=None)
    (tmp_path / "mine.txt").write_text("keep me")
    append_metrics(tmp_path, [{"step": 1}])
    with pytest.raises(ConfigError, match="it holds a run; go on with --resume, or start anew with --overwrite"):
        start_run(tmp_path, EXPERIMENT, given=None)
    start_run(tmp_path, EXPERIMENT, given=None, overwrite=True)
    assert read_metrics(tmp_path) == []
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_nothing_is_removed_that_no_run_wrote(tmp_path):
    (tmp_path / "figures").mkdir()
    for overwrite in (False, True):
        with pytest.raises(
            ConfigError, match="^run.directory = '[^']*': it holds no run, but files of the same name: figures"
        ):
            start_run(tmp_path, EXPERIMENT, given=None, overwrite=overwrite)
    assert (tmp_path / "figures").exists()


def test_runs_of_seeds_are_overwritten_with_their_directory_and_those_of_others_are_not(tmp_path):
    start_run(tmp_path, replace(EXPERIMENT, seed=1, seeds=2), given=None)
    for seed in (0, 1, 2):
        start_run(seed_directory(tmp_path, seed), replace(EXPERIMENT, seed=seed), given=None)
    (tmp_path / "s2" / "notes.txt").write_text("mine")
    start_run(tmp_path, EXPERIMENT, given=None, overwrite=True)
    assert is_run(tmp_path / "s0")
    assert not (tmp_path / "s1").exists()
    assert [file.name for file in (tmp_path / "s2").iterdir()] == ["notes.txt"]


class Killed(BaseException):
    pass


def test_a_run_that_lies_where_that_of_a_seed_would_be_is_neither_gone_on_with_nor_removed(tmp_path):
    start_run(tmp_path / "s4", EXPERIMENT, given=None)
    both = replace(EXPERIMENT, seeds=2)
    with pytest.raises(ConfigError, match="s4: it holds a run of its own, where that of seed 4 would be"):
        start_run(tmp_path, both, given=None)
    assert [file.name for file in tmp_path.iterdir()] == ["s4"]
    start_run(tmp_path, EXPERIMENT, given=None)  # as a run of one seed lies beside it
    with pytest.raises(ConfigError, match="s4: it holds a run of its own"):
        start_run(tmp_path, both, given=None, overwrite=True)
    assert read_experiment(tmp_path) == EXPERIMENT


def test_a_run_that_was_killed_while_laid_out_says_so_and_is_begun_again(tmp_path, monkeypatch):
    def die():
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(artifacts, "environment", die)
        start_run(tmp_path, EXPERIMENT, given="# mine\n")
    with pytest.raises(ConfigError, match="stopped before it had begun; start it again with the same command"):
        read_experiment(tmp_path)
    start_run(tmp_path, EXPERIMENT, given=None)
    assert read_experiment(tmp_path) == EXPERIMENT
    assert not (tmp_path / "config.toml").exists()


def test_a_removal_that_was_killed_is_gone_on_with(tmp_path, monkeypatch):
    def die(*_, **__):
        raise Killed

    old = replace(EXPERIMENT, seed=1, seeds=2)
    start_run(tmp_path, old, given="# old\n")
    start_run(seed_directory(tmp_path, 2), replace(EXPERIMENT, seed=2), given=None)
    (tmp_path / "figures").mkdir()
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(artifacts.shutil, "rmtree", die)
        start_run(tmp_path, EXPERIMENT, given=None, overwrite=True)
    with pytest.raises(ConfigError, match="stopped before it had begun"):
        read_experiment(tmp_path)
    start_run(tmp_path, EXPERIMENT, given=None)
    assert {file.name for file in tmp_path.iterdir()} == {"resolved.toml", "environment.json"}


def test_a_disk_that_fails_is_named_with_the_file(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifacts.os, "fsync", fail)
    for write in (lambda: append_metrics(tmp_path, [{}]), lambda: truncate_metrics(tmp_path, 0)):
        with pytest.raises(OSError, match="No space left on device: '.*metrics.jsonl'"):
            write()


def test_a_line_that_was_torn_within_a_letter_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes('{"step": 1}\n{"trouble": "θ'.encode()[:-1])
    assert read_metrics(tmp_path) == [{"step": 1}]
    (tmp_path / "metrics.jsonl").write_bytes('{"trouble": "θ'.encode()[:-1] + b'"}\n')
    with pytest.raises(ConfigError, match="metrics.jsonl: damaged"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("name", ["x" * 300, "nul\0"])
def test_a_name_that_cannot_be_is_refused(name, tmp_path):
    with pytest.raises(ConfigError):
        start_run(tmp_path / name, EXPERIMENT, given=None)
    with pytest.raises(ConfigError):
        read_experiment(tmp_path / name)


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_a_damaged_summary_is_refused(text, tmp_path):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(ConfigError, match="summary.json: damaged"):
        read_json(tmp_path / "summary.json")


def test_a_theta_of_another_format_is_refused(tmp_path):
    save_theta(tmp_path, jnp.zeros(3), {})
    (tmp_path / "theta.json").write_text('{"format": 3}')
    with pytest.raises(
        ConfigError, match="this θ has format 3; this version of metarule reads up to 2; upgrade metarule"
    ):
        load_theta(tmp_path, jnp.zeros(3), {})


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="run.directory = '.*file/run': Not a directory"):
        start_run(tmp_path / "file" / "run", EXPERIMENT, given=None)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="this is no run directory"):
        read_experiment(tmp_path)
    (tmp_path / "resolved.toml").write_text("sed = 3")
    with pytest.raises(ConfigError, match=r"resolved.toml: sed = 3: there is no such field"):
        read_experiment(tmp_path)


def test_metrics_are_whole_lines_and_null_where_not_finite(tmp_path):
    rows = [{"step": 1, "loss": np.float32("nan"), "theta": jnp.array([1.0, jnp.inf])}, {"step": 2, "loss": 0.5}]
    append_metrics(tmp_path, rows)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert read_metrics(tmp_path) == [
        {"step": 1, "loss": None, "theta": [1.0, None]},
        {"step": 2, "loss": 0.5},
    ]
    truncate_metrics(tmp_path, 1)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]


def test_theta_is_kept_with_its_meaning(tmp_path):
    theta = {"a": jnp.arange(3.0), "b": (jnp.ones((2, 2)), jnp.zeros(()))}
    save_theta(tmp_path, theta, {"equation": "Δw = 0"})
    jax.tree.map(np.testing.assert_array_equal, load_theta(tmp_path, theta, {}), theta)
    meaning = json.loads((tmp_path / "theta.json").read_text())
    assert meaning == {"format": 2, "equation": "Δw = 0"}


def test_many_leaves_keep_their_order(tmp_path):
    theta = tuple(jnp.full((), float(number)) for number in range(12))
    save_theta(tmp_path, theta, {})
    assert load_theta(tmp_path, theta, {}) == theta


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 torn"])
def test_a_theta_that_cannot_be_read_is_refused(content, tmp_path):
    save_theta(tmp_path, jnp.zeros(3), {})
    (tmp_path / "theta.npz").write_bytes(content)
    with pytest.raises(ConfigError, match="no θ can be read from it"):
        load_theta(tmp_path, jnp.zeros(3), {})


def test_a_theta_of_another_rule_or_with_code_in_it_is_refused(tmp_path):
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
def test_thetas_of_every_structure_are_read_back(rule, tmp_path):
    theta = rule.init(jax.random.key(0))
    save_theta(tmp_path, theta, {}, name="pruned")
    chex.assert_trees_all_equal(load_theta(tmp_path, rule.init(jax.random.key(1)), {}, name="pruned"), theta)


def test_a_run_is_known_while_its_checkpoints_come_and_go(tmp_path):
    start_run(tmp_path, EXPERIMENT, given=None)
    ended = threading.Event()

    def save_and_remove():
        while not ended.is_set():
            inner = tmp_path / CHECKPOINTS / "1" / "default"
            inner.mkdir(parents=True)
            (inner / "array").touch()
            shutil.rmtree(inner.parent)

    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(save_and_remove)
        try:
            assert all(is_run(tmp_path) for _ in range(300))
        finally:
            ended.set()
        busy.result()


def lifetime_of(rule, theta="shared", circuit=EXPERIMENT.circuit):
    return Lifetime(rule=rule, circuit=circuit, batch_size=EXPERIMENT.tasks, inner_loop=InnerLoop(theta=theta))


def traced(of="pre*post", **more):
    return Polynomial(terms=("e*modulator", "pre"), traces={"e": Trace(of=of, **more)})


PAIR = Polynomial(terms=("pre*modulator", "weight"))
DEEP = Feedforward(feedback="learned")


@pytest.mark.parametrize(
    ("written", "read", "says"),
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
        (MLP(), MLP(scale=0.2), "rule.output_scale is 0.1 there; the rule needs 0.2"),
        (MLP(inputs=("pre", "post")), PAIR, "rule.kind is 'mlp' there; the rule needs 'polynomial'"),
    ],
)
def test_a_theta_is_read_as_what_it_was_written_alone(written, read, says, tmp_path):
    one, other = lifetime_of(written), lifetime_of(read)
    theta = one.theta(jax.random.key(0))
    write_theta(tmp_path, one, theta)
    chex.assert_trees_all_equal(load_theta(tmp_path, theta, theta_meaning(one)), theta)
    with pytest.raises(ConfigError, match=f"theta.json: this θ is of another rule: {says}"):
        load_theta(tmp_path, theta, theta_meaning(other))


def test_a_theta_of_other_paths_or_projections_is_refused_by_name(tmp_path):
    one, other = lifetime_of(PAIR, "per_path", DEEP), lifetime_of(PAIR, "per_projection", DEEP)
    theta = one.theta(jax.random.key(0))
    write_theta(tmp_path, one, theta)
    with pytest.raises(ConfigError, match=r"names\[0\] is 'forward: pre\*modulator' there; .*'projection 1: pre"):
        load_theta(tmp_path, theta, theta_meaning(other))


def test_where_a_theta_starts_and_how_it_is_moved_are_no_part_of_its_meaning():
    moved = replace(PAIR, initial={"weight": 0.5}, initial_spread=0.1, hebbian_scale=1.0)
    assert theta_meaning(lifetime_of(moved)) == theta_meaning(lifetime_of(PAIR))
    named = lifetime_of(Polynomial(terms=("seven",)))
    assert theta_meaning(lifetime_of(Polynomial(terms=named.rule.names))) == theta_meaning(named)


def test_a_file_of_the_latest_format_has_to_say_what_is_asked_of_it(tmp_path):
    save_theta(tmp_path, jnp.zeros(2), {})
    with pytest.raises(ConfigError, match="rule.kind is nothing there; the rule needs 'polynomial'"):
        load_theta(tmp_path, jnp.zeros(2), theta_meaning(lifetime_of(PAIR)))
