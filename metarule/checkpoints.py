"""States of a run, kept by Orbax."""

from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array

from metarule.config import ConfigError
from metarule.processes import alone

__all__ = ["Checkpoints"]

_KEPT = 2


class Checkpoints:
    """The last checkpoints of a run; use it in a `with` block, at whose end all are on disk.

    Args:
        path: directory of the checkpoints.
    """

    def __init__(self, path: Path) -> None:
        import orbax.checkpoint as ocp  # three seconds to import: only where states are kept

        logging.set_verbosity(logging.ERROR)
        self._arguments = ocp.args
        me = jax.process_index()  # each process of a run has a directory of its own
        options = ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT,
            create=False,
            enable_async_checkpointing=alone(),  # else Orbax waits for the others
            multiprocessing_options=ocp.options.MultiprocessingOptions(me, {me}, barrier_sync_key_prefix=str(me)),
        )
        path.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(path.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.close()

    def save(self, step: int, state: Any) -> None:
        """Keep a state, unless one of this step or later is there."""
        if step > (self._manager.latest_step() or 0):
            self._manager.save(step, args=self._arguments.StandardSave(jax.tree.map(_plain, state)))

    def restore(self, like: Any) -> tuple[int, Any]:
        """The last state that was kept.

        Args:
            like: state at step 0, which is returned where none was kept.

        Returns:
            (step, state).

        Raises:
            ConfigError: a checkpoint that is damaged, or of another experiment.
        """
        step = self._manager.latest_step()
        if step is None:
            return 0, like
        plain = jax.tree.map(_plain, like)
        try:
            found = self._manager.restore(step, args=self._arguments.StandardRestore(plain))
            return step, jax.tree.map(_like, like, found)
        except Exception as error:  # Orbax raises many kinds, and says a lot
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{self._manager.directory / str(step)}: no state can be restored: {reason}") from error


def _plain(leaf: Array) -> np.ndarray:
    """Numbers that belong to no device, so that any number of them can go on: copies, for states are donated."""
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _like(leaf: Array, numbers: np.ndarray) -> Array:
    found = jnp.asarray(numbers)
    return jax.random.wrap_key_data(found, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else found


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
