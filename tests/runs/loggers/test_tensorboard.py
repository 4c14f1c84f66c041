import errno
import math

import pytest
from event_files import scalars

from metarule.runs.loggers import TensorBoard

FIRST = {"step": 1, "loss": 0.5, "theta.pre*modulator": 0.25}
SECOND = {"step": 2, "loss": math.nan, "held_out.solved": 0.75}


def test_numbers_are_scalars_of_their_step(tmp_path):
    logger = TensorBoard()
    logger.open(tmp_path, {}, [])
    logger.log(FIRST)
    logger.log(SECOND)
    logger.close({"held_out.learned.mean": 0.875})
    assert scalars(tmp_path / "tensorboard") == {
        1: {"loss": 0.5, "theta/pre*modulator": 0.25},
        2: {"held_out/solved": 0.75, "results/held_out.learned.mean": 0.875},
    }


def test_a_resumed_run_has_no_events_of_steps_that_are_void(tmp_path):
    for earlier in ([], [FIRST]):
        logger = TensorBoard()
        logger.open(tmp_path, {}, earlier)
        logger.log({"step": 2, "loss": float(len(earlier))})
        logger.close({})
    assert scalars(tmp_path / "tensorboard") == {1: {"loss": 0.5, "theta/pre*modulator": 0.25}, 2: {"loss": 1.0}}


def test_a_failing_disk_is_reported(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    logger = TensorBoard()
    logger.open(tmp_path, {}, [])
    monkeypatch.setattr("metarule.runs.loggers.tensorboard._PAUSE", -1)
    monkeypatch.setattr("tensorboardX.record_writer.os.fsync", fail)
    with pytest.raises(OSError, match="No space left on device"):
        logger.log(FIRST)
