"""Figures as SVG elements of a page: they take its colours, and several of them do not share ids."""

import re
from xml.etree import ElementTree

from markupsafe import Markup

from metarule.rules.terms import typeset
from metarule.runs.figures.methods import CURVE

__all__ = ["inline_svg", "width_style"]

# Elements that are drawn; all others, such as scripts, are left out.
_DRAWN = {"svg", "g", "path", "use", "defs", "clipPath", "rect", "circle", "ellipse", "line", "polyline", "polygon"}
_DRAWN |= {"text", "tspan", "image", "linearGradient", "stop"}
_ATTRIBUTES = {"id", "d", "style", "transform", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "rx", "ry", "points"}
_ATTRIBUTES |= {"width", "height", "viewBox", "clip-path", "href", "offset", "dx", "dy", "fill", "stroke"}
_GREY = re.compile(r"#([0-9a-f]{2})\1\1\b|\b(black|white)\b", re.IGNORECASE)
_FONT = re.compile(r"font-family:[^;]*;?\s*")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_IMAGE = "data:image/png;base64,"
# Pixels a point of a figure where there is room, and on a narrow page, where less could not be read.
_NATURAL, _LEAST = 1.34, 1.0


def inline_svg(text: str, prefix: str, label: str) -> Markup:
    """Prepare the text of an SVG element for a page.

    Args:
        text: of the element.
        prefix: of its ids, unique in the page.
        label: description for those who do not see it.

    Returns:
        The element: as wide as the page lets it be; black, greys and white follow the colours of the page; groups with
        the id `curve:NAME` have the attribute `data-curve` instead; nothing in it can run.

    Raises:
        ValueError: a text that is no SVG element.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"this is no SVG element: {error}") from error
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    _clean(root, prefix)
    is_map = root.find(".//image") is not None
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    root.attrib["style"] = f"{width_style(width)};aspect-ratio:{width:.0f}/{height:.0f}"
    # Text on the colours of a map is readable on its own ground only.
    root.attrib["class"] = "on-white" if is_map else "drawn"
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))  # serialised, so escaped


def width_style(points: float) -> str:
    """Style of a figure that is so many points wide: its width on a page, and the least one."""
    return f"width:{points * _NATURAL:.0f}px;max-width:100%;min-width:{points * _LEAST:.0f}px"


def _clean(element: ElementTree.Element, prefix: str) -> None:
    """Remove what is not drawn, and rename ids and colours, below an element."""
    element.tag = element.tag.rpartition("}")[2]
    element.tail = None
    if element.tag not in ("text", "tspan"):
        element.text = None
    named = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    element.attrib = {name: value for name, value in named.items() if name in _ATTRIBUTES}
    _rename(element.attrib, prefix)
    for inner in list(element):
        if isinstance(inner.tag, str) and inner.tag.rpartition("}")[2] in _DRAWN:
            _clean(inner, prefix)
        else:
            element.remove(inner)


def _rename(attributes: dict[str, str], prefix: str) -> None:
    name = attributes.pop("id", "")
    if name.startswith(CURVE):
        attributes["data-curve"] = typeset(name.removeprefix(CURVE))
    elif name:
        attributes["id"] = f"{prefix}-{name}"
    if (target := attributes.pop("href", "")).startswith("#"):
        attributes["href"] = f"#{prefix}-{target[1:]}"
    elif target.startswith(_IMAGE):
        attributes["href"] = target
    for name in ("style", "clip-path", "fill", "stroke"):
        if name in attributes:
            attributes[name] = _REFERENCE.sub(rf"url(#{prefix}-\1)", _GREY.sub(_shade, _FONT.sub("", attributes[name])))
    if "d" in attributes:
        attributes["d"] = " ".join(attributes["d"].split())


def _shade(grey: re.Match[str]) -> str:
    """A mixture of the colours of the page's text and ground, as dark as a grey is on white."""
    name = (grey[2] or "").lower()
    share = {"black": 100, "white": 0}.get(name, 100 - round(int(grey[1] or "0", 16) / 2.55))
    if share in (0, 100):
        return "currentColor" if share else "var(--ground)"
    return f"color-mix(in srgb, currentColor {share}%, var(--ground))"
