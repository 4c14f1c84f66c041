"""Inference of a rule from recordings, from Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metarule.inference.settings import Inference
from metarule.lifetime.inner_loop import InnerLoop
from metarule.meta import GaussNewton
from metarule.protocols import Circuit, Rule
from metarule.recordings.family import Recordings
from metarule.runs.execution import run
from metarule.runs.experiment import Experiment
from metarule.runs.finished import FinishedRun
from metarule.runs.following import lifetime_of
from metarule.runs.loggers.base import Logger

__all__ = ["infer"]

_NEWTON, _REPORT = GaussNewton(), Inference()


def infer(
    recordings: Recordings,
    rule: Rule,
    circuit: Circuit,
    optimizer: Any = _NEWTON,
    inference: Inference = _REPORT,
    seed: int = 0,
    directory: str | Path = "",
    overwrite: bool = False,
    progress: bool = True,
    loggers: Sequence[Logger] = (),
) -> FinishedRun:
    """Infer a rule from recordings in a directory as `metarule infer` does, and continue one that was stopped there.

    Args:
        recordings: the recordings.
        rule: the rule with all candidate terms.
        circuit: the circuit.
        optimizer: fits θ; for an MLP `Gradient()`.
        inference: settings of the report.
        seed: decides which animals are held out, and all random numbers.
        directory: the run directory; empty for `runs/python/<time>-s<seed>`.
        overwrite: replace an earlier run there.
        progress: whether progress is shown.
        loggers: your own loggers.

    Returns:
        The finished run; its `summary["inference"]` is the report.

    Raises:
        ConfigError: as of `run`.
        ValueError: recordings, rule and circuit that do not fit together.
    """
    if not isinstance(recordings, Recordings):
        raise ValueError(f"recordings = {recordings!r}; allowed: an object of Recordings, such as Recordings(files=…)")
    experiment = Experiment(
        seed=seed,
        rule=rule,  # type: ignore[arg-type]  # or a user's own
        circuit=circuit,  # type: ignore[arg-type]
        tasks=recordings,
        inner_loop=InnerLoop(**lifetime_of(recordings)),
        optimizer=optimizer,
        inference=inference,
    )
    finished = run(experiment, directory, overwrite, progress, loggers)
    assert isinstance(finished, FinishedRun)  # of one seed
    return finished
