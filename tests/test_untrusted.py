"""Untrusted files: refused in one line before memory is allocated, and confined to the run directory."""

import io
import os
import zipfile
from pathlib import Path
from shutil import copytree

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarule.config.toml import ConfigError, check_file, decode, read
from metarule.runs.directory import locked_run, start_run
from metarule.runs.experiment import Experiment
from metarule.runs.finished import load
from metarule.runs.metrics import read_metrics
from metarule.runs.stopping import Diverged
from metarule.runs.theta_files import load_theta, save_theta

FIXTURE = Path(__file__).parent / "fixtures" / "run-format-2"
THETA = (FIXTURE / "theta.npz").read_bytes()
LIKE = jnp.zeros(7)


@pytest.fixture
def run(tmp_path):
    return copytree(FIXTURE, tmp_path / "run")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return copytree(FIXTURE, tmp_path_factory.mktemp("runs") / "run")


def loaded(directory, content):
    """Read a θ file: None if it is refused, else a finite θ of the right shape."""
    (directory / "theta.npz").write_bytes(content)
    try:
        theta = load_theta(directory, LIKE, {})
    except ConfigError as error:
        assert "theta.npz" in str(error)
        assert "\n" not in str(error)
        return None
    assert theta.shape == (7,)
    assert np.isfinite(theta).all()
    return theta


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400))
def test_random_bytes_are_refused(directory, content):
    assert loaded(directory, content) is None


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(THETA)), st.integers(0, 40), st.binary(max_size=40))
def test_a_modified_theta_is_read_or_refused(directory, start, length, part):
    loaded(directory, THETA[:start] + part + THETA[start + length :])


def test_the_unmodified_theta_is_read(directory):
    assert loaded(directory, THETA) is not None


def archive(content, method=zipfile.ZIP_STORED):
    opened = io.BytesIO()
    with zipfile.ZipFile(opened, "w", method) as file:
        file.writestr("theta_0.npy", content)
    return opened.getvalue()


def array(shape, kind=np.float32):
    opened = io.BytesIO()
    np.save(opened, np.zeros(shape, kind), allow_pickle=True)
    return opened.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(array(10**7), zipfile.ZIP_DEFLATED), "bytes; allowed: up to"),
        (archive(array(10**6), zipfile.ZIP_BZIP2), r"arrays of shape \[\(1000000,\)\]; the rule needs"),
        (archive(array(7).replace(b"(7,)", b"(" + b"9" * 17 + b",)")), "arrays of shape"),
        (archive(array(7, np.complex64)), "no θ can be read from it: theta_0 holds complex64"),
        (archive(array(7, object)), "no θ can be read from it: theta_0 holds object"),
        (archive(b""), "no θ can be read from it"),
        (archive(array(7))[:-30], "no θ can be read from it"),
    ],
    ids=["bomb", "large", "claim", "complex", "pickle", "empty", "truncated"],
)
def test_an_archive_is_checked_before_it_is_read(content, message, run):
    (run / "theta.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_theta(run, LIKE, {})


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_theta_that_is_not_finite_is_neither_written_nor_read(number, run):
    before = (run / "theta.npz").read_bytes()
    with pytest.raises(Diverged, match="θ is not finite; it is not written"):
        save_theta(run, LIKE.at[3].set(number), {})
    assert (run / "theta.npz").read_bytes() == before
    np.savez(run / "theta.npz", theta_0=np.full(7, number, np.float32))
    with pytest.raises(ConfigError, match="numbers that are not finite"):
        load_theta(run, LIKE, {})


@pytest.mark.parametrize("name", ["resolved.toml", "theta.json", "summary.json", "metrics.jsonl"])
def test_a_file_of_gigabytes_is_not_read(name, run):
    with (run / name).open("ab") as file:
        file.truncate(2**31)  # a sparse file
    with pytest.raises(ConfigError, match=f"{name}: it has 2147483648 bytes; allowed: up to"):
        load(run) if name != "metrics.jsonl" else read_metrics(run)


def test_a_pipe_is_refused(run):
    (run / "theta.json").unlink()
    os.mkfifo(run / "theta.json")
    with pytest.raises(ConfigError, match="theta.json: this is no file"):
        load(run)
    with pytest.raises(ConfigError, match="run: this is no file"):
        check_file(run, 1)


@pytest.mark.parametrize(
    "name",
    [
        "theta.npz",
        "theta.npz.partial",
        "metrics.jsonl",
        "summary.json.partial",
        "figures",
        "checkpoints/1.npz",
        "s7",
        "metrics.csv",
        "tensorboard",
        "wandb/latest-run",
        "metarule.lock",
        "metarule.process.json",
    ],
)
def test_links_out_of_a_run_are_refused(name, run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (run / name).unlink(missing_ok=True)
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=f"{name}: this link leads out of the run directory"):
        load(run)


@pytest.mark.parametrize("name", ["environment.json.partial", "metarule.process.json"])
def test_nothing_is_written_through_an_existing_link(name, tmp_path):
    (tmp_path / "other").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "other")
    with pytest.raises(ConfigError, match=f"{name}: this link leads"), locked_run(tmp_path / "run"):
        pass
    with pytest.raises(ConfigError, match=f"{name}: this link leads"):
        start_run(tmp_path / "run", Experiment(), given=None)
    assert (tmp_path / "other").read_text() == "mine"


