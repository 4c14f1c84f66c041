"""Checkpoints of a run: files `<meta-steps>.npz` with one array a leaf, and a checksum by which damage is detected."""

import errno
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from metarule.config.arrays import Declared, declared_arrays
from metarule.config.toml import ConfigError
from metarule.runs.files import named_errors, whole_file

__all__ = ["Checkpoints"]

# Checkpoints that are kept: the last one may be damaged.
_KEPT = 2
_METADATA, _CHECKSUM, _ORIGIN = "metadata", "sha256", "origin"
# Bytes of the largest metadata.
_LARGEST = 2**12


class Checkpoints:
    """The last checkpoints of a run, each written whole or not at all.

    Args:
        path: their directory.
        origin: hash of the experiment; checkpoints of another one are refused. Empty to accept any.
    """

    def __init__(self, path: Path, origin: str = "") -> None:
        with named_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        self._path, self._origin = path, origin

    def save(self, step: int, state: Any) -> None:
        """Save the state after a number of meta-steps, unless one of this step or later exists.

        Raises:
            OSError: it could not be written.
        """
        steps = self._steps()
        if step <= max(steps, default=0):
            return
        leaves = [_to_host(leaf) for leaf in jax.tree.leaves(state)]
        metadata = {_CHECKSUM: _checksum(leaves)} | ({_ORIGIN: self._origin} if self._origin else {})
        arrays: dict[str, Any] = {_METADATA: np.frombuffer(json.dumps(metadata).encode(), np.uint8)}
        arrays |= {_name(number): leaf for number, leaf in enumerate(leaves)}
        with whole_file(self._file(step)) as opened:
            np.savez(opened, **arrays)
        for old in sorted(steps)[: len(steps) + 1 - _KEPT]:
            self._file(old).unlink()

    def restore(self, like: Callable[[int], Any]) -> tuple[int, Any]:
        """Restore the last checkpoint that is not damaged; damaged later ones are renamed with a warning.

        Args:
            like: from a number of meta-steps to a state of the same structure; `like(0)` is the initial state.

        Returns:
            (meta-steps taken, state after them).

        Raises:
            ConfigError: all checkpoints are damaged, or one is of another experiment or an earlier version.
            OSError: a checkpoint that cannot be read for now; it is left unchanged.
        """
        damaged = dict[int, str]()
        for step in sorted(self._steps(), reverse=True):
            template = like(step)
            try:
                state = self._read(self._file(step), template)
            except Exception as error:  # damaged archives raise many kinds
                if isinstance(error, (MemoryError, ConfigError)) or _is_transient(error):
                    raise
                damaged[step] = f"{self._file(step)}: {shorten(str(error), 200, placeholder=' …')}"
                continue
            for number, reason in damaged.items():
                self._set_aside(self._file(number), f"{reason}; going on from meta-step {step}")
            return step, state
        if damaged:
            reasons = "; ".join(damaged.values())
            raise ConfigError(f"no state can be restored: {reasons}; start anew with --overwrite")
        if earlier := [one for one in self._path.iterdir() if one.is_dir() and one.name.isdigit()]:
            raise ConfigError(
                f"{earlier[0]}: this checkpoint is of an earlier version of metarule; start anew with --overwrite, or "
                "use that version"
            )
        return 0, like(0)

    def _steps(self) -> list[int]:
        return [int(file.stem) for file in self._path.glob("*.npz") if file.stem.isdecimal()]

    def _file(self, step: int) -> Path:
        return self._path / f"{step}.npz"

    def _read(self, file: Path, like: Any) -> Any:
        templates, treedef = jax.tree.flatten(like)
        expected = {_name(number): _shape_of(leaf) for number, leaf in enumerate(templates)}
        with named_errors(file):
            declared = declared_arrays(file)
            shape, kind = declared.pop(_METADATA)
            if kind != np.uint8 or len(shape) != 1 or shape[0] > _LARGEST:
                raise ValueError(f"its metadata have shape {shape} of {kind}")
            with np.load(file, allow_pickle=False) as arrays:
                metadata = json.loads(arrays[_METADATA].tobytes())
                self._check_origin(file, metadata)
                if declared != expected:  # before memory is taken
                    raise ValueError("it holds other arrays than the state of this experiment has")
                leaves = [arrays[name] for name in expected]
        if metadata.get(_CHECKSUM) != _checksum(leaves):
            raise ValueError("its numbers do not have the checksum in its metadata")
        return jax.tree.unflatten(treedef, list(map(_to_device, templates, leaves)))

    def _check_origin(self, file: Path, metadata: dict[str, Any]) -> None:
        if self._origin and metadata.get(_ORIGIN, self._origin) != self._origin:
            raise ConfigError(
                f"{file}: this checkpoint is of another experiment: fields on which θ depends were changed since; "
                "change them back, or start anew with --overwrite"
            )

    def _set_aside(self, file: Path, reason: str) -> None:
        """Rename a damaged checkpoint, because its step is computed again."""
        aside = file.with_name(f"damaged-{file.name}")
        print(f"damaged, and renamed to {aside.name}: {reason}", file=sys.stderr)
        file.replace(aside)


def _is_transient(error: Exception) -> bool:
    """True for an error of the disk, which is none of the file: damage leads to positions that do not exist."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def _name(number: int) -> str:
    return f"leaf_{number}"


def _checksum(leaves: list[np.ndarray]) -> str:
    """SHA-256 of all numbers, and of the type and shape of each array."""
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(f"{leaf.dtype.str}{leaf.shape}".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()


def _shape_of(leaf: Array) -> Declared:
    host = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return host.shape, _stored(np.dtype(host.dtype))


def _stored(kind: np.dtype[Any]) -> np.dtype[Any]:
    """Type under which numbers are stored: that of their bits, for those that numpy does not know, such as bfloat16."""
    return np.dtype(f"u{kind.itemsize}") if kind.kind == "V" else kind


def _to_host(leaf: Array) -> np.ndarray:
    """Copy to the host: the copy fits any number of devices."""
    array = np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return array.view(_stored(array.dtype))


def _to_device(like: Array, numbers: np.ndarray) -> Array:
    array = jnp.asarray(numbers if _is_key(like) else numbers.view(like.dtype))
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like)) if _is_key(like) else array


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
