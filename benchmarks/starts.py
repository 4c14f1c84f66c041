"""Time of a command to its first meta-step, with and without cached programs."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from metarule.parallel.compilation_cache import VARIABLE

__all__ = ["first_step_seconds", "starts"]

# Seconds between checks of the metrics.
_POLL = 0.01
# Variables of JAX's own cache.
_VARIABLES = ("JAX_COMPILATION_CACHE_", "JAX_ENABLE_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE_")


def first_step_seconds(config: Path, cache: Path | None) -> float:
    """Seconds from the start of a process until the numbers of its first meta-step are on disk; it is killed then.

    Args:
        config: of the run.
        cache: directory for compiled programs; None for none.

    Raises:
        RuntimeError: a command that failed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_VARIABLES)}
    environment[VARIABLE] = str(cache) if cache else "off"
    with tempfile.TemporaryDirectory() as folder:
        metrics, errors = Path(folder, "run", "metrics.jsonl"), Path(folder, "errors")
        command = [sys.executable, "-m", "metarule.train", str(config), "--run.steps_per_call", "1"]
        command += ["--run.directory", str(metrics.parent)]
        with errors.open("w") as file:
            clock = time.perf_counter()
            with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=file) as process:
                while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
                    time.sleep(_POLL)
                seconds = time.perf_counter() - clock
                failed = process.poll() is not None
                process.kill()
        if failed:
            raise RuntimeError(f"{config}: {errors.read_text(encoding='utf-8')[-1000:]}")
    return seconds


def starts(config: Path, trials: int) -> list[dict[str, Any]]:
    """Time starts in turns, since other work on the machine comes and goes.

    Args:
        config: of the run.
        trials: of each kind.

    Returns:
        A row with median seconds without a cache (`off`), with an empty one (`cold`) and with a full one (`warm`).
    """
    seconds = []
    for _ in range(trials):
        with tempfile.TemporaryDirectory() as folder:
            seconds.append([first_step_seconds(config, cache) for cache in (None, Path(folder), Path(folder))])
    off, cold, warm = np.median(seconds, axis=0).tolist()
    return [{"config": config.stem, "off": off, "cold": cold, "warm": warm}]
