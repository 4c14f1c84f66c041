"""Results that tables and texts are checked against: what a run or a program measured, its command and its versions."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from metarule.config.toml import ConfigError
from metarule.reports.provenance import command_line
from metarule.runs.environment import ENVIRONMENT
from metarule.runs.files import convert, json_text, named_errors, read_json, write_text

__all__ = ["FOLDER", "LARGEST", "Result", "add_result", "numbers", "objects", "read_results", "selected"]

FOLDER = Path("configs", "results")
_ROOT = Path(__file__).parents[1]
# Files with the numbers of a directory: of a run or a comparison, of a structure search, of a sweep.
_FILES = ("summary.json", "front.json", "summary.csv")
LARGEST = 40_000
# Members that name places of one machine, repeat the config, or list what means, intervals and figures summarise.
_LEFT_OUT = {"directory", "run", "experiment", "by_task", "by_rate"}
_DIGITS = 7
_PLACES = {"--run.directory", "--directory", "--json"}
_DECIMAL = re.compile(r"-?\d*\.\d+")


class Result(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers of a run or a program, and their origin.

    Attributes:
        command: line that computes them.
        environment: versions, device and precision of its first process; empty if it records none.
        numbers: means, intervals and other numbers, in objects and lists.
    """

    command: str
    environment: dict[str, Any]
    numbers: Any


def add_result(source: Path, file: Path, command: str) -> Result:
    """Extract the numbers of a finished run, comparison, search or sweep, or of rows written with `--json`.

    Args:
        source: directory or file; versions and device are those that are recorded there or beside it.
        file: JSON file for the result.
        command: line that computes it; empty for the one that `source` records.

    Raises:
        ConfigError: no numbers or no command there, or more than 40 kB of numbers.
    """
    found = next((source / name for name in _FILES if (source / name).exists()), source)
    if found.is_dir() or not found.exists():
        raise ConfigError(f"--keep '{source}': it has none of {', '.join(_FILES)}, and is no file")
    environment = read_json(found.parent / ENVIRONMENT) or {}
    command = command or _repeatable(environment.get("command") or ())
    if not command or re.search(r"(^|[ '])/", command):
        raise ConfigError(f"--keep '{source}': '{command}' is no command for other machines; name one with --command")
    provenance = {name: value for name, value in environment.items() if name not in ("command", "resumed") and value}
    result = Result(command=command, environment=provenance, numbers=_extract(_read(found)))
    text = json_text({name: getattr(result, name) for name in Result.__struct_fields__}, indent=0) + "\n"
    if (size := len(text.encode())) > LARGEST:
        raise ConfigError(f"--keep '{source}': {size:,} bytes of numbers; allowed: {LARGEST:,}")
    with named_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    return result


def read_results(folder: Path) -> dict[str, Result]:
    """Read all results of a folder by name; empty if it does not exist."""
    return {file.stem: convert(file, read_json(file), Result) for file in sorted(folder.glob("*.json"))}


def selected(results: Mapping[str, Result], path: str) -> Result | None:
    """The result of a name, or a part of its numbers: `boolean`, `boolean/held_out/learned`; None if there is none."""
    name, *keys = path.split("/")
    if name not in results:
        return None
    part = results[name].numbers
    for key in keys:
        if not isinstance(part, dict) or key not in part:
            return None
        part = part[key]
    return replace(results[name], numbers=part)


def numbers(tree: Any, deep: bool = True) -> Iterator[float]:
    """Numbers of a part of a result; those in lists and objects within it only if `deep`."""
    if isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            if deep or not isinstance(part, dict | list):
                yield from numbers(part)
    elif isinstance(tree, str):  # a target or a setting
        yield from map(float, _DECIMAL.findall(tree.replace("−", "-")))
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield float(tree)


def objects(tree: Any, name: str = "") -> Iterator[tuple[set[str], dict[str, Any]]]:
    """Objects within a part of a result, and its numbers with their intervals, each with its names.

    An object has the name of its member, and those that it contains as texts.
    """
    if isinstance(tree, dict):
        yield {name, *(text for text in tree.values() if isinstance(text, str))}, tree
        for key, part in tree.items():
            if isinstance(part, int | float):
                ends = (f"{key}_low", f"{key}_high", "low", "high")
                yield {key}, {one: tree[one] for one in (key, *ends) if one in tree}
            yield from objects(part, key)
    elif isinstance(tree, list):
        for part in tree:
            yield from objects(part)


def _repeatable(words: Sequence[str]) -> str:
    """Command line without the places of its results, and with files of the repository as seen from its top."""
    places = [number for number, word in enumerate(words) if word in _PLACES]
    words = [word for number, word in enumerate(words) if not {number, number - 1} & set(places)]
    return command_line([words[0], *map(_from_the_top, words[1:])]) if words else ""


def _from_the_top(word: str) -> str:
    parts = Path(word).parts
    tails = (Path(*parts[start:]) for start in range(1, len(parts)))
    return next((str(tail) for tail in tails if (_ROOT / tail).is_file()), word) if Path(word).is_absolute() else word


def _read(file: Path) -> Any:
    with named_errors(file):
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".csv":
            return [{name: _value(cell) for name, cell in row.items()} for row in csv.DictReader(text.splitlines())]
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{file}: damaged: {error}") from error


def _value(cell: str) -> Any:
    try:
        return float(cell)
    except ValueError:
        return cell


def _extract(value: Any) -> Any:
    """Round numbers, and leave out lists of them, such as those by seed."""
    if isinstance(value, dict):
        parts = {name: _extract(part) for name, part in value.items() if name not in _LEFT_OUT}
        return {name: part for name, part in parts.items() if part != []}
    if isinstance(value, list):
        return [_extract(part) for part in value if not isinstance(part, int | float)]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
