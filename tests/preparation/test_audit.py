"""What the audit says of a data set, its page, the probes, and the overlap with another set."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from gcsam_med.config import PrepareOptions
from gcsam_med.errors import InputError
from gcsam_med.preparation import Outcome, overlap, prepare, probe
from gcsam_med.preparation.audit import find_conflicts
from gcsam_med.preparation.duplicates import Search
from gcsam_med.reading import sealed
from tests.datasets import layouts

OPTIONS = PrepareOptions(size=32, folds=3)


def biased_table(root: Path, n: int = 80) -> Path:
    """Class b comes from another device, in other sizes, brighter at the border, with text burned in."""
    rows = ["image,mask,label,group,device"]
    for i in range(n):
        b = i % 2
        pixels = layouts.speckle(i, 120, 160 if b else 140) // 2 + (30 if b else 0)
        if b:
            pixels[:10] = 200
        image = Image.fromarray(pixels)
        if b:
            ImageDraw.Draw(image).text((20, 90), "LEFT BREAST 12", fill=255)
        path = root / f"i{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        mask = layouts.blob(i, *pixels.shape)
        if i == 4:
            mask[0, 0] = mask.max()  # a speck
        layouts.save(root / f"m{i}.png", mask)
        rows.append(f"i{i}.png,m{i}.png,{'ab'[b]},patient {i},{'Maker' if b else 'Other'} {i % 3 == 0}")
    colour = np.repeat(np.asarray(Image.open(root / "i0.png"))[..., None], 3, axis=2)
    colour[5:15, 5:40] = (255, 40, 0)
    Image.fromarray(colour).save(root / "i0.png")
    Image.fromarray(np.full((120, 140), 255, dtype=np.uint8)).save(root / "i2.png")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    return root / "table.csv"


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    root = tmp_path_factory.mktemp("biased")
    return prepare("table", biased_table(root / "source"), root / "data", options=OPTIONS, workers=1)


def test_one_mask_for_several_images_is_found_and_several_labels_are_said(tmp_path: Path) -> None:
    """Of 14 images two share a mask; all masks but theirs have the numbers 1 and 2."""
    for i in range(14):
        mask = layouts.blob(0).astype(np.uint8) if i < 2 else layouts.blob(i) * np.uint8(1)
        if i >= 2:
            mask[:, 28:] *= 2
            mask[20, 27:29] = 1, 2
        layouts.save(tmp_path / "images" / f"{i}.png", layouts.speckle(i))
        layouts.save(tmp_path / "masks" / f"{i}.png", mask)
    outcome = prepare("folder", tmp_path, tmp_path / "data", options=OPTIONS, workers=1)
    assert outcome.audit["summary"]["images_with_a_shared_mask"] == 2
    assert [r["images_with_this_mask"] for r in outcome.audit["shared_masks"]] == [2, 2]
    assert any(w.startswith("12 images have masks of several numbers") for w in outcome.warnings)
    assert any(w.startswith("2 images have the same mask") for w in outcome.warnings)
    page = (outcome.dataset.root / "audit.html").read_text(encoding="utf-8")
    assert "Masks that several images share" in page


def test_shortcuts_are_suspected(biased: Outcome) -> None:
    """Width, brightness, marks and device were made to tell the class; they come first."""
    suspects = {s["feature"] for s in biased.audit["shortcuts"] if s["suspicious"]}
    assert {"width", "aspect ratio", "mean brightness", "burned-in marks", "device", "resolution"} <= suspects
    assert "height" not in suspects
    first = biased.audit["shortcuts"][0]
    assert first["suspicious"]
    assert any(w.startswith("Possible shortcuts: ") for w in biased.warnings)


def test_marks_colour_and_outliers_are_listed(biased: Outcome) -> None:
    """The forty images with text; the one with an overlay; the white one; the one with a speck."""
    ids = biased.dataset.manifest["case_id"].tolist()
    marked = {r["case_id"] for r in biased.audit["marks"]}
    odd = set(ids[1::2])
    assert len(marked & odd) >= 30
    assert len(marked - odd) <= 2
    assert [r["case_id"] for r in biased.audit["coloured"]] == [ids[0]]
    assert [r["case_id"] for r in biased.audit["specks"]] == [ids[4]]
    assert any("mask of 1 images" in text for text in biased.warnings)
    assert ids[2] in {r["case_id"] for r in biased.audit["unusual"]}


def test_balance_and_resolutions_add_up(biased: Outcome) -> None:
    """Every case once."""
    balance = biased.audit["balance"]
    assert [row["total"] for row in balance] == [40, 40]
    for split, counts in biased.dataset.info.counts.items():
        assert sum(row[split] for row in balance) == counts["cases"]
    assert {r["resolution"]: r["cases"] for r in biased.audit["resolutions"]} == {
        "160 x 120": 40,
        "140 x 120": 40,
    }


class Page(HTMLParser):
    """Collects what a page would fetch, and its ids."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href") and value and not value.startswith(("data:", "#")):
                self.sources.append(value)
            if name == "id" and value:
                self.ids.append(value)


