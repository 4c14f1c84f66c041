"""Check of the numbers in the READMEs against the results behind them: `python -m benchmarks.tables [--write]`."""

import sys
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from benchmarks import program
from benchmarks.checking import Finding, check, corrected
from benchmarks.results import FOLDER, add_result, read_results
from metarule.config.toml import ConfigError
from metarule.runs.files import named_errors, write_text
from metarule.sweeps.rows import write_rows

__all__ = ["FILES", "Options", "findings_by_file", "main"]

_USAGE = """\
Check the numbers in the READMEs: each has to be one of a result in configs/results, rounded to the digits that are
printed. A comment, which is not shown, names the results of the text from there to the next comment or heading:

    <!-- results: boolean boolean-10/held_out/learned -->

A number and its interval, `.963 [.958, .967]`, have to be in one object of a result. Headers and first columns of
tables are labels. Where a result has the label (a command, a method, a setting), the row or column is compared with
that part of it. Code, links, headings and, outside of tables, integers are not checked. Numbers without a result are
printed, and make the exit status 1.

--check                            the same as without it
--write                            replace scores of methods in tables of runs by those of the results, then check
"""
FILES = ("README.md", "configs/README.md", "benchmarks/README.md", "metarule/README.md")
_WRITE = "--write"


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Results and files.

    Attributes:
        keep: finished run, comparison, structure search, sweep, or file written with `--json`, whose numbers are stored
            in configs/results instead of a check.
        name: of the result to keep.
        command: line that computes the result to keep; if empty, the one that it records.
        root: folder with README.md and configs.
        json: file for the rows of the table; none if empty.
    """

    keep: str = ""
    name: Annotated[str, Meta(pattern="^[a-z0-9-]*$")] = ""
    command: str = ""
    root: str = "."
    json: str = ""


def findings_by_file(root: Path, write: bool = False) -> dict[str, tuple[str, list[Finding]]]:
    """Check the READMEs below a folder.

    Args:
        root: the folder.
        write: whether cells of tables are replaced before.

    Returns:
        By file: its text, and the numbers in it that no result stands behind.

    Raises:
        ConfigError: none of the files, or a damaged result.
    """
    results, found = read_results(root / FOLDER), {}
    for name in FILES:
        if not (file := root / name).exists():
            continue
        with named_errors(file):
            text = file.read_text(encoding="utf-8")
            findings = check(text, results)
            if write and any(finding.right for finding in findings):
                text = corrected(text, findings)
                findings = check(text, results)
                write_text(file, text)
        found[name] = text, findings
    if not found:
        raise ConfigError(f"--root '{root}': there is none of {', '.join(FILES)}")
    return found


def _serve(options: Options, flags: list[str]) -> int:
    root = Path(options.root)
    if options.keep:
        if not options.name:
            raise ConfigError("--keep: a result needs a --name, such as 'boolean-10'")
        file = root / FOLDER / f"{options.name}.json"
        print(f"{file}: {add_result(Path(options.keep), file, options.command).command}")
        return 0
    rows = [
        {"file": name, "line": text.count("\n", 0, one.start) + 1, "text": one.text, "problem": one.problem}
        for name, (text, findings) in findings_by_file(root, _WRITE in flags).items()
        for one in sorted(findings)
    ]
    for row in rows:
        print("{file}:{line}: {text}: {problem}".format(**row))
    write_rows(options.json, rows)
    return int(bool(rows))


main = program.command("benchmarks.tables", _USAGE, Options, _serve, {}, ("--check", _WRITE))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
