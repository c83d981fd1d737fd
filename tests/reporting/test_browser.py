"""The report as a person sees it, in headless Chromium; skipped where it or its driver is not installed."""

import json
import re

import pytest

from gcsam_med.reporting.write import write_report
from tests.builders import report_of
from tests.reporting.browser import CHROMIUM, DRIVER, Browser

pytestmark = [
    pytest.mark.figures,
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and chromedriver are not installed"),
]
KINDS = ("segmentation", "binary", "classes")
# Text wider than its figure, or figures one over the other, would be cut on paper too.
WIDER = """
    return [...document.querySelectorAll('main *')].filter(e => {
        const box = e.getBoundingClientRect();
        return box.width && !e.closest('.scroll') && !e.closest('svg') && box.right > innerWidth + 1;
    }).map(e => e.tagName + ' ' + e.className).slice(0, 5);
"""


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module", params=KINDS)
def report(request, browser, tmp_path_factory):
    files = write_report(report_of(request.param), tmp_path_factory.mktemp(request.param))
    browser.logs("performance")
    browser.view(1200)
    browser.open(files[0])
    return files[0]


def test_no_error_and_no_request_leaves(report, browser):
    """Oracle: the browser's own logs."""
    assert [entry["message"] for entry in browser.logs("browser")] == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.logs("performance")]
    urls = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith(("data:", report.resolve().as_uri()))] == []


@pytest.mark.parametrize("width", [400, 1600])
def test_it_fits_narrow_and_wide_windows(report, browser, width):
    """Oracle: nothing but scrollable tables is wider than the window."""
    browser.view(width)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run(WIDER) == []


def test_title_headings_and_figures_are_there(report, browser):
    """Oracle: what a reader must find: a title, the sections, and drawings that take room."""
    browser.view(1200)
    assert "Toy lesions" in browser.run("return document.title")
    headings = browser.run("return [...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert headings[0] == "Summary"
    assert {"Results", "Data", "Training and environment", "Methods paragraph", "Reporting checklist"} <= set(
        headings
    )
    boxes = browser.run(
        "return [...document.querySelectorAll('figure svg, figure img')]"
        ".map(e => e.getBoundingClientRect()).map(b => [b.width, b.height])"
    )
    assert len(boxes) >= 8
    assert all(width > 100 and height > 40 for width, height in boxes)
    loaded = browser.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert loaded


def test_dark_and_light_differ_and_figures_follow(report, browser):
    """Oracle: computed colours of page and drawing change with the reader's scheme."""
    seen = []
    for scheme in ("light", "dark"):
        browser.view(1200, scheme=scheme)
        seen.append(
            browser.run(
                "return [getComputedStyle(document.body).backgroundColor,"
                "getComputedStyle(document.querySelector('figure svg text')).fill]"
            )
        )
    (light_page, light_text), (dark_page, dark_text) = seen
    lightness = [
        sum(map(int, re.findall(r"\d+", c)[:3])) for c in (light_page, light_text, dark_page, dark_text)
    ]
    assert lightness[0] > 700
    assert lightness[1] < 200
    assert lightness[2] < 200
    assert lightness[3] > 600


def test_it_prints_to_a4(report, browser):
    """Oracle: the page box of the PDF is A4 (210 x 297 mm = 595 x 842 points)."""
    data = browser.pdf()
    boxes = {
        tuple(round(float(n)) for n in m.split())
        for m in re.findall(r"/MediaBox\s*\[([^\]]+)\]", data.decode("latin-1"))
    }
    assert boxes
    for left, bottom, right, top in boxes:
        assert (left, bottom) == (0, 0)
        assert abs(right - 595) <= 1
        assert abs(top - 842) <= 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(report, browser, scheme):
    """Oracle: axe-core's rules for WCAG 2 A and AA."""
    browser.view(1200, scheme=scheme)
    serious, passed = browser.axe()
    assert serious == []
    assert passed > 15
