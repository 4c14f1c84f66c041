import jax
import jax.numpy as jnp
import numpy as np
from small import EXPERIMENT

from metarule.checkpoints import Checkpoints
from metarule.meta import begin
from metarule.streams import run_key

STATE = begin(EXPERIMENT.lifetime, EXPERIMENT.optimizer, EXPERIMENT.lifetime.tasks.split(0).train, run_key(0))


def test_without_a_checkpoint_there_is_the_start(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        step, state = checkpoints.restore(STATE)
    assert step == 0
    assert state is STATE


def test_the_last_state_comes_back_bit_for_bit(tmp_path):
    later = jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype), STATE)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (3, 6, 9):
            checkpoints.save(step, later if step == 9 else STATE)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        step, state = checkpoints.restore(STATE)
    assert step == 9
    assert jax.tree.structure(state) == jax.tree.structure(STATE)
    jax.tree.map(np.testing.assert_array_equal, state, later)
    assert len([path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()]) == 2
