"""``comparison.html`` as a person sees it, in headless Chromium; skipped where that is not installed."""

import dataclasses
import json

import numpy as np
import pytest

from gcsam_med.reporting.comparison import ComparedCase
from gcsam_med.reporting.write import comparison_json, write_comparison
from tests.compare.made_up import three_arms
from tests.reporting.browser import CHROMIUM, DRIVER, Browser

pytestmark = [pytest.mark.slow, pytest.mark.figures]


def test_the_json_holds_no_nan_and_every_pair():
    """Oracle: the JSON standard, which knows no NaN; three arms make three pairs."""
    found = json.loads(json.dumps(comparison_json(three_arms()[0]), allow_nan=False))
    assert [(p["first"], p["second"], p["verdict"]) for p in found["pairs"]] == [
        ("adam", "sam", "no difference shown"),
        ("adam", "gcsam", "higher"),
        ("sam", "gcsam", "higher"),
    ]


def test_the_page_shows_the_same_cases_in_each_arm_and_links_to_the_reports_that_are_there(tmp_path):
    """Oracle: what was put in; comparison.json holds neither pictures nor folders."""
    comparison = three_arms()[0]
    name = comparison.arms[0].runs[0]
    report = tmp_path / "runs" / name / "evaluation" / comparison.split / "report.html"
    report.parent.mkdir(parents=True)
    report.touch()
    image = np.zeros((8, 8, 3), np.uint8)
    case = ComparedCase(
        "largest loss", "c7", "benign", (("adam", image, "Dice 0.90"), ("gcsam", image, "Dice 0.10"))
    )
    folders = {run: tmp_path / "runs" / run for arm in comparison.arms for run in arm.runs}
    page = write_comparison(
        dataclasses.replace(comparison, folders=folders, shown_cases=(case,)), tmp_path / "out"
    )[0].read_text()
    assert page.count(f'href="../runs/{name}/evaluation/{comparison.split}/report.html"') == 1
    assert page.count("report.html") == 1
    assert "Largest loss: c7 (benign)" in page
    assert page.index("Dice 0.90") < page.index("Dice 0.10")
    assert "folders" not in json.loads((tmp_path / "out" / "comparison.json").read_text())
    for figure in ("arms", "differences", "cost"):
        assert (tmp_path / "out" / "figures" / f"{figure}.png").stat().st_size > 5_000


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
