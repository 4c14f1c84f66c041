"""States of a run, kept by Orbax.

With each goes the sum of its numbers, in the metadata that Orbax makes visible together with them. So a checkpoint is
whole, or is known for damaged, whatever befell its files. The numbers are one array of bytes: where one of many arrays
cannot be read or written, Orbax leaves the others to print stack traces.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import shorten
from types import TracebackType
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array

from metarule.config.toml import ConfigError
from metarule.parallel.multihost import is_single_process

__all__ = ["Checkpoints"]

_KEPT = 2
_NUMBERS, _SUM, _ORIGIN = "numbers", "sha256", "origin"
_BRIEF = 200


class Checkpoints:
    """The last checkpoints of a run; use it in a `with` block, at whose end all are on disk.

    Args:
        path: directory of the checkpoints.
        origin: what their states come from; one that was kept with another is not gone on from.
    """

    def __init__(self, path: Path, origin: str = "") -> None:
        import orbax.checkpoint as ocp  # three seconds to import: only where states are kept

        logging.set_verbosity(logging.FATAL)  # errors are raised as well
        self._arguments, self._origin = ocp.args, origin
        me = jax.process_index()  # each process of a run has a directory of its own
        options = ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT,
            create=False,
            enable_async_checkpointing=is_single_process(),  # else Orbax waits for the others
            multiprocessing_options=ocp.options.MultiprocessingOptions(me, {me}, barrier_sync_key_prefix=str(me)),
        )
        path.mkdir(parents=True, exist_ok=True)
        handler = ocp.StandardCheckpointHandler()  # which Orbax else guesses from the last, that may be damaged
        self._manager = ocp.CheckpointManager(path.absolute(), options=options, item_handlers=handler)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._manager.close()
        except Exception as failed:
            if error is None:  # else that one is why the work ends
                raise self._unkept(failed) from failed

    def save(self, step: int, state: Any) -> None:
        """Keep a state, unless one of this step or later is there.

        Args:
            step: meta-steps taken.
            state: the state after them.

        Raises:
            OSError: this one, or the one before, could not be written.
        """
        if step <= (self._manager.latest_step() or 0):
            return
        plain = jax.tree.map(_plain, state)
        try:
            arguments = self._arguments.StandardSave({_NUMBERS: _packed(plain)})
            metadata = {_SUM: _sum(plain)} | ({_ORIGIN: self._origin} if self._origin else {})
            self._manager.save(step, args=arguments, custom_metadata=metadata)
        except Exception as failed:  # Orbax raises many kinds
            raise self._unkept(failed) from failed

    def restore(self, like: Callable[[int], Any]) -> tuple[int, Any]:
        """The last state that was kept and is not damaged; those after it are put aside, with a word on each.

        Args:
            like: from a number of meta-steps to a state of the same structure; that of 0 is the state at the start.

        Returns:
            (step, state).

        Raises:
            ConfigError: checkpoints that are all damaged, or of another experiment.
            OSError: a checkpoint that cannot be read for now; it is left as it is.
        """
        damaged = dict[int, str]()
        for step in sorted(self._manager.all_steps(), reverse=True):
            wanted = like(step)
            try:
                found = self._restored(step, jax.tree.map(_plain, wanted))
            except Exception as error:  # Orbax raises many kinds, and says a lot
                passing = isinstance(error, (MemoryError, OSError)) and not isinstance(error, FileNotFoundError)
                if passing or isinstance(error, ConfigError):
                    raise
                damaged[step] = f"{self._path(step)}: {_brief(error)}"
                continue
            self._put_aside(damaged, step)
            return step, jax.tree.map(_like, wanted, found)
        if damaged:
            says = "; ".join(damaged.values())
            raise ConfigError(f"no state can be restored: {says}; start anew with --overwrite")
        return 0, like(0)

    def _restored(self, step: int, like: Any) -> Any:
        path = self._path(step)
        for _ in os.walk(path, onerror=_raise):  # what may not be read Orbax takes for damaged
            pass
        metadata = self._manager.metadata(step).custom_metadata or {}
        known, origin = metadata.get(_SUM), metadata.get(_ORIGIN, self._origin)
        if self._origin and origin != self._origin:
            raise ConfigError(
                f"{path}: it was kept by another experiment: what θ depends on was changed since; change it back, or "
                "start anew with --overwrite"
            )
        if known is None:
            found = self._manager.restore(step, args=self._arguments.StandardRestore(like))
            says = "no sum was kept with it, as in earlier versions: it is taken as it is"
            print(f"{path}: {says}", file=sys.stderr)
            return found
        found = _unpacked(self._manager.restore(step, args=self._arguments.StandardRestore())[_NUMBERS], like)
        if known != _sum(found):
            raise ValueError("its numbers do not have the sum that was kept with them")
        return found

    def _put_aside(self, damaged: Mapping[int, str], good: int) -> None:
        """Make room for the states that are now reached again."""
        for step, reason in damaged.items():
            path = self._path(step)
            aside = path.with_name(f"damaged-{step}")
            print(f"damaged, and put aside as {aside.name}: {reason}; going on from meta-step {good}", file=sys.stderr)
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        if damaged:
            self._manager.reload()

    def _path(self, step: int) -> Path:
        return Path(self._manager.directory / str(step))

    def _unkept(self, error: Exception) -> OSError:
        return OSError(f"{self._manager.directory}: a checkpoint could not be kept: {_brief(error)}")


def _raise(error: OSError) -> NoReturn:
    raise error


def _brief(error: Exception) -> str:
    """What an error says, which may be pages."""
    return shorten(str(error), _BRIEF, placeholder=" …") or type(error).__name__


def _packed(plain: Any) -> np.ndarray:
    return np.frombuffer(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(plain)), np.uint8)


def _unpacked(numbers: np.ndarray, like: Any) -> Any:
    leaves, treedef = jax.tree.flatten(like)
    need = sum(leaf.nbytes for leaf in leaves)
    if numbers.nbytes != need:
        raise ValueError(f"it holds {numbers.nbytes} bytes of numbers, and this experiment has {need}")
    parts = np.split(np.asarray(numbers), np.cumsum([leaf.nbytes for leaf in leaves])[:-1])
    return jax.tree.unflatten(treedef, [part.view(leaf.dtype).reshape(leaf.shape) for part, leaf in zip(parts, leaves)])


def _sum(plain: Any) -> str:
    """SHA-256 of all numbers, and of the type and shape of each array."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(plain):
        digest.update(f"{leaf.dtype.str}{leaf.shape}".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()


def _plain(leaf: Array) -> np.ndarray:
    """Numbers that belong to no device, so that any number of them can go on: copies, for states are donated."""
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _like(leaf: Array, numbers: np.ndarray) -> Array:
    found = jnp.asarray(numbers)
    return jax.random.wrap_key_data(found, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else found


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
