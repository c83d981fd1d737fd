"""All cases of an evaluation as a grid, and each with its picture, outlines and map."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.view.cases_room import open_cases
from gcsam_med.view.library import Library
from gcsam_med.view.pictures import path_of
from tests.view.conftest import opened


@pytest.fixture(scope="module")
def page(runs):
    return opened(runs)


def evaluation(runs: Path, run: str) -> str:
    library = Library(runs)
    return next(key for key, e in library.evaluations().items() if e.run.name == run)


def shown(text: str) -> list[str]:
    return re.findall(r'<span class="name">([^<]+)</span>', text)


def test_the_grid_shows_every_case_in_the_order_asked_for(page, runs):
    """Oracle: cases.csv, sorted by hand with pandas."""
    table = pd.read_csv(runs / "masks/evaluation/test/cases.csv")
    address = f"/cases/{evaluation(runs, 'masks')}"
    lesion = table[table["dice"].notna()]
    worst = shown(page.get(address).text)
    assert sorted(worst) == sorted(table["case_id"])
    expected = lesion.sort_values("dice", kind="stable")["case_id"].tolist()
    assert worst[: len(lesion)] == expected
    best = shown(page.get(address, params={"sort": "best"}).text)
    assert (
        best[: len(lesion)] == lesion.sort_values("dice", ascending=False, kind="stable")["case_id"].tolist()
    )
    some = table["label"].iloc[0]
    filtered = shown(page.get(address, params={"label": some, "sort": "name"}).text)
    assert filtered == table[table["label"] == some]["case_id"].tolist()
    assert page.get("/cases").status_code == 200


def test_confident_errors_come_first_and_flags_filter(page, runs):
    """Oracle: the columns of cases.csv."""
    table = pd.read_csv(runs / "calls/evaluation/test/cases.csv")
    address = f"/cases/{evaluation(runs, 'calls')}"
    wrong = set(table[table["correct"] == 0]["case_id"])
    assert wrong
    assert set(shown(page.get(address).text)[: len(wrong)]) == wrong
    assert set(shown(page.get(address, params={"flag": "wrong"}).text)) == wrong


@pytest.mark.parametrize("run", ["masks", "calls"])
def test_a_case_is_shown_with_all_that_lies_over_it(page, runs, run):
    """Oracle: the stored pixels, the true mask, and the areas and probabilities that evaluate wrote."""
    key = evaluation(runs, run)
    table = pd.read_csv(runs / f"{run}/evaluation/test/cases.csv")
    data = open_prepared(runs.parent / "data", "toy")
    row = data.manifest["case_id"].tolist().index(table["case_id"].iloc[0])
    base = f"/cases/{key}/0"
    text = page.get(base).text
    assert table["case_id"].iloc[0] in text
    pixels = np.asarray(Image.open(io.BytesIO(page.get(f"{base}/image.png").content)))
    top, left, bottom, right = data.geometry(row).box
    np.testing.assert_array_equal(pixels, data.images([row])[0][top:bottom, left:right])
    scene = page.get(f"{base}/scene.json").json()
    assert (scene["height"], scene["width"]) == data.original_mask(row).shape
    assert scene["outlines"]["truth"] == path_of(data.original_mask(row))
    heat = Image.open(io.BytesIO(page.get(f"{base}/heat.png").content))
    assert heat.mode == "RGBA"
    assert heat.size == pixels.shape[1::-1]
    library = Library(runs)
    exact = open_cases(library, library.evaluation(key)).scene(0)
    if run == "masks":
        assert exact.masks["prediction"].sum() == table["area_predicted"].iloc[0]
    else:
        probabilities = [float(value) for _, value in scene["facts"]]
        assert probabilities == pytest.approx(
            [table[c].iloc[0] for c in table if c.startswith("prob_")], abs=6e-4
        )
    thumb = Image.open(io.BytesIO(page.get(f"{base}/thumb.jpg").content))
    assert max(thumb.size) == 200
    assert page.get(f"/cases/{key}/100000").status_code == 404


def test_the_path_of_a_mask_encloses_its_pixels():
    """Oracle: Pillow fills the path, drawn large; it covers every pixel's middle and no other's."""
    mask = np.zeros((12, 15), bool)
    mask[2:7, 3:9] = mask[9:, 12:] = True
    mask[4, 5] = False
    drawn = np.zeros((120, 150), bool)
    for line in path_of(mask).split("Z")[:-1]:
        points = [tuple(10 * float(v) for v in p.split(",")) for p in line[1:].split("L")]
        canvas = Image.new("1", (150, 120))
        ImageDraw.Draw(canvas).polygon(points, fill=1)
        drawn ^= np.asarray(canvas)  # a hole's line turns its inside off again
    np.testing.assert_array_equal(drawn[5::10, 5::10], mask)


def test_a_data_set_that_is_gone_is_told_with_the_way_out(runs, tmp_path):
    """Oracle: the words of `evaluate` itself, on the page."""
    page = opened(runs)
    key = evaluation(runs, "masks")
    library = Library(runs, tmp_path)
    (tmp_path / "prepared").mkdir()
    hidden = runs.parent / "data/prepared/toy/dataset.json"
    hidden.rename(hidden.with_suffix(".away"))
    try:
        answer = page.get(f"/cases/{key}")
        assert answer.status_code == 409
        assert "own data set cannot be used" in answer.text.replace("&#39;", "'")
        assert library.evaluation(key).name == "test"
    finally:
        hidden.with_suffix(".away").rename(hidden)
