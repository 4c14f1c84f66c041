"""Workers on a cluster: refused parameters, failures and stops, with jobs that run no process."""

import signal
from types import SimpleNamespace

import pytest

from metarule.config.toml import ConfigError
from metarule.runs.stopping import Stopped, StopRequest
from metarule.runs.sweep_files import DONE
from metarule.sweeps import cluster
from metarule.sweeps.cluster import Workers, check_cluster, start, watch
from metarule.sweeps.work import FAILED

START = "time loops are compiled\n"


class Job:
    """A job that ends with a status; None for one that has not begun, and text for one that was killed."""

    def __init__(self, folder, number, status, log=""):
        self.job_id, self.status, self.cancelled = f"7_{number}", status, False
        self.state = status if isinstance(status, str) else "FINISHED"
        names = {name: folder / f"{number}.{name}" for name in ("result_pickle", "stderr", "stdout")}
        self.paths = SimpleNamespace(folder=folder, **names)
        if isinstance(status, int | Exception):
            self.paths.result_pickle.touch()
        if log:
            self.paths.stderr.write_text(log)

    def done(self):
        return self.status is not None or self.cancelled

    def cancel(self, check):
        self.cancelled = True

    def exception(self):
        return self.status if isinstance(self.status, Exception) else None

    def result(self):
        return self.status


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(cluster, "POLL", 0.001)
    monkeypatch.setattr(cluster, "_GRACE", 0.01)


def cells(folder, *ends):
    """Cells that are done, failed or left."""
    names = {folder / f"cell-{number}": end for number, end in enumerate(ends)}
    for cell, end in names.items():
        (cell / end).mkdir(parents=True)
    return list(names)


def test_workers_that_failed_are_described_in_one_line_each(tmp_path, quick):
    jobs = [
        Job(tmp_path, 0, 0),
        Job(tmp_path, 1, 2, f"{START}metarule sweep: bad input\nINFO:submitit:Job completed\n\n"),
        Job(tmp_path, 2, "TIMEOUT", START),
        Job(tmp_path, 3, ImportError("numpy"), f"{START}ImportError: numpy\nsubmitit ERROR (now) - failed\n"),
        Job(tmp_path, 4, "NODE_FAIL"),
    ]
    lines = watch(Workers("slurm", jobs), cells(tmp_path, DONE, "left"), StopRequest())
    assert lines == [
        f"worker 1 failed: exit status 2: metarule sweep: bad input; log: {tmp_path / '1.stderr'}",
        f"worker 2 failed: no exit status, state TIMEOUT: time loops are compiled; log: {tmp_path / '2.stderr'}",
        f"worker 3 failed: exit status 1: ImportError: numpy; log: {tmp_path / '3.stderr'}",
        f"worker 4 failed: no exit status, state NODE_FAIL; it has no log in {tmp_path}",
    ]


@pytest.mark.parametrize(("end", "count"), [(FAILED, 0), (DONE, 1)])
def test_a_failed_cell_is_no_failure_of_a_worker(end, count, tmp_path, quick):
    assert len(watch(Workers("local", [Job(tmp_path, 0, 1)]), cells(tmp_path, end), StopRequest())) == count


def test_workers_that_have_not_begun_are_cancelled_when_all_cells_are_settled(tmp_path, quick):
    late = Job(tmp_path, 0, None)
    assert watch(Workers("slurm", [late]), cells(tmp_path, DONE, FAILED), StopRequest()) == []
    assert late.cancelled


@pytest.mark.parametrize("kind", ["local", "slurm"])
def test_a_stop_ends_local_workers_alone(kind, tmp_path, quick):
    job, stop = Job(tmp_path, 0, None), StopRequest()
    stop.ask(signal.SIGINT)
    with pytest.raises(Stopped):
        watch(Workers(kind, [job]), cells(tmp_path, "left"), stop)
    assert job.cancelled == (kind == "local")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hurry": 1}, "cluster_options = {'hurry': 1}: Parameter 'hurry' need to be prefixed by an executor name"),
        ({"partition": "gpu"}, "Use 'slurm_partition' instead; allowed: timeout_min, cpus_per_task"),
        ({"timeout_min": "soon"}, 'Parameter "timeout_min" expected type'),
        ({"slurm_hurry": 1}, "Unknown argument 'hurry' for executor 'slurm'"),
        ({"nodes": 2}, "cluster_options.nodes = 2: a worker is one task; set --workers instead"),
    ],
)
def test_bad_parameters_are_refused(options, message):
    with pytest.raises(ConfigError) as refused:
        check_cluster("local", options)
    assert message in str(refused.value)


def test_parameters_of_submitit_are_accepted():
    check_cluster("local", {"timeout_min": 120, "slurm_partition": "gpu", "cpus_per_task": 4})


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    with pytest.raises(
        ConfigError, match="cluster = 'slurm': there is no program sbatch on this host; allowed here: l"
    ):
        check_cluster("slurm", {})
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"submitit is missing; install it with: pip install 'metarule\[cluster\]'"):
        check_cluster("local", {})


def test_workers_that_the_cluster_does_not_accept_are_reported_in_one_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("sbatch: error: invalid partition\nand more")

    monkeypatch.setattr(cluster, "_executor", lambda *_: SimpleNamespace(map_array=refuse))
    with pytest.raises(ConfigError, match=r"'slurm': the workers are not accepted: sbatch: error: invalid partition$"):
        start("slurm", tmp_path, 2, {}, len, [])
