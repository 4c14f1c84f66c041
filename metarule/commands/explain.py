"""Explain a learned rule: `metarule explain RUN_DIR [--OPTION VALUE …]`."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from metarule.analysis.ablation import contributions_table
from metarule.analysis.explanation_text import explanation_tables
from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.schema import Checked
from metarule.config.toml import decode, parse_overrides
from metarule.reports.page import print_report
from metarule.runs import figures
from metarule.runs.directory import EXPLANATION, FIGURES
from metarule.runs.explaining import explain
from metarule.runs.files import write_json
from metarule.runs.finished import FinishedRun
from metarule.runs.transfer import new_folder, open_run
from metarule.sweeps.rows import check_place, write_rows

__all__ = ["FIELDS", "USAGE", "Options", "main"]

USAGE = """\
usage: metarule explain RUN_DIR [--OPTION VALUE ...]

Explain a learned rule by the states that synapses visit in lifetimes on held-out tasks: the share of each term in the
variance of Δw; the cosine between Δw and that of rules by name, such as hebb, oja or delta; maps of Δw over pairs of
variables; and the score without each term. Sentences sum up the numbers. A rule that is a network (mlp), or your own,
has no shares.

Results are written to explanation/ in the run's directory, in place of an earlier explanation.

  RUN_DIR                directory of a run of one seed, or of a member of a sweep
  --help [TABLE]         this text, or the fields of a table
"""
_TEXTS = ("directory", "json")


class Options(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of an explanation.

    Attributes:
        lifetimes: lifetimes on held-out tasks, and those of each ablation that the run has not measured.
        directory: new or empty folder for the results; empty for `explanation` in the run's directory.
        json: file for shares, cosines and effects, as a list of flat objects; empty for none.
    """

    lifetimes: Annotated[int, Meta(ge=2, le=1_000_000)] = 256
    directory: str = ""
    json: str = ""


FIELDS = (Source(Options),)


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`."""
    return cli.run("metarule explain", words, USAGE, _serve, "what was written before is kept", FIELDS)


def _serve(words: list[str]) -> int:
    with open_run(words[0]) as run:
        given = {name: str(value) if name in _TEXTS else value for name, value in parse_overrides(words[1:])}
        options = decode(given, Options)
        check_place(options.json)
        with _folder(run, options) as path:
            status = _run(run, options, path)
        print_report(run.directory, path)
    return status


def _folder(run: FinishedRun, options: Options) -> AbstractContextManager[Path]:
    if options.directory:
        return new_folder(run.directory, options.directory)
    return nullcontext(run.directory / EXPLANATION)


@figures.drawn_last()
def _run(run: FinishedRun, options: Options, path: Path) -> int:
    print(f"{run.equation}\n", flush=True)
    report = explain(run, options.lifetimes)
    path.mkdir(exist_ok=True)
    write_json(path / "summary.json", {"run": str(run.directory)} | report)
    write_rows(options.json, list(_rows(report)))
    figures.draw_shares(path / FIGURES / "shares.png", report)
    groups = list(dict.fromkeys(one["group"] for one in report["maps"]))
    for number, group in enumerate(groups, 1):
        name = f"map-{number}" if group else "map"
        figures.draw_maps(path / FIGURES / f"{name}.png", report, group)
    print(f"{explanation_tables(report)}\n")
    if report["contributions"]:
        print(f"{contributions_table(report['contributions'])}\n")
    print("\n".join(report["sentences"]))
    for name, reason in report["left_out"].items():
        print(f"left out: {name}: {reason}")
    if report["diverged"]:
        print(f"left out: {report['diverged']} of {report['lifetimes']} lifetimes, which diverged")
    print(f"\nfigures: {path / FIGURES}   numbers: {path / 'summary.json'}")
    return 0


def _rows(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One flat row a number: shares, cosines, and effects on the score with their intervals."""
    for part in report["parts"]:
        for of, numbers in (("share", part["shares"] or {}), ("cosine", part["cosines"])):
            for name, value in numbers.items():
                yield {"of": of, "part": part["part"], "name": name} | value
    for row in (report["contributions"] or {}).get("terms", ()):
        yield {"of": "effect", "part": None, "name": row["term"]} | row["difference"]
