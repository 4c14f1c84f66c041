"""Sections about the origin of results: commands to repeat them, config, versions and device."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from metarule.reports.content import Cell, Details, Section, Table, table
from metarule.reports.sources import read_text
from metarule.runs.environment import ENVIRONMENT
from metarule.runs.files import read_json

__all__ = ["command_line", "provenance"]

# Options that name the directory of a result.
_PLACES = ("--run.directory", "--directory")


def provenance(path: Path, seeds: Sequence[int], files: Sequence[str], commands: Sequence[str] = ()) -> Section:
    """Section with the commands that repeat and continue a result, and details about its origin.

    Args:
        path: directory of the result.
        seeds: its seeds.
        files: names of config files in it.
        commands: that go on with it.
    """
    environment = read_json(path / ENVIRONMENT) or {}
    given = command_line(_placed(environment.get("command") or (), path))
    texts = [Details(name, text) for name in files if (text := read_text(path / name))]
    details = (*texts, Details("Versions, device and precision", table=_environment(environment)))
    text = f"Seeds: {', '.join(map(str, seeds))}." if len(seeds) > 1 else f"Seed: {', '.join(map(str, seeds))}."
    return Section("How to repeat it", (text,), commands=tuple(filter(None, (given, *commands))), details=details)


def command_line(words: Sequence[str]) -> str:
    """Command line of a process, without the place of the program; empty without words."""
    if not words:
        return ""
    program = Path(words[0])
    modules = {"__main__.py": "metarule", "metarule": "metarule"}
    packages = {"metarule": f"metarule {program.stem}", "benchmarks": f"python -m benchmarks.{program.stem}"}
    name = modules.get(program.name) or packages.get(program.parent.name, program.name)
    return f"{name} {shlex.join(words[1:])}".strip()


def _placed(words: Sequence[str], path: Path) -> list[str]:
    """Words of a command line, with the directory of the result as it is named now."""
    place = str(path.parent if re.fullmatch(r"s\d+", path.name) else path)  # that of all seeds
    return [
        place if before in _PLACES else f"{option}={place}" if equals and option in _PLACES else word
        for before, word in pairwise(["", *words])
        for option, equals, _ in [word.partition("=")]
    ]


def _environment(environment: Mapping[str, Any]) -> Table:
    rows = [(Cell(name), Cell(text)) for name, text in _lines(environment)]
    return table("Environment of the first process", ("what", "value"), rows)


def _lines(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    device = environment.get("device") or {}
    if device:
        yield "device", f"{device.get('count')} × {device.get('kind')} ({device.get('platform')})"
    for name in ("precision", "kernels", "processes", "python", "platform"):
        if name in environment:
            yield name, str(environment[name])
    yield from ((name, str(version)) for name, version in (environment.get("packages") or {}).items())
    yield from ((f"module {name}", str(digest)) for name, digest in (environment.get("modules") or {}).items())
    if resumed := environment.get("resumed"):
        yield "later processes that differ", f"{len(resumed)}, see {ENVIRONMENT}"
