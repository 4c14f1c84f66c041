"""Checkpoints of a run, stored by Orbax, with a checksum in their metadata, so that damage is detected."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
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

_NUMBERS, _CHECKSUM, _ORIGIN = "numbers", "sha256", "origin"


class Checkpoints:
    """The last checkpoints of a run; at the end of a `with` block all are on disk.

    Args:
        path: directory of the checkpoints.
        origin: hash of the experiment; checkpoints of another one are refused. Empty to accept any.
    """

    def __init__(self, path: Path, origin: str = "") -> None:
        import orbax.checkpoint as ocp  # lazy, because the import takes three seconds

        logging.set_verbosity(logging.FATAL)  # errors are raised as well
        self._arguments, self._origin = ocp.args, origin
        process = jax.process_index()  # each process of a run has a directory of its own
        single = ocp.options.MultiprocessingOptions(process, {process}, barrier_sync_key_prefix=str(process))
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,  # the last one may be damaged
            create=False,
            enable_async_checkpointing=is_single_process(),  # otherwise Orbax waits for the other processes
            multiprocessing_options=single,
        )
        path.mkdir(parents=True, exist_ok=True)
        handler = ocp.StandardCheckpointHandler()  # otherwise Orbax infers it from the last one, which may be damaged
        self._manager = ocp.CheckpointManager(path.absolute(), options=options, item_handlers=handler)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._manager.close()
        except Exception as failure:
            if error is None:  # otherwise that error ends the run
                raise self._write_error(failure) from failure

    def save(self, step: int, state: Any) -> None:
        """Save the state after a number of meta-steps, unless one of this step or later exists.

        Raises:
            OSError: this checkpoint, or the previous one, could not be written.
        """
        if step <= (self._manager.latest_step() or 0):
            return
        host = jax.tree.map(_to_host, state)
        try:
            # One array of bytes: where one of many arrays fails, Orbax prints the stack traces of the others.
            numbers = np.frombuffer(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(host)), np.uint8)
            metadata = {_CHECKSUM: _checksum(host)} | ({_ORIGIN: self._origin} if self._origin else {})
            self._manager.save(step, args=self._arguments.StandardSave({_NUMBERS: numbers}), custom_metadata=metadata)
        except Exception as failure:  # Orbax raises many kinds
            raise self._write_error(failure) from failure

    def restore(self, like: Callable[[int], Any]) -> tuple[int, Any]:
        """Restore the last checkpoint that is not damaged; damaged later ones are renamed with a warning.

        Args:
            like: from a number of meta-steps to a state of the same structure; `like(0)` is the initial state.

        Returns:
            (meta-steps taken, state after them).

        Raises:
            ConfigError: all checkpoints are damaged, or one is of another experiment.
            OSError: a checkpoint that cannot be read for now; it is left unchanged.
        """
        damaged = dict[int, str]()
        for step in sorted(self._manager.all_steps(), reverse=True):
            template = like(step)
            try:
                restored = self._read(step, jax.tree.map(_to_host, template))
            except Exception as error:  # Orbax raises many kinds, with long messages
                transient = isinstance(error, (MemoryError, OSError)) and not isinstance(error, FileNotFoundError)
                if transient or isinstance(error, ConfigError):
                    raise
                damaged[step] = f"{self._path(step)}: {_shorten(error)}"
                continue
            for number, reason in damaged.items():
                self._set_aside(number, f"{reason}; going on from meta-step {step}")
            if damaged:
                self._manager.reload()
            return step, jax.tree.map(_to_device, template, restored)
        if damaged:
            reasons = "; ".join(damaged.values())
            raise ConfigError(f"no state can be restored: {reasons}; start anew with --overwrite")
        return 0, like(0)

    def _read(self, step: int, like: Any) -> Any:
        path = self._path(step)
        for _ in os.walk(path, onerror=_raise):  # Orbax takes unreadable files for damaged ones
            pass
        metadata = self._manager.metadata(step).custom_metadata or {}
        if self._origin and metadata.get(_ORIGIN, self._origin) != self._origin:
            raise ConfigError(
                f"{path}: this checkpoint is of another experiment: fields on which θ depends were changed since; "
                "change them back, or start anew with --overwrite"
            )
        stored = self._manager.restore(step, args=self._arguments.StandardRestore())
        restored = _unpack(stored[_NUMBERS], like)
        if metadata.get(_CHECKSUM) != _checksum(restored):
            raise ValueError("its numbers do not have the checksum in its metadata")
        return restored

    def _set_aside(self, step: int, reason: str) -> None:
        """Rename a damaged checkpoint, because its step is computed again."""
        path = self._path(step)
        aside = path.with_name(f"damaged-{step}")
        print(f"damaged, and renamed to {aside.name}: {reason}", file=sys.stderr)
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)

    def _path(self, step: int) -> Path:
        return Path(self._manager.directory / str(step))

    def _write_error(self, error: Exception) -> OSError:
        return OSError(f"{self._manager.directory}: a checkpoint could not be written: {_shorten(error)}")


def _raise(error: OSError) -> NoReturn:
    raise error


def _shorten(error: Exception) -> str:
    """Beginning of an error message, which may be pages long."""
    return shorten(str(error), 200, placeholder=" …") or type(error).__name__


def _unpack(numbers: np.ndarray, like: Any) -> Any:
    leaves, treedef = jax.tree.flatten(like)
    size = sum(leaf.nbytes for leaf in leaves)
    if numbers.nbytes != size:
        raise ValueError(f"it holds {numbers.nbytes} bytes of numbers, and this experiment has {size}")
    parts = np.split(np.asarray(numbers), np.cumsum([leaf.nbytes for leaf in leaves])[:-1])
    return jax.tree.unflatten(treedef, [part.view(leaf.dtype).reshape(leaf.shape) for part, leaf in zip(parts, leaves)])


def _checksum(arrays: Any) -> str:
    """SHA-256 of all numbers, and of the type and shape of each array."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(arrays):
        digest.update(f"{leaf.dtype.str}{leaf.shape}".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()


def _to_host(leaf: Array) -> np.ndarray:
    """Copy to the host: the copy fits any number of devices, and states are donated."""
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _to_device(like: Array, numbers: np.ndarray) -> Array:
    array = jnp.asarray(numbers)
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like)) if _is_key(like) else array


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
