"""Directory of a run.

config.toml       the config as given, if it came from a file
resolved.toml     the experiment with overrides and defaults
environment.json  command, versions, device, precision and kernels; `resumed` lists later processes that differ
metrics.jsonl     one object a meta-step; a number that is not finite is null
metrics.csv       the same as a table, of the logger csv; tensorboard/ and wandb/ are those of the other loggers
checkpoints/      states of the optimiser, from which a run resumes
theta.npz         the learned θ, one array a leaf
theta.json        the meaning of its numbers
best.*            the best θ so far on validation tasks, in the same format
given.*           the θ with which the run was told to begin, in the same format
extended.json     hashes of the experiment before and after it was given more meta-steps
summary.json      results at the end
performance.json  scores along the lifetime on held-out tasks
pruned.*          the shorter rule of `metarule prune`, in the format of theta.*
readback.*        the equation as which `metarule prune` reads a network back, in the same format
evolve.json       generations of a structure search, from which it resumes
front.json        results of a structure search
inference/        parts of an inference, from which it resumes
evaluations/      results of `metarule evaluate`, a folder each
adaptations/      results of `metarule adapt`, a folder each
explanation/      results of `metarule explain`
figures/          figures of the above
report.html       page with all of the above, of `metarule report`
metarule.*        the lock, and the process that holds it or held it last
"""

import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from immutabledict import immutabledict
from msgspec import Struct

from metarule.config.messages import first_line
from metarule.config.toml import ConfigError, check_format, decode, read
from metarule.runs.environment import ENVIRONMENT, check_precision, environment, name_changed_modules
from metarule.runs.experiment import FORMAT, Experiment, to_tree
from metarule.runs.files import convert, read_json, whole_file, write_json, write_text
from metarule.runs.locks import HOLDER, LOCK, holder, locked
from metarule.runs.loggers.csv import TABLE
from metarule.runs.loggers.tensorboard import EVENTS
from metarule.runs.loggers.wandb import FOLDER as WANDB
from metarule.runs.metrics import METRICS
from metarule.runs.theta_files import BEST, GIVEN, THETA

__all__ = ["ADAPTATIONS", "CHECKPOINTS", "EVALUATIONS", "EXPLANATION", "EXTENDED", "FIGURES", "INFERENCE", "PARTIAL"]
__all__ += ["REPORT", "RESOLVED", "SEARCH"]
__all__ += ["check_ownership", "experiment_hash", "extend", "is_extended", "is_run", "locked_run", "read_experiment"]
__all__ += ["seed_directory", "start_run", "timestamped"]

CHECKPOINTS, FIGURES, EVALUATIONS, ADAPTATIONS = "checkpoints", "figures", "evaluations", "adaptations"
SEARCH, INFERENCE, EXPLANATION = "evolve.json", "inference", "explanation"

RESOLVED, EXTENDED, REPORT = "resolved.toml", "extended.json", "report.html"
# Fields of the evaluation on which the reported θ depends if there are validation tasks.
_VALIDATION = ("theta", "monitor_every", "monitor_lifetimes")
# Name of resolved.toml while a new run is laid out, or an old one removed.
PARTIAL = "resolved.toml.partial"
_INPUTS = ("config.toml", RESOLVED, ENVIRONMENT)
_RESULTS = (THETA, "theta.json", "summary.json", "performance.json", SEARCH, "front.json")
_THETAS = tuple(f"{name}{ending}" for name in (BEST, GIVEN, "pruned", "readback") for ending in (".npz", ".json"))
_LOGS = (METRICS, TABLE, EVENTS, WANDB)
_FOLDERS = (CHECKPOINTS, INFERENCE, EVALUATIONS, ADAPTATIONS, EXPLANATION, FIGURES)
_CONTENTS = (*_INPUTS, EXTENDED, REPORT, *_LOGS, *_RESULTS, *_THETAS, *_FOLDERS)


@contextmanager
def locked_run(path: Path) -> Iterator[None]:
    """Lock the directory of a run, which is created if needed.

    Raises:
        ConfigError: another process works there, or it holds files of another origin.
    """
    _refuse_foreign_files(path)
    with locked(path):
        yield


