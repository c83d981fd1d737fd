"""The local page as a person uses it, in headless Chromium; skipped where it is not installed."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import uvicorn
from PIL import Image

from gcsam_med.cli import run
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.view.library import Library
from gcsam_med.view.rooms import routes
from gcsam_med.view.server import application, listen
from tests.reporting.browser import CHROMIUM, DRIVER, Browser

pytestmark = [
    pytest.mark.figures,
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and chromedriver are not installed"),
]
READY = "document.querySelectorAll('.stage').length == document.querySelectorAll('.stage[data-ready]').length"
SAVED = "document.querySelector('[data-status]').textContent.startsWith('Saved')"


class Page(Browser):
    """Chromium with the page of a folder in it."""

    base: str

    def go(self, path: str) -> None:
        self.open(self.base + path)

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def until(self, condition: str) -> None:
        end = time.monotonic() + 60
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, condition
            time.sleep(0.05)

    def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if kind == "keyDown" and len(key) == 1 else {}
            self.devtools("Input.dispatchKeyEvent", type=kind, key=key, **text)

    def drag(self, *points: tuple[float, float]) -> None:
        """Press at the first point, move over the others, and let go; in parts of the picture."""
        box = self.run(
            "const b = document.querySelector('.layers').getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]"
        )
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            at = {"x": box[0] + x * box[2], "y": box[1] + y * box[3]}
            self.devtools("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **at)


@pytest.fixture(scope="module")
def output(runs, predicted):
    """An output of predict inside a run, to review."""
    folder = Path(shutil.copytree(predicted, runs / "masks/predictions/mine"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def page(runs, output):
    with listen(0) as opened:
        port = opened.getsockname()[1]
        config = uvicorn.Config(
            application(routes(Library(runs)), port, "once"), log_level="critical", lifespan="off", ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        with Page() as browser:
            browser.base = f"http://127.0.0.1:{port}"
            browser.view(1200)
            browser.go("/?token=once")
            yield browser
        server.should_exit = True
        thread.join(20)


def check(page, what):
    """No message in the console, nothing wider than the window, and no serious violation by axe-core."""
    assert [entry["message"] for entry in page.logs("browser")] == [], what
    serious, passed = page.axe()
    assert serious == [], what
    assert passed > 15


def test_every_room_is_clicked_through(page):
    """Oracle: headings and pictures that must be there; axe-core; the browser's own log."""
    page.click("nav a[href='/runs']")
    page.until("document.querySelectorAll('polyline').length > 3")
    check(page, "runs")
    page.click("a[href^='/reports/']")
    page.until("document.querySelector('iframe')")
    page.go("/cases")
    page.until("[...document.images].slice(0, 4).every(i => i.complete && i.naturalWidth)")
    check(page, "cases")
    page.click(".grid a")
    page.until(READY)
    check(page, "case")
    first = page.run("return location.href")
    page.key("c")
    assert page.run("return document.querySelector('.outlines').hasAttribute('hidden')")
    page.key("h")
    page.until("document.querySelector('.heat').naturalWidth")
    page.key("+")
    assert "scale(1.4)" in page.run("return document.querySelector('.layers').style.transform")
    slope = "return Number(document.querySelector('feFuncR').getAttribute('slope'))"
    before = page.run(slope)
    page.drag((0.3, 0.5), (0.45, 0.5))
    assert page.run(slope) > before
    page.key("ArrowRight")
    page.until(f"location.href != '{first}' && {READY}")
    page.go("/compare")
    page.click(".grid a")
    page.until(READY)
    check(page, "compare")
    page.view(400, scheme="dark")
    for room in ("/runs", "/cases", "/predictions", "/compare", "/try"):
        page.go(room)
        assert page.run("return document.documentElement.scrollWidth") <= 400, room
        check(page, f"{room}, dark and narrow")
    page.view(1200)


