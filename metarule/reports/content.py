"""Content of a page: sections with text, figures and tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from metarule.analysis.comparison import difference_text
from metarule.analysis.statistics import NO_INTERVAL, interval_text
from metarule.config.messages import first_line
from metarule.reports.svg import inline_svg

__all__ = [
    "Cell",
    "Details",
    "Figure",
    "Page",
    "Section",
    "Table",
    "cell",
    "figure",
    "gain_text",
    "interval_cell",
    "signed",
    "table",
]


class Cell(NamedTuple):
    """Cell of a table.

    Attributes:
        text: as it is shown.
        key: number by which its column is sorted; None for its text.
    """

    text: str
    key: int | float | None = None


class Table(NamedTuple):
    """Table.

    Attributes:
        caption: above it.
        head: names of the columns, with their units.
        rows: cells.
        note: below it.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


class Figure(NamedTuple):
    """Figure.

    Attributes:
        caption: below it, which is also its description.
        drawing: SVG element or image; empty if it could not be drawn.
        note: reason for that.
    """

    caption: str
    drawing: Markup
    note: str = ""


class Details(NamedTuple):
    """Text of a file, or a table, that is shown on request."""

    summary: str
    text: str = ""
    table: Table | None = None


class Section(NamedTuple):
    """Section of a page; `items` are a list below the text."""

    title: str
    text: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[str, ...] = ()
    details: tuple[Details, ...] = ()
    equations: tuple[Markup, ...] = ()
    items: tuple[str, ...] = ()


class Page(NamedTuple):
    """Page.

    Attributes:
        title: name of the run.
        state: progress, such as `done`.
        lead: sentences that tell the result.
        equations: of the learned rule.
        figures: first figures.
        sections: all else.
    """

    title: str
    state: str
    lead: tuple[str, ...]
    equations: tuple[Markup, ...]
    figures: tuple[Figure, ...]
    sections: tuple[Section, ...]


def cell(value: Any, form: str = ".4f") -> Cell:
    """Cell of a value: a number in a form, a text as it is, a dash for None."""
    if value is None or value != value:
        return Cell(NO_INTERVAL)
    if isinstance(value, bool):
        return Cell("yes" if value else "no", float(value))
    if isinstance(value, int):
        return Cell(f"{value:,}", float(value))
    if isinstance(value, float):
        return Cell(f"{value:{form}}".replace("%", " %"), value)
    return Cell(str(value))


def signed(value: float | None, form: str = "+.4f") -> Cell:
    """Cell of a number with its sign."""
    return cell(None if value is None else float(value), form)


def interval_cell(row: Any, form: str = ".4f") -> Cell:
    """Cell of the interval of a row with `low` and `high`; it is sorted by its lower end.

    An interval whose ends would look the same is its middle ± its half.
    """
    low, high = row.get("low"), row.get("high")
    text = interval_text(low, high, form)
    if text == NO_INTERVAL:
        return Cell(text)
    if low < high and f"{low:{form}}" == f"{high:{form}}":
        text = f"{(low + high) / 2:{form}} ± {(high - low) / 2:.1e}"
    return Cell(text, low)


def gain_text(difference: Mapping[str, float]) -> str:
    """Format a paired difference and its interval, if it has one, for a sentence."""
    return difference_text(difference).removesuffix(f" {NO_INTERVAL}") + ", paired"


def table(caption: str, head: Sequence[str], rows: Iterable[Iterable[Cell]], note: str = "") -> Table:
    """Make a table without the columns that are empty in all rows."""
    cells = [tuple(row) for row in rows]
    shown = [number for number in range(len(head)) if any(row[number].text not in ("", NO_INTERVAL) for row in cells)]
    body = tuple(tuple(row[number] for number in shown) for row in cells)
    return Table(caption, tuple(head[number] for number in shown), body, note)


def figure(name: str, caption: str, draw: Callable[[], str]) -> tuple[Figure, ...]:
    """Draw a figure.

    Args:
        name: unique in the page.
        caption: below the figure.
        draw: returns the text of an SVG element; an error becomes a note in place of the figure.

    Returns:
        The figure; nothing if there is nothing to draw.
    """
    try:
        text = draw()
        return (Figure(caption, inline_svg(text, name, caption)),) if text else ()
    except Exception as error:  # Matplotlib and its dependencies raise many kinds
        return (Figure(caption, Markup(""), f"This figure could not be drawn: {first_line(error)}"),)