def start_run(
    path: Path,
    experiment: Experiment,
    given: str | None,
    overwrite: bool = False,
    files: Mapping[str, bytes] = immutabledict(),
) -> None:
    """Create the directory of a new run. After an interruption the call can be repeated.

    Args:
        path: the directory.
        experiment: the experiment.
        given: text of the config file; None if there is none.
        overwrite: remove an earlier run, and nothing else.
        files: content of the files of a given θ, by name.

    Raises:
        ConfigError: a directory that holds a run, or cannot be written.
    """
    resolved = _resolved_text(experiment)
    if is_run(path) and not overwrite:
        raise ConfigError(
            f"run.directory = '{path}': it holds a run; go on with --resume, or start anew with --overwrite"
        )
    _refuse_foreign_files(path)
    _refuse_other_seeds(path, experiment)
    try:
        path.mkdir(parents=True, exist_ok=True)
        _remove_run(path)
        write_text(path / PARTIAL, resolved)
        if given is not None:
            write_text(path / "config.toml", given)
        for name, content in files.items():
            with whole_file(path / name) as opened:
                opened.write(content)
        write_json(path / ENVIRONMENT, environment())
        (path / PARTIAL).replace(path / RESOLVED)
    except (OSError, ValueError) as error:
        raise _unusable(f"run.directory = '{path}'", error) from error


def timestamped(parent: Path, suffix: str = "") -> Path:
    """Make up a path in a folder, named by the time with a suffix; a number follows where it exists already."""
    name = time.strftime("%Y-%m-%dT%H-%M-%S") + suffix
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(path for path in map(parent.joinpath, names) if not path.exists())


def seed_directory(path: Path, seed: int) -> Path:
    """Path of the run of one seed in the directory of several."""
    return path / f"s{seed}"


def is_run(path: Path) -> bool:
    """Check whether a directory holds a run.

    Raises:
        ConfigError: a directory that cannot be read, or with links that lead out of it.
    """
    try:
        has_experiment = (path / RESOLVED).exists()
        outward_link = next(_outward_links(path), None) if path.is_dir() else None
    except (OSError, RuntimeError, ValueError) as error:
        raise _unusable(str(path), error) from error
    if outward_link:
        raise ConfigError(f"{outward_link}: this link leads out of the run directory")
    return has_experiment


def read_experiment(path: Path) -> Experiment:
    """Read the experiment of a run.

    Raises:
        ConfigError: no run, one of another format, or one of another precision.
    """
    if not is_run(path):
        if _is_partial(path):
            raise ConfigError(f"{path}: the run was stopped before it had begun; start it again with the same command")
        raise ConfigError(f"{path}: this is no run directory: it has no {RESOLVED}")
    experiment = _decode_experiment(path / RESOLVED)
    recorded = read_json(path / ENVIRONMENT) or {}
    check_precision(path, recorded.get("precision"))
    name_changed_modules(path, recorded.get("modules"))
    return experiment


def experiment_hash(path: Path) -> str:
    """SHA-256 of those fields of a run's experiment on which θ depends, as they stand in its directory."""
    found = _hash_of(path, read(path / RESOLVED)[1])
    extended = _extensions(path)
    return extended.first if found in extended.later else found


def extend(path: Path, experiment: Experiment) -> None:
    """Give a run more meta-steps, of which the first are those that it has taken.

    Args:
        path: directory of the run.
        experiment: its experiment with more meta-steps.
    """
    text, first = _resolved_text(experiment), experiment_hash(path)
    later = dict.fromkeys([*_extensions(path).later, _hash_of(path, tomllib.loads(text))])
    # First, so that a process that is killed between the two leaves the run as it was.
    write_json(path / EXTENDED, {"first": first, "later": list(later)})
    write_text(path / RESOLVED, text)


class _Extensions(Struct):
    """Hash of an experiment, and those after it was given more meta-steps."""

    first: str = ""
    later: list[str] = []


def _extensions(path: Path) -> _Extensions:
    found: _Extensions = convert(path / EXTENDED, read_json(path / EXTENDED) or {}, _Extensions)
    return found


def is_extended(path: Path) -> bool:
    """True if a run was given more meta-steps."""
    return (path / EXTENDED).exists()


def check_ownership(path: Path, owner: str) -> None:
    """Check that a run directory still exists and belongs to this process, the `holder` of its lock at first.

    Raises:
        OSError: it was removed or moved, or another process works there.
    """
    if not (path / RESOLVED).exists():
        raise OSError(errno.ENOENT, "it was removed or moved while the run went on", str(path))
    if (current := holder(path)) != owner:
        raise OSError(errno.EBUSY, f"another process works in it{current}", str(path))


