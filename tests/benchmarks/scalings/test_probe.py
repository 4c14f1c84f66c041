"""What a probe says of a meta-step."""

from small import EXPERIMENT

from benchmarks.scalings.probe import collectives, step_number

PROGRAM = """
  %all-gather.5 = f32[64,20]{1,0} all-gather(%concatenate.11), channel_id=1, dimensions={0}
  %gathered = (bf16[3]{0}, pred[7]{0}) all-reduce(%one, %other), to_apply=%add
  %plain = f32[9]{0} add(%all-gather.5, %gathered)
"""


def test_messages_are_counted_in_bytes():
    assert collectives(PROGRAM) == [64 * 20 * 4, 3 * 2 + 7]


def test_a_presentation_is_counted_by_the_compiler():
    found = step_number(EXPERIMENT)
    assert found["kernels"] > 5
    assert found["flops"] > 100
    assert found["traffic"] > 100
    assert found["lives"] == EXPERIMENT.optimizer.batch_size
    assert found["steps"] == EXPERIMENT.inner_loop.steps
