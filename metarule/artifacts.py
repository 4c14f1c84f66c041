"""What a run leaves on disk.

config.toml       the config as it was given, if it came from a file
resolved.toml     what ran: overrides and defaults written out
environment.json  command, versions and device
metrics.jsonl     one object a meta-step; a number that is not finite is null
checkpoints/      state of the optimiser, to go on from
theta.npz         the learned θ, one array a leaf
theta.json        what its numbers mean
summary.json      what the run ends with
performance.json  scores along the life on held-out tasks
pruned.*          the shorter rule that `metarule.prune` found, as theta.* is kept
evaluations/      what metarule.evaluate found, a folder each time
adaptations/      what metarule.adapt found
figures/          pictures of the above
metarule.*        the lock of whoever works in the directory, and which process that is, or was last
"""

import csv
import io
import json
import math
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import jax
import msgspec
import numpy as np

from metarule.config import ConfigError, decode, read
from metarule.experiment import Experiment, to_tree
from metarule.locks import HOLDER, LOCK, locked
from metarule.types import Theta

__all__ = [
    "ADAPTATIONS",
    "CHECKPOINTS",
    "EVALUATIONS",
    "FIGURES",
    "FORMS",
    "THETA",
    "append_metrics",
    "claimed",
    "csv_text",
    "environment",
    "holds_run",
    "keep_metrics",
    "load_theta",
    "read_experiment",
    "read_json",
    "read_metrics",
    "save_theta",
    "seed_directory",
    "start",
    "write_csv",
    "write_json",
]

CHECKPOINTS = "checkpoints"
FIGURES = "figures"
# What a finished run was tried on later.
EVALUATIONS, ADAPTATIONS = "evaluations", "adaptations"
# What a search for forms is resumed from.
FORMS = "evolve.json"
THETA = "theta.npz"
THETA_FORMAT = 1

_RESOLVED = "resolved.toml"
# What it is called until all of a new run is there, or once an old one is being removed.
_BEGUN = "resolved.toml.partial"
_METRICS = "metrics.jsonl"
_WRITTEN = (
    "config.toml",
    _RESOLVED,
    "environment.json",
    _METRICS,
    CHECKPOINTS,
    THETA,
    "theta.json",
    "summary.json",
    "performance.json",
    "pruned.npz",
    "pruned.json",
    FORMS,
    "front.json",
    EVALUATIONS,
    ADAPTATIONS,
    FIGURES,
)
_PACKAGES = (
    "metarule",
    "jax",
    "jaxlib",
    "optax",
    "chex",
    "msgspec",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "scikit-learn",
)


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other processes out of the directory of a run, which may have to be made.

    Args:
        path: the directory.

    Yields:
        Within it this process alone works there.

    Raises:
        ConfigError: another process does, or files are there that no run wrote.
    """
    _refuse_others(path)
    with locked(path):
        yield


def start(path: Path, experiment: Experiment, given: str | None, overwrite: bool = False) -> None:
    """Lay out the directory of a new run. It holds one once all is there; if stopped before, this may be called again.

    Args:
        path: the directory; it may exist as long as it holds no run.
        experiment: what will run.
        given: text of the config file.
        overwrite: remove what an earlier run left, and nothing else.

    Raises:
        ConfigError: a directory that holds a run, or cannot be written.
    """
    if holds_run(path) and not overwrite:
        raise ConfigError(
            f"run.directory = '{path}': it holds a run; go on with --resume, or start anew with --overwrite"
        )
    _refuse_others(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if holds_run(path) or _is_partial(path):
            _remove_run(path)
        _write(path / _BEGUN, msgspec.toml.encode(to_tree(experiment)).decode())
        if given is not None:
            _write(path / "config.toml", given)
        write_json(path / "environment.json", environment())
        (path / _BEGUN).replace(path / _RESOLVED)
    except (OSError, ValueError) as error:
        raise _unusable(f"run.directory = '{path}'", error) from error


def environment() -> dict[str, Any]:
    """What a result may depend on besides its config: command, versions and device."""
    device = jax.devices()[0]
    return {
        "command": sys.argv,
        "python": sys.version.split()[0],
        "platform": sys.platform,
        "packages": {name: version(name) for name in _PACKAGES},
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "processes": jax.process_count(),
    }


def seed_directory(path: Path, seed: int) -> Path:
    """Where the run of one seed is kept in the directory of several."""
    return path / f"s{seed}"


def holds_run(path: Path) -> bool:
    """Whether a directory is that of a run."""
    try:
        return (path / _RESOLVED).exists()
    except (OSError, ValueError) as error:
        raise _unusable(str(path), error) from error


def read_experiment(path: Path) -> Experiment:
    """What a run directory says that it ran.

    Args:
        path: the directory.

    Returns:
        The experiment.

    Raises:
        ConfigError: a directory that holds no run, or one that this version cannot read.
    """
    if not holds_run(path):
        if _is_partial(path):
            raise ConfigError(f"{path}: the run was stopped before it had begun; start it again with the same command")
        raise ConfigError(f"{path}: this is no run directory: it has no {_RESOLVED}")
    try:
        return decode(read(path / _RESOLVED)[1], Experiment)
    except ConfigError as error:
        raise ConfigError(f"{path / _RESOLVED}: {error}") from error


def append_metrics(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add one line a meta-step."""
    with _naming(path / _METRICS), (path / _METRICS).open("a", encoding="utf-8") as file:
        file.writelines(_json(row) + "\n" for row in rows)
        _flush(file)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Every whole line of the metrics; a last one that was torn is left out."""
    file = path / _METRICS
    if not file.exists():
        return []
    return [_parse(file, line) for line in file.read_bytes().split(b"\n")[:-1]]


def keep_metrics(path: Path, step: int) -> None:
    """Drop what was observed after a meta-step, which a resumed run will observe again.

    Args:
        path: the run directory.
        step: the meta-step that the run goes on from.

    Raises:
        ConfigError: metrics that do not hold each meta-step up to this one.
    """
    rows = read_metrics(path)[:step]
    if [row.get("step") for row in rows] != list(range(1, step + 1)):
        raise ConfigError(
            f"{path / _METRICS}: it does not hold every meta-step from 1 to {step}, where the checkpoint is"
        )
    _write(path / _METRICS, "".join(_json(row) + "\n" for row in rows))


def save_theta(path: Path, theta: Theta, meaning: Mapping[str, Any], name: str = "theta") -> None:
    """Write θ as plain arrays, and beside it what they mean.

    Args:
        path: the run directory.
        theta: θ; leaf number i becomes the array `theta_i` of `theta.npz`.
        meaning: goes into `theta.json`, with the version of the format.
        name: of the two files.

    Raises:
        ConfigError: a directory that cannot be written.
    """
    temporary = path / f"{name}.partial.npz"
    arrays: dict[str, Any] = {f"theta_{number}": np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(theta))}
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
            _flush(file)
        temporary.replace(path / f"{name}.npz")
        write_json(path / f"{name}.json", {"format": THETA_FORMAT} | dict(meaning))
    except OSError as error:
        raise _unusable(str(path), error) from error


def load_theta(path: Path, like: Theta, name: str = "theta") -> Theta:
    """Read θ of a run directory.

    Args:
        path: the run directory.
        like: a θ, or its shapes, as the same rule makes it.
        name: of the two files.

    Returns:
        θ.

    Raises:
        ConfigError: a file that is missing, not a θ file, or that of another rule.
    """
    file = path / f"{name}.npz"
    leaves, treedef = jax.tree.flatten(like)
    meaning = read_json(path / f"{name}.json") or {}
    if meaning.get("format") != THETA_FORMAT:
        raise ConfigError(f"{path / f'{name}.json'}: format {meaning.get('format')}; this version reads {THETA_FORMAT}")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = [arrays[name] for name in sorted(arrays.files, key=lambda name: int(name.removeprefix("theta_")))]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{file}: no θ can be read from it: {error}") from error
    shapes = [leaf.shape for leaf in leaves]
    if [leaf.shape for leaf in found] != shapes:
        raise ConfigError(f"{file}: arrays of shape {[leaf.shape for leaf in found]}; the rule needs {shapes}")
    return jax.tree.unflatten(treedef, [jax.numpy.asarray(leaf) for leaf in found])


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    _write(file, _json(value, indent=2) + "\n")


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows, at least one, as a table with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, at least one, as a table, whole or not at all."""
    _write(file, csv_text(rows))


