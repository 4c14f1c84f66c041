"""Figures as SVG elements of a page."""

from xml.etree import ElementTree

import pytest

from metarule.reports.svg import inline_svg
from metarule.runs.figures.canvas import figure_of, picture

pytestmark = pytest.mark.drawn

EVIL = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 10 5"
 width="10pt" onload="oops()"><style>* {display: none}</style><script>oops()</script><a xlink:href="javascript:oops()">
<path d="M 0 0"/></a><use xlink:href="http://nowhere/x.svg#a" onclick="oops()"/><foreignObject/>
<text>a &lt;b&gt; &amp; c</text></svg>"""


@picture
def draw(names):
    figure, (axes,) = figure_of(1)
    for name in names:
        axes.plot([0, 1], [0, 1], color="black", gid=f"curve:{name}")
    axes.set_title("<b> & 'c'")
    return figure


def test_ids_have_a_prefix_and_curves_a_name():
    root = ElementTree.fromstring(inline_svg(draw.svg(["<a>", "b*c", "b*c"]), "first", "three curves"))
    assert [one.get("data-curve") for one in root.iter("g") if one.get("data-curve")] == ["<a>", "b·c", "b·c"]
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    assert all(one.startswith("first-") for one in ids)
    used = {one.get("href") for one in root.iter("use")} | {
        one.get("clip-path")[4:-1] for one in root.iter() if one.get("clip-path")
    }
    assert used <= {f"#{one}" for one in ids}
    assert (root.get("role"), root.get("aria-label"), root.get("width")) == ("img", "three curves", None)


def test_black_and_white_follow_the_page():
    text = inline_svg(draw.svg(["a"]), "x", "a curve")
    assert "currentColor" in text
    assert "var(--ground)" in text
    assert not {"#000000", "#ffffff", "font-family"} & set(text.replace('"', " ").replace(";", " ").split())
    assert "&lt;b&gt; &amp; 'c'" in text


def test_nothing_in_it_can_run_or_be_fetched():
    text = inline_svg(EVIL, "x", "evil")
    assert not [word for word in ("oops", "nowhere", "script", "style>", "foreign") if word in text]
    assert "a &lt;b&gt; &amp; c" in text


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="this is no SVG element"):
        inline_svg("<svg", "x", "none")
