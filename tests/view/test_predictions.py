"""Predictions are accepted, rejected and corrected, durably; what was taken becomes training data."""

from __future__ import annotations

import io
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gcsam_med.cli import run
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.inference import load, predict
from gcsam_med.view.cases_room import attention
from gcsam_med.view.review import REVIEW, unpack
from tests.view.conftest import BASE, link, opened


def judge(page, base, **remark):
    return page.post(f"{base}/review", json=remark, headers={"Origin": BASE})


def correct(page, base, mask):
    bits = np.packbits(mask).tobytes()
    return page.put(f"{base}/mask", content=bits, headers={"Origin": BASE})


def first(page) -> str:
    """The address of the newest output."""
    return page.get("/predictions").url.path


def test_flagged_images_come_first_and_those_that_failed_are_named(output):
    """Oracle: predictions.csv."""
    page = opened(output)
    text = page.get("/").text  # an output alone opens in its own room
    table = pd.read_csv(output / "predictions.csv", keep_default_na=False)
    good = table[table["status"] == "ok"]
    flagged = set(good[good["flags"] != ""]["name"])
    shown = re.findall(r'<span class="name">([^<]+)</span>', text)
    assert sorted(shown) == sorted(good["name"])
    assert set(shown[: len(flagged)]) == flagged
    assert "1 image could not be used" in text
    assert "torn" in text
    only = page.get(first(page), params={"verdict": "accepted"}).text
    assert "No image matches" in only


def test_a_review_is_on_the_disk_and_becomes_training_data_pixel_for_pixel(output, tmp_path, monkeypatch):
    """Oracle: review.csv, the drawn mask as a file, and the masks of a set that `prepare` makes of it."""
    page = opened(output)
    room = first(page)
    names = pd.read_csv(output / "predictions.csv").query("status == 'ok'")["name"].tolist()
    masks = {}
    for i, name in enumerate(names[:11]):
        mask = np.zeros((40 + int(name.split()[1]), 52), bool)
        mask[5 + i : 20, 7:31] = True
        mask[0, 0] = mask[-1, -1] = True
        answer = correct(page, f"{room}/{i}", mask)
        assert answer.status_code == 200, answer.text
        assert judge(page, f"{room}/{i}", verdict="corrected", comment="=edge, sharper").status_code == 200
        masks[name] = mask
    assert judge(page, f"{room}/11", verdict="rejected").json()["image"] == ""
    table = pd.read_csv(output / REVIEW, keep_default_na=False)
    assert dict(zip(table["name"], table["verdict"], strict=True)) == (
        dict.fromkeys(names[:11], "corrected") | {names[11]: "rejected"}
    )
    for name, mask in masks.items():
        with Image.open(output / f"masks-corrected/{name}.png") as drawn:
            np.testing.assert_array_equal(np.asarray(drawn), mask * 255)
    again = opened(output)
    assert "corrected" in again.get(f"{first(again)}/0").text
    kept = np.asarray(Image.open(io.BytesIO(again.get(f"{first(again)}/0/mask.png").content)))
    np.testing.assert_array_equal(kept, masks[names[0]] * 255)

    monkeypatch.chdir(tmp_path)
    assert run(["prepare", "--dataset", "table", "--source", str(output / REVIEW), "--name", "reviewed",
                "--size", "32", "--modality", "ultrasound"]) == 0  # fmt: skip
    data = open_prepared(tmp_path / "data", "reviewed")
    assert len(data) == 11
    for row, height in enumerate(data.manifest["height"]):  # each image has its own
        np.testing.assert_array_equal(data.original_mask(row), masks[f"scan {height - 40}"])
    assert "sharper" not in (data.root / "manifest.csv").read_text()


def test_accepting_takes_the_predicted_mask_and_a_change_of_mind_counts(output):
    """Oracle: the row of review.csv after each step."""
    page = opened(output)
    base = f"{first(page)}/2"
    taken = judge(page, base, verdict="accepted").json()
    assert (output / taken["image"]).is_file()
    assert (output / taken["mask"]).is_file()
    judge(page, base, verdict="", comment="look again")
    (row,) = pd.read_csv(output / REVIEW, keep_default_na=False).to_dict("records")
    assert (row["verdict"], row["mask"], row["comment"]) == ("", "", "look again")


def test_what_does_not_fit_is_refused_and_nothing_is_written(output):
    """Oracle: status and words; no review.csv."""
    page = opened(output)
    base = f"{first(page)}/0"
    wrong = page.put(f"{base}/mask", content=b"123", headers={"Origin": BASE, "Accept": "application/json"})
    assert wrong.status_code == 409
    assert "not 3" in wrong.json()["error"]
    assert judge(page, base, verdict="excellent").status_code == 409
    assert judge(page, base, verdict="accepted", path="../../x").status_code == 409
    assert judge(page, base, verdict="corrected").status_code == 409  # nothing was drawn
    assert judge(page, f"{first(page)}/99", verdict="accepted").status_code == 404
    assert page.post(f"{base}/review", json={"verdict": "accepted"}).status_code == 403  # no Origin
    assert not (output / REVIEW).exists()