def read_json(file: Path) -> Any:
    """Read a JSON object; None if there is no such file."""
    return _parse(file, file.read_bytes()) if file.exists() else None


def _refuse_others(path: Path) -> None:
    """Refuse a directory with files that a run would write, but none did."""
    if holds_run(path) or _is_partial(path):
        return
    if taken := [name for name in _WRITTEN if (path / name).exists()]:
        raise ConfigError(f"run.directory = '{path}': it holds no run, but files of the same name: {', '.join(taken)}")


def _is_partial(path: Path) -> bool:
    """Whether a run was stopped there while its directory was laid out, or while an earlier one was removed."""
    return (path / _BEGUN).exists()


def _remove_run(path: Path) -> None:
    """Remove what a run wrote, seed by seed, and nothing that somebody put beside it.

    What it was is known until all of it is gone, so that a removal that was stopped can go on.
    """
    if holds_run(path):
        read_experiment(path)
        (path / _RESOLVED).replace(path / _BEGUN)
    experiment = decode(read(path / _BEGUN)[1], Experiment)
    for seed in range(experiment.seed, experiment.seed + experiment.seeds):
        directory = seed_directory(path, seed)
        if experiment.seeds > 1 and (holds_run(directory) or _is_partial(directory)):
            with locked(directory):
                _remove_run(directory)
                for name in (_BEGUN, LOCK, HOLDER):
                    (directory / name).unlink(missing_ok=True)
            if not any(directory.iterdir()):
                directory.rmdir()
    for name in _WRITTEN:
        target = path / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


def _write(file: Path, text: str) -> None:
    temporary = file.with_name(file.name + ".partial")
    with _naming(file), temporary.open("w", encoding="utf-8") as opened:
        opened.write(text)
        _flush(opened)
    temporary.replace(file)


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Name the file that cannot be written, as the system does not once it is open."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


def _flush(file: IO[Any]) -> None:
    """On to the disk, so that a power cut does not leave a file that is there but empty."""
    file.flush()
    os.fsync(file.fileno())


def _parse(file: Path, text: bytes) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{file}: damaged: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: damaged: '{text[:40].decode()}' is no JSON object")
    return value


def _unusable(what: str, error: OSError | ValueError) -> ConfigError:
    return ConfigError(f"{what}: {getattr(error, 'strerror', None) or error}")


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
