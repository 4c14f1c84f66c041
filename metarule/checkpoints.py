"""States of a run, kept by Orbax."""

from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from absl import logging

from metarule.config import ConfigError

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
        self._manager = ocp.CheckpointManager(path.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=_KEPT))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.close()

    def save(self, step: int, state: Any) -> None:
        """Keep a state, unless one of this step or later is there."""
        if step > (self._manager.latest_step() or 0):
            self._manager.save(step, args=self._arguments.StandardSave(state))

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
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like)
        try:
            return step, self._manager.restore(step, args=self._arguments.StandardRestore(shapes))
        except Exception as error:  # Orbax raises many kinds, and says a lot
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{self._manager.directory / str(step)}: no state can be restored: {reason}") from error
