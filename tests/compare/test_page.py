"""``comparison.html`` as a person sees it, in headless Chromium; skipped where that is not installed."""

import json

import pytest

from gcsam_med.reporting.write import comparison_json, write_comparison
from tests.compare.made_up import three_arms
from tests.reporting.browser import CHROMIUM, DRIVER, Browser

pytestmark = pytest.mark.slow


def test_the_json_holds_no_nan_and_every_pair():
    """Oracle: the JSON standard, which knows no NaN; three arms make three pairs."""
    found = json.loads(json.dumps(comparison_json(three_arms()[0]), allow_nan=False))
    assert [(p["first"], p["second"], p["verdict"]) for p in found["pairs"]] == [
        ("adam", "sam", "no difference shown"),
        ("adam", "gcsam", "higher"),
        ("sam", "gcsam", "higher"),
    ]


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and chromedriver are not installed")
def test_the_page_in_a_browser(tmp_path):
    """Oracle: the browser's logs and boxes, and axe-core's rules, narrow and wide, light and dark."""
    page = write_comparison(three_arms()[0], tmp_path)[0]
    with Browser() as browser:
        browser.view(1200)
        browser.open(page)
        assert [entry["message"] for entry in browser.logs("browser")] == []
        headings = browser.run("return [...document.querySelectorAll('h2')].map(h => h.textContent)")
        assert {"Summary", "Results", "Differences", "Cost", "Other tests", "Methods"} <= set(headings)
        boxes = browser.run(
            "return [...document.querySelectorAll('figure svg')].map(e => e.getBoundingClientRect().width)"
        )
        assert len(boxes) == 3
        assert min(boxes) > 100
        for width in (400, 1600):
            browser.view(width)
            assert browser.run("return document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark"):
            browser.view(1200, scheme=scheme)
            serious, passed = browser.axe()
            assert serious == []
            assert passed > 15
