"""Meta-train rules and compare them with tuned baselines on new tasks: `python -m benchmarks.study STUDY.toml`."""

import sys
from pathlib import Path
from shlex import quote
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from benchmarks.program import QUICK
from benchmarks.studies import comparison, functions, tasks, transfer
from benchmarks.studies.declaration import Study, read_study
from benchmarks.studies.evaluation import evaluate, items
from benchmarks.studies.results import Results
from metarule.analysis.statistics import Interval
from metarule.commands import cli, sweep
from metarule.config.help import Source
from metarule.config.shipped import find_config
from metarule.config.toml import ConfigError, decode, parse_overrides
from metarule.runs import figures
from metarule.runs.experiment import read_tree
from metarule.runs.files import csv_text
from metarule.runs.stopping import Stopped, StopRequest
from metarule.sweeps.declaration import shorten
from metarule.sweeps.plan import make_plan
from metarule.sweeps.rows import check_place, write_rows, write_whole

__all__ = ["KINDS", "Options", "main"]

_USAGE = """\
usage: python -m benchmarks.study STUDY.toml [--option VALUE ...]

Run the sweep of a study, compare each learned rule on the tests of the study with baselines that are tuned with as
many lifetimes as its meta-training, and make a table and a figure. A second start goes on where the first was stopped;
several processes share the work of the sweep.

STUDY.toml                         a study file, such as configs/study-tasks.toml
--quick                            two seeds, two values an axis, two tests, few meta-steps, in a directory of its own
--retry                            run failed cells of the sweep again
--help                             this text
"""
_FLAGS = (QUICK, "--retry")
KINDS = {"tasks": tasks, "functions": functions, "transfer": transfer, "comparison": comparison}


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files of a study.

    Attributes:
        directory: for sweep, scores, table and figure; default runs/studies/<name of the file>.
        json: file for the rows of the table; none if empty.
    """

    directory: str = ""
    json: str = ""


def main(words: list[str]) -> int:
    """Run the command; see `program.command`. The exit status is 1 if cells failed, too."""
    fields = (Source(Options), Source(Study, file="a study file"))
    return cli.run("benchmarks.study", words, _USAGE, _serve, "finished cells and scores are kept", fields)


@figures.drawn_last()
def _serve(words: list[str]) -> int:
    if words[0].startswith("-"):
        raise ConfigError(f"'{words[0]}': a study file comes first; see --help")
    flags = [word for word in words if word in _FLAGS]
    pairs = parse_overrides([word for word in words[1:] if word not in flags])
    options = decode({name: str(value) for name, value in pairs}, Options)
    check_place(options.json)
    file, quick = find_config(words[0]), QUICK in flags
    study = read_study(file)
    root = Path(options.directory or Path("runs", "studies", file.stem + ("-quick" if quick else "")))
    config, directory = find_config(study.sweep.config, file.parent), root / "sweep"
    declared, last = shorten(study.sweep) if quick else (study.sweep, [])
    study = replace(study, tests=study.tests[:2]) if quick else study
    plan = make_plan(declared, read_tree(config)[1], last)
    # Bad tests and tables are refused before meta-training.
    kind = KINDS[study.kind]
    kind.check(study, plan)
    items(study, plan, directory)
    again = " ".join(["python -m benchmarks.study", *map(quote, words)])
    status = sweep.run(study.sweep, config, directory, [*flags, "--no-report"], again)
    if status:
        return status
    try:
        with StopRequest() as stop:
            scores = evaluate(study, items(study, plan, directory), root / "scores", stop)
    except Stopped as stopped:
        print(f"\nstopped; results are kept; go on with: {again}", file=sys.stderr)
        return 128 + stopped.signal_number
    results, table, figure = Results(study, plan, scores, directory), root / "results.csv", root / "study.png"
    rows = kind.table_rows(results)
    write_whole(table, csv_text(results.long_form()))
    kind.draw(figure, rows, results)
    print(f"\n{kind.table(rows, results)}\n\nfigure: {figure}   table: {table}")
    write_rows(options.json, [_flat(row) for row in rows])
    return 0


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Intervals as three columns."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Interval):
            flat |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            flat[name] = value
    return flat


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
