"""Parts of Markdown between headings and comments that name results; numbers in text and tables."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Cell", "Mention", "Part", "mentions", "parts", "prints", "rows"]

_MARKER = re.compile(r"<!-- results:(.*?)-->", re.DOTALL)
# Code, targets of links, comments, headings, headers of tables and the version of Python hold no results.
_HIDDEN = re.compile(
    r"^ *```.*?^ *```|`[^`]*`|\]\([^)]*\)|<!--.*?-->|^#+ [^\n]*|^\|[^\n]*\n\|[-: |]+\|$|Python ≥ [\d.]+",
    re.DOTALL | re.MULTILINE,
)
_TABLE = re.compile(r"^\|([^\n]*)\|\n\|[-: |]+\|\n((?:\|[^\n]*\n?)*)", re.MULTILINE)
# Units in which a value may be printed, in multiples of that in which results have it.
_SCALES = {"%": 100.0, "kB": 1e-3, "MB": 1e-6, "GB": 1e-9}
_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"{_INTEGER}?\.\d+|{_INTEGER}e[−-]\d+"


def _pattern(number: str) -> re.Pattern[str]:
    number = rf"(?<![\w.−+-])(?:[−+] ?|-)?(?:{number})(?!\.?\w)(?: (?:{'|'.join(_SCALES)}))?"
    return re.compile(rf"({number})(?:\**(?:·\S+)?\s*\[({number}),\s*({number})\])?")


_IN_TEXT, _IN_TABLES = _pattern(_DECIMAL), _pattern(f"{_DECIMAL}|{_INTEGER}")


class Part(NamedTuple):
    """Text from a heading or a comment to the next, without what holds no results.

    Attributes:
        start: offset in the file.
        section: heading above it.
        names: of the results that the comment names; none without a comment.
        text: as it stands in the file.
        blank: the same with spaces for what holds no results.
    """

    start: int
    section: str
    names: tuple[str, ...]
    text: str
    blank: str


class Cell(NamedTuple):
    """Cell of a table: offset of its content, the content, and the same with spaces for what holds no results."""

    start: int
    text: str
    blank: str


class Mention(NamedTuple):
    """Number in a text, with its interval if it has one.

    Attributes:
        start: offset in the file.
        text: number and interval.
        numbers: the number, and the two ends of the interval.
    """

    start: int
    text: str
    numbers: tuple[str, ...]


def parts(text: str) -> Iterator[Part]:
    """Split a file at its headings and at the comments that name results."""
    hidden = list(_HIDDEN.finditer(text))
    blank = _HIDDEN.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    cuts = [match for match in hidden if match[0].startswith("#") or _MARKER.match(match[0])]
    ends = [*(match.start() for match in cuts), len(text)]
    section = ""
    yield Part(0, section, (), text[: ends[0]], blank[: ends[0]])
    for cut, end in zip(cuts, ends[1:], strict=True):
        marker = _MARKER.match(cut[0])
        section = section if marker else cut[0].lstrip("# ")
        names = tuple(marker[1].split()) if marker else ()
        yield Part(cut.end(), section, names, text[cut.end() : end], blank[cut.end() : end])


def rows(part: Part) -> tuple[list[tuple[list[str], list[Cell]]], str]:
    """Rows of all tables of a part, each with the header of its table, and the rest of its blank text."""
    found, rest = [], part.blank
    for table in _TABLE.finditer(part.text):
        header = [label.strip() for label in table[1].split("|")]
        for line in re.finditer(r"[^\n]+", table[2]):
            start = table.start(2) + line.start()
            found.append((header, list(_cells(part, start, start + len(line[0])))))
        rest = rest[: table.start()] + re.sub(r"[^\n]", " ", table[0]) + rest[table.end() :]
    return found, rest


def _cells(part: Part, start: int, end: int) -> Iterator[Cell]:
    bars = [start + bar.start() for bar in re.finditer(r"\|", part.text[start:end])]
    for left, right in pairwise(bars):
        content = part.text[left + 1 : right].strip()
        first = part.text.index(content, left + 1)
        yield Cell(part.start + first, content, part.blank[first : first + len(content)])


def mentions(blank: str, start: int, in_table: bool = False) -> Iterator[Mention]:
    """Find the numbers with a decimal point in a text, or all numbers in a cell of a table.

    Args:
        blank: text, with spaces for what holds no results.
        start: its offset.
        in_table: whether it is a cell.
    """
    for match in (_IN_TABLES if in_table else _IN_TEXT).finditer(blank):
        shown = " ".join(match[0].replace("*", "").split())
        numbers = (re.sub(r"^([−+]) ", r"\1", number) for number in match.groups() if number)
        yield Mention(start + match.start(), shown, tuple(numbers))


def prints(value: float, number: str, signed: bool) -> bool:
    """Compare a value, rounded to the digits of a number, with the number.

    Args:
        value: the value.
        number: as printed: `.97`, `97.2 %`, `1,236`, `2.5 GB`, `−.012`, `9e-15`.
        signed: whether a number without a sign is not negative; else it may be the magnitude of the value.
    """
    digits, _, unit = number.lstrip("−+-").replace(",", "").replace("−", "-").partition(" ")
    scaled = abs(value) * _SCALES.get(unit, 1.0)
    places = len(digits.partition("e")[0].partition(".")[2])
    form = f".{places}{'e' if 'e' in digits else 'f'}"
    same = f"{scaled:{form}}" == f"{float(digits):{form}}"
    if digits.isdecimal() and 0 < scaled < 1:
        return False  # 0 and 1 are counts; as roundings they would be everywhere
    if number[0] in "−-":
        return same and value < 0
    return same and (value >= 0 or not (signed or number[0] == "+"))
