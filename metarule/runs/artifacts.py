"""What a run leaves on disk.

config.toml       the config as it was given, if it came from a file
resolved.toml     what ran: overrides and defaults written out
environment.json  command, versions, device and precision; `resumed` has those of later processes that had others
metrics.jsonl     one object a meta-step; a number that is not finite is null
checkpoints/      state of the optimiser, to go on from
theta.npz         the learned θ, one array a leaf
theta.json        what its numbers mean
summary.json      what the run ends with
performance.json  scores along the lifetime on held-out tasks
pruned.*          the shorter rule that `metarule.prune` found, as theta.* is kept
evaluations/      what metarule.evaluate found, a folder each time
adaptations/      what metarule.adapt found
figures/          pictures of the above
metarule.*        the lock of whoever works in the directory, and which process that is, or was last
"""

import csv
import errno
import hashlib
import io
import itertools
import json
import math
import os
import re
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import jax
import msgspec
import numpy as np

from metarule.config.schema import leaves
from metarule.config.toml import ConfigError, check_file, check_format, decode, read, read_bytes
from metarule.runs.environment import check_precision, environment, with_this
from metarule.runs.experiment import FORMAT, Experiment, to_tree
from metarule.runs.locks import HOLDER, LOCK, holder, locked
from metarule.runs.stopping import Diverged
from metarule.types import Theta