def test_a_correction_is_drawn_kept_and_becomes_training_data(page, output, tmp_path, monkeypatch):
    """Oracle: review.csv and the masks of a prepared set, pixel for pixel; the page after a reload."""
    page.go("/predictions")
    page.click(".grid a")
    page.until(READY)
    name = page.run("return document.querySelector('h1').textContent")
    page.key("b")
    page.until("document.querySelector('.stage[data-drawing]')")
    page.run("document.querySelector('[name=size]').value = 60")
    page.drag((0.2, 0.2), (0.5, 0.25), (0.6, 0.6))
    page.key("e")
    page.drag((0.8, 0.2), (0.8, 0.8))
    page.until(f"{SAVED} && !document.querySelector('.viewer').controls.busy()")
    with Image.open(output / f"masks-corrected/{name}.png") as saved:
        mask = np.asarray(saved) == 255
    with Image.open(output / f"masks/{name}.png") as former:
        assert (mask != (np.asarray(former) == 255)).sum() > 20
    height, width = mask.shape
    assert mask[round(0.25 * height), round(0.5 * width)]
    assert not mask[round(0.5 * height), round(0.8 * width)]
    page.run("document.querySelector('[name=comment]').value = 'rim'; arguments[0];", 0)
    page.run("document.querySelector('[name=comment]').dispatchEvent(new Event('input', {bubbles: true}))")
    page.until("!document.querySelector('.viewer').controls.busy()")
    page.run("location.reload()")
    page.until(f"{READY} && document.querySelector('.stage[data-drawing]')")
    shown = page.run("return [...document.querySelector('.viewer').controls.mask]")
    np.testing.assert_array_equal(np.reshape(shown, mask.shape) == 1, mask)
    check(page, "prediction")

    for _ in range(11):  # the others are accepted by keys alone
        address = page.run("return location.href")
        page.key("ArrowRight")
        page.until(f"location.href != '{address}' && {READY}")
        page.key("a")
        page.until(SAVED)
    table = pd.read_csv(output / "review.csv", keep_default_na=False).set_index("name")
    assert table["verdict"].tolist().count("accepted") == 11
    assert tuple(table.loc[name, ["verdict", "comment"]]) == ("corrected", "rim")
    monkeypatch.chdir(tmp_path)
    source = ["--source", str(output / "review.csv"), "--mask-values", "1-255", "--empty-masks", "healthy"]
    named = ["--name", "reviewed", "--size", "32", "--modality", "ultrasound"]
    assert run(["prepare", "--dataset", "table", *source, *named]) == 0
    data = open_prepared(tmp_path / "data", "reviewed")
    (row,) = np.flatnonzero(data.manifest["height"] == height)
    np.testing.assert_array_equal(data.original_mask(int(row)), mask)


def test_an_image_of_ones_own_is_tried(page, tmp_path):
    """Oracle: the page names the answer and says what it is not for; a file that is none is told."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 60), np.uint8)).save(tmp_path / "own.png")
    (tmp_path / "none.png").write_bytes(b"nothing")

    def choose(name):
        page.go("/try")
        root = page.devtools("DOM.getDocument")["root"]["nodeId"]
        node = page.devtools("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
        page.devtools("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / name)])

    choose("own.png")
    page.until(f"location.pathname.startsWith('/try/answers/') && {READY}")
    text = page.run("return document.body.innerText")
    assert "not for diagnosis" in text
    assert "How sure" in text
    check(page, "answer")
    choose("none.png")
    page.until("document.querySelector('[data-status]').textContent.includes('none.png')")
    page.logs("browser")  # holds the answer 409


def test_of_two_thousand_pictures_only_those_near_are_made_and_laid_out(page):
    """Oracle: which pictures the browser asked for before and after it is scrolled to the end."""
    page.go("/cases")
    page.run(
        "const grid = document.querySelector('.grid'), cells = [...grid.children]; let part = grid;"
        "for (let n = cells.length; n < 2000; n++) {"
        " if (part.children.length >= 168) { part = grid.cloneNode(); grid.parentNode.append(part); }"
        " const copy = cells[n % cells.length].cloneNode(true);"
        " copy.querySelector('img').src += '?' + n; part.append(copy); }"
    )
    page.until("[...document.images].slice(0, 12).every(i => i.complete && i.naturalWidth)")
    assert page.run("return [...document.images].filter(i => i.naturalWidth).length") < 400
    assert page.run("return getComputedStyle(document.querySelector('.grid')).contentVisibility") == "auto"
    page.run("scrollTo(0, document.body.scrollHeight)")
    page.until("[...document.images].slice(-4).every(i => i.naturalWidth)")
    assert page.run("return [...document.images].filter(i => i.naturalWidth).length") < 1000
