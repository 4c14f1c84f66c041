import json
import random
import shutil
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import EXPERIMENT

from metarule.config.toml import ConfigError
from metarule.meta import begin
from metarule.prng import run_key
from metarule.runs.checkpoints import Checkpoints

STATE = begin(EXPERIMENT.lifetime, EXPERIMENT.optimizer, EXPERIMENT.lifetime.tasks.split(0).train, run_key(0))
LATER = jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype), STATE)


def restored(path, origin="", like=STATE):
    return Checkpoints(path, origin).restore(lambda step: like)


def test_without_a_checkpoint_the_initial_state_is_returned(tmp_path):
    step, state = restored(tmp_path / "checkpoints")
    assert step == 0
    assert state is STATE


def test_the_last_state_is_restored_bit_for_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (3, 6, 9):
        checkpoints.save(step, LATER if step == 9 else STATE)
    step, state = restored(tmp_path / "checkpoints")
    assert step == 9
    assert jax.tree.structure(state) == jax.tree.structure(STATE)
    jax.tree.map(np.testing.assert_array_equal, state, LATER)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"6.npz", "9.npz"}
    checkpoints.save(9, STATE)  # there already
    jax.tree.map(np.testing.assert_array_equal, restored(tmp_path / "checkpoints")[1], LATER)


def test_bfloat16_is_restored(tmp_path):
    state = jnp.array([0.5, -3.0], jnp.bfloat16)
    Checkpoints(tmp_path).save(1, state)
    found = restored(tmp_path, like=state)[1]
    assert found.dtype == jnp.bfloat16
    assert found.tolist() == [0.5, -3.0]


def test_keys_are_restored(tmp_path):
    state = {"key": jax.random.key(3), "step": jnp.zeros((), int)}
    Checkpoints(tmp_path).save(1, state)
    found = restored(tmp_path, like=state)[1]
    assert jax.random.key_data(found["key"]).tolist() == jax.random.key_data(state["key"]).tolist()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "checkpoints"
    checkpoints = Checkpoints(path)
    checkpoints.save(3, STATE)
    checkpoints.save(6, LATER)
    return path


def damage(file, how, chance):
    """Truncate a file, or flip one of its bits."""
    content = bytearray(file.read_bytes())
    if how == "truncated":
        file.write_bytes(content[: chance.randrange(len(content))])
    else:
        bit = chance.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "flipped"])
@pytest.mark.parametrize("seed", range(20))
def test_after_any_damage_the_state_is_right_or_the_previous_one(how, seed, two, tmp_path, capfd):
    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    damage(path / "6.npz", how, random.Random(seed))
    step, state = restored(path)
    jax.tree.map(np.testing.assert_array_equal, state, LATER if step == 6 else STATE)
    message = capfd.readouterr().err
    if step == 6:
        assert message == ""
    else:
        assert message.startswith(f"damaged, and renamed to damaged-6.npz: {path / '6.npz'}: ")
        assert message.endswith("; going on from meta-step 3\n")
        assert message.count("\n") == 1
        Checkpoints(path).save(6, LATER)
        assert restored(path)[0] == 6
        assert (path / "damaged-6.npz").is_file()


def test_a_checkpoint_that_was_not_written_whole_is_passed_over(two, tmp_path, capfd):
    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    (path / "6.npz").rename(path / "6.npz.partial")
    assert restored(path)[0] == 3
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), PermissionError(13, "Permission denied")])
def test_an_unreadable_checkpoint_is_not_taken_for_damaged(error, two, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise error

    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    with monkeypatch.context() as patched, pytest.raises(OSError, match=error.strerror) as caught:
        patched.setattr("metarule.config.arrays.zipfile.ZipFile", fail)
        restored(path)
    assert caught.value.filename == str(path / "6.npz")
    assert restored(path)[0] == 6


def test_checkpoints_of_an_earlier_version_are_refused(tmp_path):
    (tmp_path / "60" / "default").mkdir(parents=True)
    with pytest.raises(ConfigError, match="60: this checkpoint is of an earlier version of metarule; start anew"):
        restored(tmp_path)


def test_a_checkpoint_of_another_origin_is_refused(tmp_path):
    path = tmp_path / "checkpoints"
    Checkpoints(path, "this").save(3, STATE)
    with pytest.raises(ConfigError, match="3.npz: this checkpoint is of another"):
        restored(path, "that")
    for origin in ("this", ""):
        assert restored(path, origin)[0] == 3


def test_a_wrong_checksum_counts_as_damage(two, tmp_path, capsys):
    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    with np.load(path / "6.npz") as opened:
        arrays = dict(opened)
    metadata = json.dumps(json.loads(arrays["metadata"].tobytes()) | {"sha256": "0" * 64}).encode()
    np.savez(path / "6.npz", **arrays | {"metadata": np.frombuffer(metadata, np.uint8)})
    assert restored(path)[0] == 3
    assert "its numbers do not have the checksum in its metadata" in capsys.readouterr().err


def test_memory_is_not_taken_for_what_a_header_claims(two, tmp_path):
    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    for step in (3, 6):
        np.savez(path / f"{step}.npz", metadata=np.zeros(2**13, np.uint8))
    with pytest.raises(ConfigError, match=r"no state can be restored: .*its metadata have shape \(8192,\) of uint8"):
        restored(path)
    (path / "3.npz").unlink()
    with zipfile.ZipFile(path / "6.npz", "w") as archive:
        for name in ("leaf_0", "leaf_0.npy"):
            archive.writestr(name, b"")
    with pytest.raises(ConfigError, match="it holds leaf_0, leaf_0.npy; allowed: arrays that numpy has written"):
        restored(path)


def test_if_all_are_damaged_each_is_named_and_none_is_removed(two, tmp_path):
    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    for step in (3, 6):
        (path / f"{step}.npz").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=f"no state can be restored: {path / '6.npz'}: .*; {path / '3.npz'}: "):
        restored(path)
    assert {file.name for file in path.iterdir()} == {"3.npz", "6.npz"}


def test_a_state_of_another_size_is_refused(two, tmp_path):
    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    with pytest.raises(ConfigError, match="it holds other arrays than the state of this experiment has;"):
        restored(path, like=jnp.zeros(()))


def test_a_failing_disk_is_named_and_leaves_the_earlier_checkpoints(two, tmp_path, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    monkeypatch.setattr("metarule.runs.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        Checkpoints(path).save(9, STATE)
    assert caught.value.filename == str(path / "9.npz")
    assert restored(path)[0] == 6
