"""Write one HTML page about a run, a sweep or several runs: `metarule report RUN …`."""

from itertools import takewhile
from pathlib import Path

import jax
from msgspec import Struct

from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.toml import ConfigError, decode, parse_overrides
from metarule.reports.page import report
from metarule.reports.server import serve_page

__all__ = ["FIELDS", "USAGE", "Options", "main"]

USAGE = """\
usage: metarule report RUN|SWEEP [--file FILE]
       metarule report RUN RUN ... [--file FILE]
       metarule report RUN|SWEEP --live

Write one HTML page without references to other files: what was learned, how training went, how the rule does on new
tasks, what it was compared with, and how to repeat it. It opens in any browser. A run or sweep that is not finished
gives a page of what there is. Several finished runs are evaluated again, as by metarule compare.

  RUN             directory of a run of one or several seeds, of a structure search, or of a member of a sweep
  SWEEP           directory of a sweep
  --live          serve the page on this machine alone, at an address that is printed, and refresh it until Ctrl-C
  --help [TABLE]  this text, or the fields of a table
"""
_LIVE = "--live"


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a report.

    Attributes:
        file: file of the page; empty for `report.html` in the directory, of several runs in
            `runs/comparisons/<time>`.
    """

    file: str = ""


FIELDS = (Source(Options),)


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`."""
    return cli.run("metarule report", words, USAGE, _serve, "no page was written", FIELDS, computes=False)


def _serve(words: list[str]) -> int:
    runs = list(takewhile(lambda word: not word.startswith("--"), words))
    rest = [word for word in words[len(runs) :] if word != _LIVE]
    if not runs:
        raise ConfigError(f"'{words[0]}': the directory of a run or a sweep comes first; see --help")
    options = decode({name: str(value) for name, value in parse_overrides(rest)}, Options)
    if len(runs) == 1:
        jax.config.update("jax_platforms", "cpu")  # the devices may be those of the run
    if _LIVE in words:
        if len(runs) > 1 or options.file:
            raise ConfigError(f"{_LIVE}: allowed: with one directory, and without --file")
        serve_page(Path(runs[0]), lambda address: print(address, flush=True))
        return 0
    print(f"report: {report(*runs, file=options.file or None)}")
    return 0
