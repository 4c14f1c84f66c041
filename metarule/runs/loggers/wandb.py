"""Metrics on Weights & Biases."""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from metarule.runs.files import read_json, write_json
from metarule.runs.loggers.base import Row, grouped

__all__ = ["FOLDER", "Wandb"]

FOLDER = "wandb"
# Seconds after which an upload at the end is given up; `wandb sync` repeats it.
_UPLOAD = 300


class Wandb:
    """A run of wandb, whose files and id are in `wandb/`; a resumed run has the same id.

    The project is `$WANDB_PROJECT`, or else `metarule`. Without a login, wandb needs `WANDB_MODE=offline`.
    """

    def open(self, directory: Path, settings: Mapping[str, Any], earlier: Sequence[Row]) -> None:
        """Start or resume the run; wandb has the rows so far."""
        import wandb

        home = directory.resolve()
        self._folder = home / FOLDER
        self._folder.mkdir(exist_ok=True)
        with ExitStack() as stack:
            stack.callback(self._remove_links)
            stack.enter_context(_silence())
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "metarule"),
                name="/".join(home.parts[-2:]),
                dir=home,
                id=_run_id(self._folder / "id.json"),
                resume="allow",
                reinit="create_new",  # a run that is open in a notebook is another one
                config=dict(settings),
                settings=wandb.Settings(silent=True, console="off", finish_timeout=_UPLOAD, finish_timeout_raises=True),
            )

    def log(self, row: Row) -> None:
        """Log a meta-step that wandb does not have yet."""
        step = int(row["step"])
        if step >= self._run.step:
            with _silence():
                self._run.log(grouped(row), step=step)

    def close(self, results: Row) -> None:
        """Add the results to the summary, and wait until all is uploaded."""
        with _silence():
            self._run.summary.update(grouped(results))
            self._run.finish(exit_code=0 if results else 1)
        self._remove_links()

    def _remove_links(self) -> None:
        """Remove links to the log that all runs of a user share: a run directory may have none that lead out of it."""
        for file in self._folder.glob("*/logs/*"):
            if file.is_symlink():
                file.unlink()


@contextmanager
def _silence() -> Iterator[None]:
    """Discard what wandb prints; without a terminal it does not ask for a login either."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


def _run_id(file: Path) -> str:
    """Id of the run, which is made up once."""
    if (known := read_json(file)) is None:
        known = {"id": secrets.token_hex(4)}
        write_json(file, known)
    return str(known["id"])