def test_links_within_a_run_and_other_links_are_not_refused(run, tmp_path):
    (run / "theta.npz").rename(run / "other.npz")
    (run / "theta.npz").symlink_to("other.npz")
    (run / "notes").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(run)
    assert load(tmp_path / "link").rates


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "damaged: maximum recursion"),
        ("[]", "damaged: '\\[\\]' is no JSON object"),
        ('{"held_out": 3}', "damaged: Expected `object | null`, got `int` - at `\\$.held_out`"),
        ('{"held_out": {"baselines": {"delta": {}}}}', "damaged: Object missing required field `learning_rate`"),
        ('{"held_out": {"baselines": {"delta": {"learning_rate": NaN}}}}', "damaged: Expected `float`"),
        ('{"held_out": {"baselines": {"../delta": {"learning_rate": 1}}}}', "damaged: Invalid enum value"),
        ("\udcff", "damaged"),
    ],
)
def test_invalid_summaries_are_refused(content, message, run):
    (run / "summary.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=f"summary.json: {message}"):
        load(run)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a." * 5000 + "a = 1", "nested too deep; allowed: up to 32"),
        ("seed = " + "9" * 100, "seed = 0x.*: expected a number of 64 bits"),
        ("inner_loop.weight_bound = 1e19", "inner_loop.weight_bound = 1e\\+19: expected a number of at most 1e\\+18"),
        (
            "rule = {kind = 'polynomial', terms = ['" + "1+" * 600 + "1']}",
            "rule: term '1.*': 1201 characters; allowed: up",
        ),
        ("rule = {kind = 'polynomial', terms = ['" + "9" * 30 + "*pre']}", "factor 1e\\+30; allowed: 1e-18 to 1e"),
        (f"rule = {{kind = 'polynomial', terms = {['1'] * 1025}}}", "rule: terms: 1025 given; allowed: up to 1024"),
        (
            "rule = {kind = 'polynomial', terms = ['taylor(pre, post, weight, modulator; 4)', "
            "'taylor(pre, post, potential, modulator; 4)']}",
            "rule: terms: 1125 monomials; allowed: up to 1024",
        ),
        (
            "circuit = {kind = 'feedforward', hidden = [65536, 65536]}",
            "circuit: weights, wiring, state and memory of a network, as numbers .* allowed: up to",
        ),
        ("rule = {kind = 'mlp', hidden = [1024, 1024]}", "rule: parameters = 105.*; allowed: up to 65536"),
        (
            "optimizer = {kind = 'genetic', population = 100000, batch_size = 100000}",
            "optimizer: lifetimes of a meta-step = 10000000256; allowed: up to",
        ),
        (
            "circuit.hidden = [4000, 4000]\noptimizer.batch_size = 1000000",
            "circuit and optimizer: the same for all networks of a meta-step = .*; allowed: up to",
        ),
        ("inner_loop.steps = 100000000", "inner_loop.steps = 100000000: expected `int` <= 10000000"),
    ],
)
def test_too_large_experiments_are_refused_before_memory_is_allocated(text, message, tmp_path):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        decode(read(tmp_path / "bad.toml")[1], Experiment)
