"""Set-ups are timed in turns, and have the same gradient."""

from pathlib import Path

import pytest
from small import SIMPLEST, words

from benchmarks.probes import Setup, message_sizes, timed

CONFIG = str(Path(__file__).parents[2] / "configs" / "boolean-2.toml")
WORDS = (CONFIG, *words(SIMPLEST))
PROGRAM = """
  %all-gather.5 = f32[64,20]{1,0} all-gather(%concatenate.11), channel_id=1, dimensions={0}
  %gathered = (bf16[3]{0}, pred[7]{0}) all-reduce(%one, %other), to_apply=%add
  %plain = f32[9]{0} add(%all-gather.5, %gathered)
"""


def test_messages_are_counted_in_bytes():
    assert message_sizes(PROGRAM) == [64 * 20 * 4, 3 * 2 + 7]


@pytest.mark.long
def test_devices_and_processes_are_timed_and_agree():
    devices, processes = timed([Setup(1, 2, WORDS), Setup(2, 1, WORDS)], turns=2)
    for one in (devices, processes):
        assert len(one["seconds"]) == 2
        assert min(one["seconds"]) > 0
        assert (one["devices"], one["collectives"]) == (2, 1)
    assert devices["gradient_norm"] == pytest.approx(processes["gradient_norm"], rel=1e-5)


def test_the_message_of_a_process_that_fails_is_passed_on():
    with pytest.raises(RuntimeError, match="there is no such field"):
        timed([Setup(1, 1, (CONFIG, "--nothing", "1"))], turns=2)
