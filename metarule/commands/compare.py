"""Compare the learned rules of several runs: `metarule compare RUN RUN …`."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from metarule.analysis.comparison import THRESHOLD, count_text, rows_table
from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.schema import Checked
from metarule.config.toml import decode, parse_overrides
from metarule.runs import figures
from metarule.runs.differences import (
    Measured,
    common_points,
    compared_row,
    measure,
    open_runs,
    performance_of,
    tasks_text,
)
from metarule.runs.directory import FIGURES
from metarule.runs.experiment import FREE_TABLES, Experiment
from metarule.runs.figures.canvas import formats
from metarule.runs.files import write_json
from metarule.runs.transfer import new_folder
from metarule.sweeps.rows import check_place, write_rows
from metarule.tasks.base import primary_metric

__all__ = ["FIELDS", "USAGE", "Options", "main"]

USAGE = """\
usage: metarule compare RUN RUN ... [--OPTION VALUE ...] [--TABLE.FIELD VALUE ...]

Compare the learned rules of finished runs, θ frozen. Each is evaluated on its own held-out tasks with the draws of its
own evaluation, or all on others, such as --tasks.delays '[6, 10]'. Intervals are over tasks for one seed, and over
seeds for several. Differences from the first run are paired: over tasks where two runs have the same tasks and seed,
and over the seeds that two runs of several share.

  RUN                    directory of a run of one or several seeds, or of a member of a sweep
  --TABLE.FIELD VALUE    set a field of the configs, otherwise as in each run; output neurons follow the tasks
  --help [TABLE]         this text, or the fields of a table
"""
_TEXTS = ("directory", "json")


class Options(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a comparison.

    Attributes:
        threshold: mean score for the number of steps to threshold.
        directory: folder of the results; empty for `runs/comparisons/<time>`.
        json: file for the rows of the printed table, as a list of flat objects; empty for none.
    """

    threshold: float = THRESHOLD
    directory: str = ""
    json: str = ""


FIELDS = (Source(Options), Source(Experiment, only=FREE_TABLES))


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`."""
    return cli.run("metarule compare", words, USAGE, _serve, "what was written before is kept", FIELDS)


def _serve(words: list[str]) -> int:
    runs = list(takewhile(lambda word: not word.startswith("--"), words))
    pairs = parse_overrides(words[len(runs) :])
    given = {name: str(value) if name in _TEXTS else value for name, value in pairs if "." not in name}
    options = decode(given, Options)
    check_place(options.json)
    compared = open_runs(runs, [pair for pair in pairs if "." in pair[0]])
    figure_formats = compared[0].runs[0].config.run.figure_formats
    with (
        new_folder(Path("runs", "comparisons"), options.directory) as path,
        formats(figure_formats),
        figures.drawn_last(),
    ):
        measured = measure(compared, common_points(compared))
        rows = {one.compared.name: compared_row(measured[0], one, options.threshold) for one in measured}
        metric, of = primary_metric(compared[0].runs[0].tasks), tasks_text(compared)
        summary = {"metric": metric, "of": of, "threshold": options.threshold, "runs": rows}
        write_json(path / "summary.json", summary)
        _write_curves(path, measured, of, options.threshold)
        write_rows(options.json, [_flat(name, row, metric) for name, row in rows.items()])
        print(f"\n{_table(of, metric, rows, options.threshold)}\n")
        print(f"figures: {path / FIGURES}   numbers: {path / 'summary.json'}")
    return 0


def _flat(name: str, row: dict[str, Any], metric: str) -> dict[str, Any]:
    """A row without nested values."""
    ends, found = ("mean", "low", "high"), row.get("difference", {})
    flat = {"name": name, "directory": row["directory"], "seeds": row["seeds"], "metric": metric}
    flat |= {end: row[end] for end in ends} | {"diverged": row["diverged"]}
    flat |= {f"difference_{end}": found.get(end) for end in ends} | {"pairs": row.get("pairs", 0)}
    flat |= {"unpaired": row.get("unpaired"), "steps_to_threshold": row["steps_to_threshold"]["at"]}
    return flat | {f"after_{multiple}_lifetimes": scores["mean"] for multiple, scores in row["horizon"].items()}


def _table(of: str, metric: str, rows: dict[str, Any], threshold: float) -> str:
    """Table for the screen, with a line for each difference that does not exist."""
    labels = {name: f"{name} ({count_text(row['count'], row['over'])})" for name, row in rows.items()}
    table = rows_table(of, metric, {labels[name]: row for name, row in rows.items()}, threshold, reference="first")
    reasons = [f"(no difference for {name}: {row['unpaired']})" for name, row in rows.items() if "unpaired" in row]
    return "\n".join([table, *reasons])


def _write_curves(path: Path, measured: Sequence[Measured], of: str, threshold: float) -> None:
    """Write and draw the scores along lifetimes; a lifetime that is shorter than others continues."""
    performance = performance_of(measured)
    write_json(path / "performance.json", performance)
    over = {count_text(len(one.ids), "seeds" if len(one.compared.runs) > 1 else "tasks") for one in measured}
    title = f"{of.capitalize()}: score along the lifetime"
    caption = f"{len(measured)} runs: mean and 95 % interval over {' or '.join(sorted(over))}"
    length = max(one.length for one in measured)
    figures.draw_performance(path / FIGURES / "performance.png", performance, length, title, caption, threshold)
