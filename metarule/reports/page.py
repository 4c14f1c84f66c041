"""Page of a run, a sweep or a comparison: reading, rendering and writing."""

from collections.abc import Sequence
from importlib.resources import files
from math import inf
from pathlib import Path

from markupsafe import Markup

from metarule.config.messages import first_line, warn
from metarule.config.toml import ConfigError
from metarule.reports.comparison import comparison_page
from metarule.reports.content import Cell, Figure, Page
from metarule.reports.runs import run_page, search_page, seeds_page
from metarule.reports.sweep import sweep_page
from metarule.runs.directory import REPORT
from metarule.runs.listing import list_runs
from metarule.sweeps.rows import write_whole

__all__ = ["LARGEST", "print_report", "read_page", "render"]

# Bytes of a page, at most; larger figures are left out.
LARGEST = 2_000_000
_PAGES = {"run": run_page, "seeds": seeds_page, "search": search_page, "sweep": sweep_page}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def read_page(words: Sequence[str]) -> Page:
    """Make the page of a run or a sweep, finished or not, or of several finished runs.

    Args:
        words: directories.

    Raises:
        ConfigError: no run and no sweep, a damaged one, or runs that cannot be compared.
    """
    if len(words) > 1:
        return comparison_page(words)
    path = Path(words[0])
    row = next((row for row in list_runs(path) if row.name == "."), None)
    if row is None:
        raise ConfigError(f"{path}: it holds no run and no sweep")
    if row.kind not in _PAGES or row.rule is None:
        raise ConfigError(f"{path}: {row.state}")
    try:
        return _PAGES[row.kind](path, row)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: damaged: {type(error).__name__}: {first_line(error)}") from error


def render(page: Page, refresh: int = 0, tag: str = "") -> str:
    """Render a page as one HTML file without references to others.

    Args:
        page: its content, which is escaped.
        refresh: seconds after which the page asks its server for a newer one; 0 for never.
        tag: of this page there.
    """
    import jinja2  # imported late: most commands write no page

    place = files("metarule.reports") / "templates"
    sources = {name: (place / name).read_text(encoding="utf-8") for name in ("page.html", "style.css", "script.js")}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(sources),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["key"] = _key
    style, script = (Markup(sources[name]) for name in ("style.css", "script.js"))  # files of this package
    policy = _POLICY + ("; connect-src 'self'" if refresh else "")
    template = environment.get_template("page.html")
    common = {"style": style, "script": script, "policy": policy, "refresh": refresh, "tag": tag}
    text = template.render(page=page, **common)
    return text if len(text.encode()) <= LARGEST else template.render(page=_smaller(page), **common)


def print_report(path: Path, results: Path | None = None) -> None:
    """Write the page of a run or a sweep into its directory, and print its name; an error is a warning.

    Args:
        path: the directory.
        results: folder of new results about the run; without effect if they are elsewhere. None for those of the run.
    """
    if results and not results.is_relative_to(path):
        return
    file = path / REPORT
    try:
        write_whole(file, render(read_page([str(path)])))
    except Exception as error:  # it must not lose the run
        warn(f"{file}: this report could not be written: {first_line(error)}")
        return
    print(f"report: {file}", flush=True)


def _key(cell: Cell) -> str:
    """Number by which a cell is sorted, for the script."""
    return str(cell.key).replace("inf", "Infinity") if cell.key in (inf, -inf) else f"{cell.key:.12g}"


def _smaller(page: Page) -> Page:
    """Leave out the largest figures of a page."""
    sizes = [len(one.drawing) for one in (*page.figures, *(one for part in page.sections for one in part.figures))]
    limit = max((size for size in sizes if sum(one for one in sizes if one <= size) < 0.8 * LARGEST), default=0)

    def shown(drawn: tuple[Figure, ...]) -> tuple[Figure, ...]:
        note = "This figure is too large for this page."
        return tuple(one if len(one.drawing) <= limit else one._replace(drawing=Markup(""), note=note) for one in drawn)

    sections = tuple(part._replace(figures=shown(part.figures)) for part in page.sections)
    return page._replace(figures=shown(page.figures), sections=sections)