__all__ = [
    "ADAPTATIONS",
    "CHECKPOINTS",
    "EVALUATIONS",
    "FIGURES",
    "FORMS",
    "METRICS",
    "THETA",
    "append_metrics",
    "check_place",
    "claimed",
    "csv_text",
    "environment",
    "holds_run",
    "join_environment",
    "keep_metrics",
    "load_theta",
    "named_by_time",
    "naming",
    "read_experiment",
    "read_json",
    "read_metrics",
    "save_theta",
    "seed_directory",
    "start",
    "what_learns",
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
# Those of format 1 say the names of the numbers alone, if anything.
THETA_FORMAT = 2

# Bytes beyond which a file is none of ours; what a leaf of θ takes in its archive besides its numbers.
_LARGEST_JSON, _LARGEST_METRICS, _ABOUT_LEAF = 2**26, 2**30, 2**10

_RESOLVED, _ENVIRONMENT = "resolved.toml", "environment.json"
METRICS = "metrics.jsonl"
# What it is called until all of a new run is there, or once an old one is being removed.
_BEGUN = "resolved.toml.partial"
_WRITTEN = (
    "config.toml",
    _RESOLVED,
    _ENVIRONMENT,
    METRICS,
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
    resolved = msgspec.toml.encode({"format": FORMAT} | to_tree(experiment)).decode()
    if holds_run(path) and not overwrite:
        raise ConfigError(
            f"run.directory = '{path}': it holds a run; go on with --resume, or start anew with --overwrite"
        )
    _refuse_others(path)
    _refuse_seeds(path, experiment)
    try:
        path.mkdir(parents=True, exist_ok=True)
        _remove_run(path)
        _write(path / _BEGUN, resolved)
        if given is not None:
            _write(path / "config.toml", given)
        write_json(path / _ENVIRONMENT, environment())
        (path / _BEGUN).replace(path / _RESOLVED)
    except (OSError, ValueError) as error:
        raise _unusable(f"run.directory = '{path}'", error) from error


def join_environment(path: Path) -> None:
    """Add this process to those that a run took, unless one alike is among them.

    Args:
        path: directory of the run, or of what else is gone on with.
    """
    known = read_json(path / _ENVIRONMENT)
    if (joined := with_this(known)) != known:
        write_json(path / _ENVIRONMENT, joined)


def named_by_time(parent: Path, suffix: str = "") -> Path:
    """A directory that is not there, to be named by the time.

    Args:
        parent: where it will be.
        suffix: what its name ends with.

    Returns:
        Its path, with a number at its end where another was named alike: clocks are set back, and commands begin within
        a second.
    """
    name = time.strftime("%Y-%m-%dT%H-%M-%S") + suffix
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(path for path in map(parent.joinpath, names) if not path.exists())


def seed_directory(path: Path, seed: int) -> Path:
    """Where the run of one seed is kept in the directory of several."""
    return path / f"s{seed}"


def holds_run(path: Path) -> bool:
    """Whether a directory is that of a run.

    Args:
        path: the directory.

    Returns:
        The answer.

    Raises:
        ConfigError: a directory that cannot be looked at, or one in which what a run reads and writes lies elsewhere.
    """
    try:
        holds = (path / _RESOLVED).exists()
        if path.is_dir() and (link := next(_leading_out(path), None)):
            raise ConfigError(f"{link}: this link leads out of the run directory")
        return holds
    except (OSError, RuntimeError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else _unusable(str(path), error) from error


def read_experiment(path: Path) -> Experiment:
    """What a run directory says that it ran.

    Args:
        path: the directory.

    Returns:
        The experiment.

    Raises:
        ConfigError: a directory that holds no run, one that this version cannot read, or one of another precision.
    """
    if not holds_run(path):
        if _is_partial(path):
            raise ConfigError(f"{path}: the run was stopped before it had begun; start it again with the same command")
        raise ConfigError(f"{path}: this is no run directory: it has no {_RESOLVED}")
    check_precision(path, (read_json(path / _ENVIRONMENT) or {}).get("precision"))
    return _what_ran(path / _RESOLVED)


def what_learns(path: Path) -> str:
    """SHA-256 of what a run directory says of all that θ depends on, as it stands there."""
    tree = read(path / _RESOLVED)[1]
    said = {name: tree.get(name) for name in ("seed", "rule", "circuit", "tasks", "inner_loop", "optimizer")}
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def check_place(path: Path, before: str) -> None:
    """Stop a run whose directory is no longer its own, whoever took it away.

    Args:
        path: the run directory.
        before: who worked there when this process began, as `locks.holder` says.

    Raises:
        OSError: it was removed or moved, or its lock was, and another process works there.
    """
    if not (path / _RESOLVED).exists():
        raise OSError(errno.ENOENT, "it was removed or moved while the run went on", str(path))
    if (now := holder(path)) != before:
        raise OSError(errno.EBUSY, f"another process works in it{now}", str(path))


def append_metrics(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add one line a meta-step."""
    with naming(path / METRICS), (path / METRICS).open("a", encoding="utf-8") as file:
        file.writelines(_json(row) + "\n" for row in rows)
        _flush(file)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Every whole line of the metrics; a last one that was torn is left out."""
    file = path / METRICS
    if not file.exists():
        return []
    return [_parse(file, line) for line in read_bytes(file, _LARGEST_METRICS).split(b"\n")[:-1]]


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
            f"{path / METRICS}: it does not hold every meta-step from 1 to {step}, where the checkpoint is"
        )
    _write(path / METRICS, "".join(_json(row) + "\n" for row in rows))


def save_theta(path: Path, theta: Theta, meaning: Mapping[str, Any], name: str = "theta") -> None:
    """Write θ as plain arrays, and beside it what they mean.

    Args:
        path: the run directory.
        theta: θ; leaf number i becomes the array `theta_i` of `theta.npz`.
        meaning: goes into `theta.json`, with the version of the format.
        name: of the two files.

    Raises:
        OSError: a directory that cannot be written.
        Diverged: a θ that is not finite, which is of no use to anybody.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(theta)):
        raise Diverged(f"θ is not finite; it is not written to {path / f'{name}.npz'}")
    temporary = path / f"{name}.partial.npz"
    arrays: dict[str, Any] = {f"theta_{number}": np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(theta))}
    with naming(path / f"{name}.npz"):
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
            _flush(file)
        temporary.replace(path / f"{name}.npz")
    write_json(path / f"{name}.json", {"format": THETA_FORMAT} | dict(meaning))


def load_theta(path: Path, like: Theta, meaning: Mapping[str, Any], name: str = "theta") -> Theta:
    """Read θ of a run directory.

    Args:
        path: the run directory.
        like: a θ, or its shapes, as the same rule makes it.
        meaning: what its file has to say, as from `metarule.runs.training.meaning`; nothing where it is empty.
        name: of the two files.

    Returns:
        θ.

    Raises:
        ConfigError: a file that is missing, not a θ file, that of another rule or of other terms, or not finite.
    """
    file = path / f"{name}.npz"
    leaves, treedef = jax.tree.flatten(like)
    _check_meaning(path / f"{name}.json", meaning)
    shapes = [leaf.shape for leaf in leaves]
    try:
        found = _read_arrays(file, shapes)
    except ConfigError:
        raise
    except Exception as error:  # damaged archives raise many kinds
        raise ConfigError(f"{file}: no θ can be read from it: {error}") from error
    if not all(np.isfinite(leaf).all() for leaf in found):
        raise ConfigError(f"{file}: it holds numbers that are not finite")
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
    return _parse(file, read_bytes(file, _LARGEST_JSON)) if os.path.lexists(file) else None


def _check_meaning(file: Path, meaning: Mapping[str, Any]) -> None:
    """Refuse a θ whose file says that its numbers mean something else."""
    said = read_json(file) or {}
    check_format(f"{file}: this θ", said.get("format"), THETA_FORMAT)
    if said.get("format", 1) < THETA_FORMAT:
        said = {"names": list(said["theta"])} if isinstance(said.get("theta"), dict) else {}
        meaning = {part: value for part, value in meaning.items() if part in said}
    needed = dict(leaves(_plain(meaning)))
    found = dict(leaves({part: said.get(part) for part in meaning}))
    for place in needed | found:
        if found.get(place) != needed.get(place):
            there, here = (repr(one[place]) if place in one else "nothing" for one in (found, needed))
            raise ConfigError(f"{file}: this θ is of another rule: {place} is {there} there; the rule needs {here}")


def _read_arrays(file: Path, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """The arrays of a θ file: what each claims to be is looked at before any memory is taken for it."""
    check_file(file, sum(8 * math.prod(shape) + _ABOUT_LEAF for shape in shapes) + _ABOUT_LEAF)
    with zipfile.ZipFile(file) as archive:
        names = sorted(archive.namelist(), key=lambda name: int(re.sub(r"^theta_|\.npy$", "", name)))
        claimed = [_claimed(archive, name) for name in names]
        if claimed != list(shapes):
            raise ConfigError(f"{file}: arrays of shape {claimed}; the rule needs {list(shapes)}")
        with np.load(file, allow_pickle=False) as arrays:
            return [arrays[name.removesuffix(".npy")] for name in names]


def _claimed(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """Shape that an array of real numbers says it has."""
    with archive.open(name) as opened:
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, kind = read_header[np.lib.format.read_magic(opened)](opened)
    if kind not in (np.float32, np.float64):
        raise ValueError(f"{name} holds {kind}")
    return shape


def _leading_out(path: Path) -> Iterator[Path]:
    """Links of a run that lead out of its directory; what somebody put beside its files is left alone."""
    home = path.resolve()
    for top in path.iterdir():
        if top.name in (*_WRITTEN, LOCK, HOLDER) or ".partial" in top.name or re.fullmatch(r"s\d+", top.name):
            # What Orbax renames and removes meanwhile is passed over.
            inner = os.walk(top) if top.name in _WRITTEN and not top.is_symlink() else ()
            below = (Path(folder, name) for folder, folders, files in inner for name in (*folders, *files))
            yield from (one for one in (top, *below) if one.is_symlink() and not one.resolve().is_relative_to(home))


def _what_ran(file: Path) -> Experiment:
    """The experiment that a file of a run directory tells of."""
    tree = read(file)[1]
    try:
        check_format("this run directory", tree.pop("format", None), FORMAT)
        return decode(tree, Experiment)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def _refuse_others(path: Path) -> None:
    """Refuse a directory with files that a run would write, but none did."""
    if holds_run(path) or _is_partial(path):
        return
    if taken := [name for name in _WRITTEN if (path / name).exists()]:
        raise ConfigError(f"run.directory = '{path}': it holds no run, but files of the same name: {', '.join(taken)}")


def _refuse_seeds(path: Path, experiment: Experiment) -> None:
    """Refuse a directory in which the run of a seed would meet one that was not begun as part of this."""
    seeds = _seeds(experiment)
    before = _there(path) if seeds else None
    for seed in seeds:
        directory = seed_directory(path, seed)
        there = _there(directory)
        if there is not None and (before is None or there != before.of_seed(seed)):
            raise ConfigError(f"{directory}: it holds a run of its own, where that of seed {seed} would be")


def _seeds(experiment: Experiment) -> range:
    """Seeds whose runs have a directory each; that of a single one is the run's."""
    return range(experiment.seed, experiment.seed + (experiment.seeds if experiment.seeds > 1 else 0))


def _there(path: Path) -> Experiment | None:
    """What ran in a directory, or was about to."""
    if holds_run(path):
        return _what_ran(path / _RESOLVED)
    return _what_ran(path / _BEGUN) if _is_partial(path) else None


def _is_partial(path: Path) -> bool:
    """Whether a run was stopped there while its directory was laid out, or while an earlier one was removed."""
    return (path / _BEGUN).exists()


def _remove_run(path: Path) -> None:
    """Remove what a run wrote, seed by seed, and nothing that somebody put beside it.

    What it was is known until all of it is gone, so that a removal that was stopped can go on.
    """
    experiment = _there(path)
    if experiment is None:
        return
    if holds_run(path):
        (path / _RESOLVED).replace(path / _BEGUN)
    for seed in _seeds(experiment):
        directory = seed_directory(path, seed)
        if _there(directory) == experiment.of_seed(seed):
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
    with naming(file), temporary.open("w", encoding="utf-8") as opened:
        opened.write(text)
        _flush(opened)
    temporary.replace(file)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Name the file that cannot be written, as the system does not once it is open.

    Args:
        file: what is written within the block.

    Raises:
        OSError: with the name of the file.
    """
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
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: damaged: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: damaged: '{text[:40].decode(errors='replace')}' is no JSON object")
    return value


def _unusable(what: str, error: Exception) -> ConfigError:
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