def test_names_that_predict_does_not_give_are_refused(output):
    """Oracle: a table whose name leads out of the folder: nothing of it is opened."""
    table = (output / "predictions.csv").read_text().replace("scan 1,ok", "../../x,ok")
    (output / "predictions.csv").write_text(table)
    page = opened(output)
    answer = page.get("/predictions")
    assert answer.status_code == 409
    assert "names that predict does not give" in answer.text
    (output / "predictions.csv").write_text(table.replace("../../x,ok", "x,ok").replace("area_share", "area"))
    answer = opened(output).get("/predictions")
    assert answer.status_code == 409
    assert "has no column area_share" in answer.text


def test_an_image_that_was_moved_away_is_told(output, tmp_path):
    """Oracle: the words, on the page's own request."""
    text = (output / "predictions.csv").read_text()
    moved = re.sub(r"^[^,]*/(scan \d+.png)", rf"{tmp_path}/gone/\1", text, flags=re.MULTILINE)
    (output / "predictions.csv").write_text(moved)
    page = opened(output)
    answer = page.get(f"{first(page)}/0/scene.json", headers={"Accept": "application/json"})
    assert "not where it was" in answer.json()["error"]
    assert page.get(f"{first(page)}/0/thumb.jpg").status_code == 200  # its overlay is there


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (16, 16), (7, 9)])
def test_a_mask_of_bits_comes_back(shape):
    """Oracle: NumPy's packbits."""
    mask = np.random.default_rng(1).random(shape) > 0.5
    np.testing.assert_array_equal(unpack(np.packbits(mask).tobytes(), *shape), mask)


def test_a_predicted_class_is_accepted_or_corrected(tmp_path):
    """Oracle: the label column of review.csv, which `prepare --dataset table` takes as the class."""
    folder = tmp_path / "calls"
    folder.mkdir()
    Image.fromarray(np.full((20, 30), 90, np.uint8)).save(tmp_path / "one.png")
    (folder / "predictions.csv").write_text(
        "input,name,status,reason,flags,height,width,predicted,prob_sick,prob_well\n"
        f"{tmp_path}/one.png,one,ok,,coloured,20,30,sick,0.8,0.2\n"
    )
    (folder / "predictions.json").write_text(json.dumps({"classes": ["sick", "well"]}))
    page = opened(folder)
    base = link(page.get(first(page)).text, r"/predictions/\w+/0")
    assert "sick 0.80" in page.get(base).text
    assert judge(page, base, verdict="accepted").json()["label"] == "sick"
    assert judge(page, base, verdict="corrected", label="well").json()["label"] == "well"
    assert judge(page, base, verdict="corrected", label="dead").status_code == 409
    assert pd.read_csv(folder / REVIEW)["label"].tolist() == ["well"]


def test_a_heat_map_of_the_predicted_class_lies_over_a_classified_image(runs, predicted, tmp_path):
    """Oracle: Grad-CAM of the same model on the same image; without the run there is no map."""
    folder = tmp_path / "calls"
    predict(runs / "calls", sorted(predicted.parent.glob("images*/*.png"))[:1], folder, device="cpu")
    called = pd.read_csv(folder / "predictions.csv")["predicted"][0]
    page = opened(folder)
    base = link(page.get(first(page)).text, r"/predictions/\w+/0")
    assert page.get(f"{base}/scene.json").json()["heat"] is False  # the run is not at hand
    inside = runs / "calls" / "predictions" / "heat"
    shutil.copytree(folder, inside)
    try:
        page = opened(inside)
        base = link(page.get(first(page)).text, r"/predictions/\w+/0")
        assert page.get(f"{base}/scene.json").json()["heat"] is True
        shown = np.asarray(Image.open(io.BytesIO(page.get(f"{base}/heat.png").content)))
    finally:
        shutil.rmtree(runs / "calls" / "predictions")
    model = load(runs / "calls", device="cpu")
    pixels = np.asarray(Image.open(pd.read_csv(folder / "predictions.csv")["input"][0]))
    part = model.decoded(pixels)
    top, left, bottom, right = part.geometry.box
    expected = attention(model.ensemble.models[0], part.letterboxed, called)[top:bottom, left:right]
    assert shown.shape == (*expected.shape, 4)
    assert np.abs(shown[..., 3].astype(float) - np.clip(expected, 0, 1) * 180).max() <= 1
