import numpy as np

from gcsam_med.reporting.page import PREDICTIONS_SHOWN, predictions_html, thumbnail
from tests.reporting.test_report_page import EVIL, Page

SETTINGS = {
    "task": "segmentation",
    "tool_version": "1",
    "classes": ["lesion"],
    "threshold": 0.5,
    "threshold_from": "chosen on validation",
    "postprocessing": "none",
    "synthetic": False,
}


def row(name, flags="", **more):
    columns = {"area_px": 50, "area_mm2": None, "area_share": 0.25, "max_probability": 0.9}
    return {"input": name, "name": name, "status": "ok", "reason": "", "flags": flags, **columns, **more}


def test_flagged_images_come_first_and_every_name_is_text():
    """Oracle: by hand; a hostile name adds no element, a missing thumbnail no picture."""
    rows = [row("plain"), row(EVIL, flags=EVIL), row("c", area_px=0, area_mm2=1.0)]
    rows.append({"input": "x", "name": "bad", "status": "failed", "reason": "empty: 0 bytes", "flags": ""})
    picture = np.full((20, 30), 99, np.uint8)
    text = predictions_html(rows, SETTINGS, {"plain": picture, EVIL: picture})
    page = Page(text)
    assert "<script" not in text.lower()
    assert len(page.all("img")) == 2
    assert page.text.index("Flagged images") < page.text.index("plain") < page.text.index("Nothing marked")
    assert "Marked: 50 px (25.0 % of the image)" in page.text
    assert ["bad", "empty: 0 bytes"] in page.rows
    assert "Research only, not for clinical use" in page.text


def test_a_classification_shows_the_class_and_its_probability():
    """Oracle: by hand."""
    rows = [row("a", predicted="benign", prob_benign=0.71, prob_malignant=0.29)]
    settings = SETTINGS | {"task": "classification", "classes": ["benign", "malignant"]}
    assert "benign: probability 0.710" in Page(predictions_html(rows, settings, {})).text


def test_a_long_list_is_cut_and_says_so():
    """Oracle: the flagged image is the last of 600, and is shown."""
    rows = [row(f"n{i}") for i in range(599)] + [row("last", flags="models disagree")]
    text = Page(predictions_html(rows, SETTINGS, {})).text
    assert f"This page shows {PREDICTIONS_SHOWN} of 600 images" in text
    assert "last" in text
    assert thumbnail(np.zeros((1000, 500, 3), np.uint8)).shape == (240, 120, 3)
