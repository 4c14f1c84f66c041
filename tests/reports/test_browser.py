"""Pages as a browser shows them."""

import html
import json
import re
import shutil
import subprocess

import pytest
from reported import EVIL, reported_run, reported_seeds

from metarule.reports.page import read_page, render

pytestmark = pytest.mark.drawn

OPTIONS = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
OPTIONS += ["disable-component-update", "disable-sync", "dump-dom"]
BEFORE = """<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective));
</script>"""
# A window is not narrower than 500 pixels, but a frame is.
SCHEMES = '<!DOCTYPE html><meta name="color-scheme" content="light dark">'
FRAME = """<iframe width="{width}" height="900" style="border: 0"
onload="document.body.append(contentDocument.getElementById('measured'))" srcdoc="{text}"></iframe>"""
# Sorts the first table by its second column, hides the first curve, and measures.
AFTER = """<script>
const box = (one) => one.getBoundingClientRect(), width = innerWidth;
const frames = [...document.querySelectorAll("figure .frame")].map(box);
const table = document.querySelector("main table"), head = table.tHead.rows[0].cells[1];
const column = () => [...table.tBodies[0].rows].map((row) => row.cells[1].textContent);
head.querySelector("button").click();
const ascending = column(), order = head.ariaSort;
head.querySelector("button").click();
const curve = document.querySelector(".curves label"), name = curve.textContent.trim();
curve.click();
const hidden = [...document.querySelectorAll("[data-curve]")].filter((one) => getComputedStyle(one).display === "none");
const found = {errors, width, frames: frames.map((one) => [one.left, one.right, one.height]),
  drawn: [...document.querySelectorAll("figure svg")].map((one) => box(one).width),
  overflow: document.documentElement.scrollWidth, ascending, order, descending: column(), name,
  hidden: hidden.map((one) => one.dataset.curve), ink: getComputedStyle(document.body).color,
  ground: getComputedStyle(document.body).backgroundColor, equation: box(document.querySelector("math")).width};
const result = document.createElement("pre");
result.id = "measured";
result.textContent = JSON.stringify(found);
document.body.append(result);
</script></body>"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of a run and of several seeds."""
    if not shutil.which("chromium"):
        pytest.skip("needs chromium")
    folder = tmp_path_factory.mktemp("runs")
    made = (reported_run(folder / "run", name=EVIL), reported_seeds(folder / "seeds"))
    return [render(read_page([str(path)])) for path in made]


def measured(pages, folder, width, scheme):
    """Measurements of each page in a frame, by one start of the browser."""
    texts = [
        page.replace('<meta name="viewport"', BEFORE + '<meta name="viewport"').replace("</body>", AFTER)
        for page in pages
    ]
    frames = "".join(FRAME.format(width=width, text=html.escape(text)) for text in texts)
    (folder / "page.html").write_text(SCHEMES + frames)
    blink = f"blink-settings=preferredColorScheme={int(scheme == 'light')}"
    options = [*OPTIONS, blink, "window-size=1400,1000", f"user-data-dir={folder / 'user'}"]
    words = ["chromium", *(f"--{one}" for one in options), (folder / "page.html").as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    found = re.findall('<pre id="measured">(.*?)</pre>', done.stdout)
    assert len(found) == len(pages)
    return [json.loads(html.unescape(one)) for one in found]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_pages_fit_their_window(tmp_path, pages, width, scheme):
    for found in measured(pages, tmp_path, width, scheme):
        check(found, width, scheme)


def check(found, width, scheme):
    assert (found["errors"], found["width"]) == ([], width)
    assert found["overflow"] <= found["width"]
    assert found["equation"] > 100
    assert len(found["frames"]) == len(found["drawn"]) >= 4
    assert all(0 <= left < right <= found["width"] and height > 50 for left, right, height in found["frames"])
    assert all(drawn > 250 for drawn in found["drawn"])
    assert found["order"] == "ascending"
    assert found["ascending"] == found["descending"][::-1]
    assert set(found["hidden"]) == {found["name"]}
    ink, ground = (sum(map(int, re.findall(r"\d+", found[one])[:3])) for one in ("ink", "ground"))
    assert (ink < 150, ground > 600) == ((True, True) if scheme == "light" else (False, False))