def _resolved_text(experiment: Experiment) -> str:
    return msgspec.toml.encode({"format": FORMAT} | to_tree(experiment)).decode()


def _hash_of(path: Path, tree: Mapping[str, Any]) -> str:
    """Hash of the fields of an experiment on which θ depends, and of the θ with which it begins."""
    fields = {name: tree.get(name) for name in ("seed", "rule", "circuit", "tasks", "inner_loop", "optimizer")}
    if _is_validated(tree):
        fields["evaluation"] = {name: tree.get("evaluation", {}).get(name) for name in _VALIDATION}
    if (given := path / f"{GIVEN}.npz").exists():
        fields["given"] = hashlib.sha256(given.read_bytes()).hexdigest()
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()


def _is_validated(tree: Mapping[str, Any]) -> bool:
    """`Experiment.is_validated` of nested tables."""
    optimizer = tree.get("optimizer", {})
    patience = optimizer.get("then", optimizer).get("patience", 0)
    return bool(patience) or tree.get("evaluation", {}).get("theta") == "best"


def _outward_links(path: Path) -> Iterator[Path]:
    """Links among the files of a run that lead out of its directory; other files are ignored."""
    home = path.resolve()
    for top in path.iterdir():
        if top.name in (*_CONTENTS, LOCK, HOLDER) or ".partial" in top.name or re.fullmatch(r"s\d+", top.name):
            # os.walk skips what another process renames and removes meanwhile.
            inner = os.walk(top) if top.name in _CONTENTS and not top.is_symlink() else ()
            below = (Path(folder, name) for folder, folders, files in inner for name in (*folders, *files))
            links = (link for link in (top, *below) if link.is_symlink())
            yield from (link for link in links if not link.resolve().is_relative_to(home))


def _decode_experiment(file: Path) -> Experiment:
    tree = read(file)[1]
    check_format(f"{file}: this run directory", tree.pop("format", None), FORMAT, "train again")
    try:
        return decode(tree, Experiment)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def _refuse_foreign_files(path: Path) -> None:
    """Refuse a directory without a run that holds files with the names of a run's files."""
    if is_run(path) or _is_partial(path):
        return
    if taken := [name for name in _CONTENTS if (path / name).exists()]:
        raise ConfigError(f"run.directory = '{path}': it holds no run, but files of the same name: {', '.join(taken)}")


def _refuse_other_seeds(path: Path, experiment: Experiment) -> None:
    """Refuse a directory in which the place of a seed holds a run that is not part of this one."""
    seeds = _seeds(experiment)
    earlier = _experiment_at(path) if seeds else None
    for seed in seeds:
        directory = seed_directory(path, seed)
        part = _experiment_at(directory)
        if part is not None and (earlier is None or part != earlier.of_seed(seed)):
            raise ConfigError(f"{directory}: it holds a run of its own, where that of seed {seed} would be")


def _seeds(experiment: Experiment) -> range:
    """Seeds whose runs have a directory each; a single seed has none."""
    return experiment.all_seeds if experiment.seeds > 1 else range(0)


def _experiment_at(path: Path) -> Experiment | None:
    """Experiment of a run, or of one that is partly laid out or removed."""
    if is_run(path):
        return _decode_experiment(path / RESOLVED)
    return _decode_experiment(path / PARTIAL) if _is_partial(path) else None


def _is_partial(path: Path) -> bool:
    return (path / PARTIAL).exists()


def _remove_run(path: Path) -> None:
    """Remove the files of a run and of its seeds, and no others.

    Its experiment is removed last, so that an interrupted removal can go on.
    """
    experiment = _experiment_at(path)
    if experiment is None:
        return
    if is_run(path):
        (path / RESOLVED).replace(path / PARTIAL)
    for seed in _seeds(experiment):
        directory = seed_directory(path, seed)
        if _experiment_at(directory) == experiment.of_seed(seed):
            with locked(directory):
                _remove_run(directory)
                for name in (PARTIAL, LOCK, HOLDER):
                    (directory / name).unlink(missing_ok=True)
            if not any(directory.iterdir()):
                directory.rmdir()
    for name in _CONTENTS:
        target = path / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


def _unusable(what: str, error: Exception) -> ConfigError:
    return ConfigError(f"{what}: {first_line(error)}")