def test_the_page_needs_nothing_else_and_shows_pictures(biased: Outcome) -> None:
    """One file; no script; thumbnails inside; each section once."""
    text = (biased.dataset.root / "audit.html").read_text()
    page = Page()
    page.feed(text)
    assert page.sources == []
    assert len(page.ids) == len(set(page.ids))
    assert "<script" not in text
    assert len(re.findall(r"data:image/jpeg;base64,", text)) > 10


def test_probes_find_the_border_and_the_device(biased: Outcome) -> None:
    """AUC near 1 for what was planted; shuffled labels predict nothing; all is recorded."""
    audit = probe(biased.dataset)
    by_view = {p["view"]: p for p in audit["probes"]}
    assert set(by_view) == {"border only", "size and metadata only", "lesion masked out", "shuffled labels"}
    for view in ("border only", "size and metadata only", "lesion masked out"):
        assert by_view[view]["auc"] > 0.9
        assert by_view[view]["predicts_class"]
        low, high = by_view[view]["ci95"]
        assert low <= by_view[view]["auc"] <= high
    assert not by_view["shuffled labels"]["predicts_class"]
    stored = json.loads((biased.dataset.root / "audit.json").read_text())
    assert stored["probes"] == audit["probes"]
    assert "Shortcut probes" in (biased.dataset.root / "audit.html").read_text()
    assert probe(biased.dataset)["probes"] == audit["probes"]


def test_probes_need_two_classes(tmp_path: Path) -> None:
    """An expected error."""
    dataset = prepare("busi", layouts.busi(tmp_path / "s"), tmp_path, options=OPTIONS).dataset
    with pytest.raises(InputError, match="at least 20 cases"):
        probe(dataset)


def test_overlap_of_two_data_sets(tmp_path: Path) -> None:
    """One exact and one mirrored, cropped copy in the other set, under another label."""
    one = layouts.class_folders(tmp_path / "one", n=9)
    two = layouts.class_folders(tmp_path / "two", ("c", "d"), n=9)
    for i in range(9):
        for k, label in enumerate("cd"):
            layouts.save(two / label / f"img{i}.png", layouts.speckle(5000 + 100 * k + i))
    (two / "c" / "img0.png").write_bytes((one / "a" / "img3.png").read_bytes())
    image = ImageOps.mirror(Image.open(one / "b" / "img4.png"))
    image.crop((1, 1, 55, 39)).save(two / "d" / "img1.png")
    first = prepare("folder", one, tmp_path, name="one", options=OPTIONS).dataset
    second = prepare("folder", two, tmp_path, name="two", options=OPTIONS).dataset
    result, paths = overlap(first, second, tmp_path / "out")
    assert result["summary"]["exact_pairs"] == 1
    assert result["summary"]["near_pairs"] == 1
    assert result["summary"]["shared_of_first"] == 2
    assert result["summary"]["label_conflicts"] == 2
    assert [(p["first_label"], p["second_label"], p["mirrored"]) for p in result["pairs"]] == [
        ("a", "c", False), ("b", "d", True)
    ]  # fmt: skip
    assert [p.name for p in paths] == ["overlap-two.json", "overlap-two.html"]
    assert json.loads(paths[0].read_text()) == sealed(result)
    assert "Shared pictures" in paths[1].read_text()


def test_no_conflict_without_two_labels() -> None:
    """Nothing found, nothing told."""
    assert find_conflicts([], Search((), 36, 0), "drop") == []
