"""Set-ups are timed in turns, and say the same of the same lifetimes."""

from pathlib import Path

import pytest
from small import SIMPLEST, words

from benchmarks.scalings.setups import Setup, timed

CONFIG = str(Path(__file__).parents[3] / "configs" / "boolean-2.toml")
WORDS = (CONFIG, *words(SIMPLEST))


def test_devices_and_processes_are_timed_and_agree():
    devices, processes = timed([Setup(1, 2, WORDS), Setup(2, 1, WORDS)], turns=2)
    for one in (devices, processes):
        assert len(one.seconds) == 2
        assert min(one.seconds) > 0
        assert one.said["collectives"] == 1
        assert min(one.said["gather_seconds"]) > 0
    assert devices.said["gradient_norm"] == pytest.approx(processes.said["gradient_norm"], rel=1e-5)


def test_what_a_process_says_before_it_fails_is_passed_on():
    with pytest.raises(RuntimeError, match="there is no such field"):
        timed([Setup(1, 1, (CONFIG, "--nothing", "1"))], turns=2)
