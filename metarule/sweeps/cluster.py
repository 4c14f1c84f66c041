"""Workers of a sweep on a cluster: jobs of submitit that run the same sweep and share its cells."""

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple
from warnings import catch_warnings, simplefilter

from metarule.config.messages import first_line
from metarule.config.toml import ConfigError
from metarule.runs.stopping import StopRequest
from metarule.runs.sweep_files import FAILED
from metarule.sweeps.work import POLL, progress

__all__ = ["LOGS", "Kind", "Workers", "check_cluster", "start", "watch"]

LOGS = "cluster"  # folder of a sweep
Kind = Literal["slurm", "local"]

# Minutes of a worker: a day, because submitit would end it after two or five.
_DEFAULTS = {"name": "metarule", "timeout_min": 1440}
# A worker is one task on one host.
_OWN = ("nodes", "tasks_per_node")
# Seconds in which workers end after the last cell is settled, or after they are cancelled.
_GRACE = 20


class Workers(NamedTuple):
    """Submitted workers.

    Attributes:
        kind: kind of the cluster.
        jobs: one job of submitit a worker.
    """

    kind: Kind
    jobs: Sequence[Any]

    @property
    def ids(self) -> list[str]:
        """Number of each job; on the local machine that of its process."""
        return [str(job.job_id) for job in self.jobs]


def check_cluster(kind: Kind, options: Mapping[str, Any]) -> None:
    """Check what workers need, before anything is written.

    Args:
        kind: kind of the cluster.
        options: parameters of submitit.

    Raises:
        ConfigError: submitit or SLURM is missing, or submitit does not accept a parameter.
    """
    if find_spec("submitit") is None:
        raise ConfigError(f"cluster = '{kind}': submitit is missing; install it with: pip install 'metarule[cluster]'")
    if kind == "slurm" and shutil.which("sbatch") is None:
        raise ConfigError("cluster = 'slurm': there is no program sbatch on this host; allowed here: local")
    for name in set(_OWN) & set(options):
        raise ConfigError(f"cluster_options.{name} = {options[name]!r}: a worker is one task; set --workers instead")
    with TemporaryDirectory(prefix="metarule-") as folder:
        _executor(kind, Path(folder), options)


def start(
    kind: Kind,
    directory: Path,
    count: int,
    options: Mapping[str, Any],
    command: Callable[[list[str]], int],
    words: list[str],
) -> Workers:
    """Submit workers.

    Args:
        kind: kind of the cluster.
        directory: directory of the sweep; its folder `cluster` holds the logs.
        count: number of workers.
        options: parameters of submitit.
        command: function that each worker calls, and that returns an exit status.
        words: its argument.

    Returns:
        The workers.

    Raises:
        ConfigError: the cluster does not accept them.
    """
    executor = _executor(kind, directory / LOGS, options)
    try:
        with _errors_to(directory / LOGS / "submitit.log") if kind == "local" else nullcontext():
            return Workers(kind, executor.map_array(_Worker(command), [words] * count))
    except Exception as error:  # of many kinds
        raise ConfigError(f"cluster = '{kind}': the workers are not accepted: {first_line(error)}") from error


def watch(workers: Workers, folders: Collection[Path], stop: StopRequest) -> list[str]:
    """Wait until all cells are settled, or no worker is left. Local workers end with this process.

    Args:
        workers: the workers.
        folders: folders of the cells.
        stop: request to stop waiting.

    Returns:
        One line for each worker that failed; those of SLURM that had not begun are cancelled, and have not failed.

    Raises:
        Stopped: on request.
    """
    try:
        _wait(workers, folders, stop)
    except BaseException:
        if workers.kind == "local":
            _cancel(workers.jobs)
            _await_end(workers.jobs)
        raise
    ended = [job.done() for job in workers.jobs]
    _cancel([job for job, over in zip(workers.jobs, ended) if not over])
    # The failure of a cell, which is reported, is the status of all workers that end after it.
    usual = {0, 1} if any((folder / FAILED).exists() for folder in folders) else {0}
    lines = [_failure(job, usual) if over else "" for job, over in zip(workers.jobs, ended)]
    return [f"worker {number} failed: {line}" for number, line in enumerate(lines) if line]


@dataclass(frozen=True)
class _Worker:
    """What a worker runs; when its time is over, it is submitted again, and goes on from the last checkpoint."""

    command: Callable[[list[str]], int]

    def __call__(self, words: list[str]) -> int:
        return self.command(words)

    def checkpoint(self, words: list[str]) -> Any:
        """Submission in place of this one, for which submitit asks."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, words)


@contextmanager
def _errors_to(file: Path) -> Iterator[None]:
    """Let processes that start have their standard error in a file: those of submitit print a stack trace at a stop."""
    kept = os.dup(2)
    with file.open("a") as log:
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _wait(workers: Workers, folders: Collection[Path], stop: StopRequest) -> None:
    end, last = float("inf"), -1
    with progress(folders) as (settled, say):
        while time.monotonic() < end:
            over = all(job.done() for job in workers.jobs)
            stop.answer(0)
            if (count := settled()) != last:
                say(f"{count} of {len(folders)} cells")
            if over:
                break
            if last < count == len(folders):
                end = time.monotonic() + _GRACE
            last = count
            time.sleep(POLL)


def _cancel(jobs: Sequence[Any]) -> None:
    for job in jobs:
        job.cancel(check=False)


def _await_end(jobs: Sequence[Any]) -> None:
    """Wait a little for the ends of cancelled jobs."""
    end = time.monotonic() + _GRACE
    while time.monotonic() < end and not all(job.done() for job in jobs):
        time.sleep(POLL)


def _failure(job: Any, usual: set[int]) -> str:
    """Exit status of a job, last line of its log and the path of this log; empty if the status is one of the usual."""
    status: Any = None
    if job.paths.result_pickle.exists():
        error = job.exception()
        status = 1 if error else job.result()
        if not error and status in usual:
            return ""
    reason = f"exit status {status}" if status is not None else f"no exit status, state {job.state}"
    for log in (job.paths.stderr, job.paths.stdout):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        own = [line for line in map(str.strip, lines) if line and "submitit" not in line.split()[0]]
        if own:
            return f"{reason}: {own[-1]}; log: {log}"
    return f"{reason}; it has no log in {job.paths.folder}"


def _executor(kind: Kind, folder: Path, options: Mapping[str, Any]) -> Any:
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")  # otherwise its import closes the handlers of all loggers
    import submitit  # an extra

    try:
        executor = submitit.AutoExecutor(folder, cluster=kind)
        with catch_warnings():
            simplefilter("error", UserWarning)  # for a parameter without the prefix of its cluster
            executor.update_parameters(**(_DEFAULTS | dict(options)))
    except OSError as error:
        raise ConfigError(f"{folder}: {first_line(error)}") from error
    except Exception as error:  # of many kinds, with long messages
        allowed = "timeout_min, cpus_per_task, gpus_per_node, mem_gb, and those of sbatch, such as slurm_partition"
        given = f"cluster = '{kind}', cluster_options = {dict(options)}"
        raise ConfigError(f"{given}: {first_line(error).rstrip('.')}; allowed: {allowed}") from error
    return executor
