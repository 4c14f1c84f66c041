import json
import random
import shutil
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
    with Checkpoints(path, origin) as checkpoints:
        return checkpoints.restore(lambda step: like)


def test_without_a_checkpoint_the_initial_state_is_returned(tmp_path):
    step, state = restored(tmp_path / "checkpoints")
    assert step == 0
    assert state is STATE


def test_the_last_state_is_restored_bit_for_bit(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (3, 6, 9):
            checkpoints.save(step, LATER if step == 9 else STATE)
    step, state = restored(tmp_path / "checkpoints")
    assert step == 9
    assert jax.tree.structure(state) == jax.tree.structure(STATE)
    jax.tree.map(np.testing.assert_array_equal, state, LATER)
    assert len([path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()]) == 2


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "checkpoints"
    with Checkpoints(path) as checkpoints:
        checkpoints.save(3, STATE)
        checkpoints.save(6, LATER)
    return path


def damage(checkpoint, how, chance):
    """Truncate or remove one file, or flip one of its bits."""
    file = chance.choice(sorted(file for file in checkpoint.rglob("*") if file.is_file() and file.stat().st_size))
    content = bytearray(file.read_bytes())
    if how == "missing":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(content[: chance.randrange(len(content))])
    else:
        bit = chance.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing"])
@pytest.mark.parametrize("seed", range(6))
def test_after_any_damage_the_state_is_right_or_the_previous_one(how, seed, two, tmp_path, capfd):
    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    damage(path / "6", how, random.Random(seed))
    step, state = restored(path)
    jax.tree.map(np.testing.assert_array_equal, state, LATER if step == 6 else STATE)
    message = capfd.readouterr().err
    if step == 6:
        assert message == ""
    else:
        assert message.startswith(f"damaged, and renamed to damaged-6: {path / '6'}: ")
        assert message.endswith("; going on from meta-step 3\n")
        assert message.count("\n") == 1
        with Checkpoints(path) as checkpoints:
            checkpoints.save(6, LATER)
        assert restored(path)[0] == 6
        assert (path / "damaged-6").is_dir()


@pytest.mark.parametrize("name", ["6", "6/default"])
@pytest.mark.parametrize("emptied", [True, False])
def test_an_incomplete_checkpoint_is_passed_over(name, emptied, two, tmp_path, capfd):
    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    shutil.rmtree(path / name)
    if emptied:
        (path / name).mkdir()
    step, state = restored(path)
    assert step == 3
    jax.tree.map(np.testing.assert_array_equal, state, STATE)
    assert capfd.readouterr().err.count("\n") == (emptied or name != "6")


def test_an_unreadable_checkpoint_is_not_taken_for_damaged(two, tmp_path, monkeypatch):
    def forbidden(path, onerror):
        onerror(PermissionError(13, "Permission denied", str(path)))

    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    with monkeypatch.context() as patched, pytest.raises(PermissionError):
        patched.setattr("metarule.runs.checkpoints.os.walk", forbidden)
        restored(path)
    assert restored(path)[0] == 6


def test_a_checkpoint_of_another_origin_is_refused(tmp_path):
    path = tmp_path / "checkpoints"
    with Checkpoints(path, "this") as checkpoints:
        checkpoints.save(3, STATE)
    with pytest.raises(ConfigError, match="3: this checkpoint is of another"):
        restored(path, "that")
    for origin in ("this", ""):
        assert restored(path, origin)[0] == 3


def test_a_wrong_checksum_counts_as_damage(two, tmp_path, capsys):
    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    metadata = path / "6" / "_CHECKPOINT_METADATA"
    known = json.loads(metadata.read_text())
    known["custom_metadata"]["sha256"] = "0" * 64
    metadata.write_text(json.dumps(known))
    assert restored(path)[0] == 3
    assert "its numbers do not have the checksum in its metadata" in capsys.readouterr().err


def test_if_all_are_damaged_each_is_named_and_none_is_removed(two, tmp_path):
    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    for step in (3, 6):
        shutil.rmtree(path / str(step) / "default")
    with pytest.raises(ConfigError, match=f"no state can be restored: {path / '6'}: .*; {path / '3'}: "):
        restored(path)
    assert {file.name for file in path.iterdir()} == {"3", "6"}


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), PermissionError(13, "Permission denied")])
def test_a_transient_error_leaves_the_checkpoint(error, two, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise error

    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    with Checkpoints(path) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, "restore", fail)
        with pytest.raises(OSError, match=error.strerror):
            checkpoints.restore(lambda step: STATE)
    assert restored(path)[0] == 6


def test_a_state_of_another_size_is_refused(two, tmp_path):
    path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
    with pytest.raises(ConfigError, match="bytes of numbers, and this experiment has 4;"):
        restored(path, like=jnp.zeros(()))


def test_a_failing_disk_is_named(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise ValueError("RESOURCE_EXHAUSTED: no room\nand more")

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    monkeypatch.setattr(checkpoints._manager, "save", fail)
    message = f"^{tmp_path / 'checkpoints'}: a checkpoint could not be written: RESOURCE_EXHAUSTED: no room and more$"
    with pytest.raises(OSError, match=message):
        checkpoints.save(3, STATE)
    monkeypatch.setattr(checkpoints._manager, "close", fail)
    with pytest.raises(OSError, match=message), checkpoints:
        pass
    with pytest.raises(KeyError), checkpoints:  # the error that ends the run
        raise KeyError
