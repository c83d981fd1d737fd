"""Runs side by side on the same cases, and the answer about an image of one's own."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gcsam_med import load
from gcsam_med.files import write_json
from gcsam_med.view.pictures import path_of
from tests.builders import picture
from tests.view.conftest import BASE, link, opened


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    """Three runs: two of them, with the same model, were evaluated on the same cases."""
    folder = tmp_path_factory.mktemp("arms")
    for name, of in (("one", "masks"), ("two", "masks"), ("calls", "calls")):
        shutil.copytree(runs / of, folder / name)
    cases = folder / "two/evaluation/test/cases.csv"
    table = pd.read_csv(cases)
    table["dice"] = table["dice"].clip(upper=0.9) + np.linspace(0.0, 0.1, len(table))
    table.to_csv(cases, index=False)
    metrics = json.loads(cases.with_name("metrics.json").read_text())
    metrics["cases_sha256"] = hashlib.sha256(cases.read_bytes()).hexdigest()
    write_json(cases.with_name("metrics.json"), metrics)
    return opened(folder), table, pd.read_csv(folder / "one/evaluation/test/cases.csv")


def test_arms_stand_side_by_side_the_largest_difference_first(page):
    """Oracle: the differences of Dice, sorted by hand; a run of another task is left out, or refused."""
    client, two, one = page
    start = client.get("/compare").text
    assert len(re.findall(r'name="run"[^>]* checked', start)) == 2
    keys = dict(re.findall(r'value="(\w+)"[^>]*> (\w+), test', start))
    names = {name: key for key, name in keys.items()}
    arms = [("run", names["one"]), ("run", names["two"])]
    text = client.get("/compare", params=arms).text
    shown = re.findall(r'<span class="name">([^<]+)</span>', text)
    gap = (two["dice"] - one["dice"]).abs()
    assert (
        shown[: gap.notna().sum()] == one["case_id"][gap.sort_values(ascending=False).dropna().index].tolist()
    )
    case = client.get(link(text, r"/compare/\d+[^\"]*").replace("&amp;", "&")).text
    assert case.count('class="stage"') == 2
    for base in re.findall(r'data-base="([^"]+)"', case):
        assert client.get(f"{base}/scene.json").json()["outlines"]["prediction"] != ""
    refused = client.get("/compare", params=[*arms, ("run", names["calls"])])
    assert refused.status_code == 409
    assert "another task" in refused.text


def test_a_damaged_run_is_named_and_the_others_shown(runs, tmp_path):
    """Oracle: a changed table of one run; the page names it, and has every case of the other."""
    for name in ("one", "two"):
        shutil.copytree(runs / "masks", tmp_path / name)
    cases = tmp_path / "two/evaluation/test/cases.csv"
    cases.write_text(cases.read_text().replace("0.", "0.1", 1))
    answer = opened(tmp_path).get("/compare")
    assert answer.status_code == 200
    assert re.search("two is left out: .*cases.csv.*was changed since it was written", answer.text)
    n = len(pd.read_csv(tmp_path / "one/evaluation/test/cases.csv"))
    assert len(re.findall(r'<span class="name">', answer.text)) == n
    cases.with_name("metrics.json").write_text("{")
    assert "two is left out" in opened(tmp_path).get("/compare").text


@pytest.mark.parametrize("run", ["masks", "calls"])
def test_an_image_is_tried_and_nothing_is_written(runs, tmp_path, run):
    """Oracle: `gcsam_med.load` on the same file; the folder's files before and after."""
    pixels, _ = picture("malignant", 44, 60, np.random.default_rng(3))
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG")
    before = sorted(runs.rglob("*"))
    client = opened(runs / run)
    key = link(client.get("/try").text, r"\w{12}")

    def send(content: bytes):
        headers = {"Origin": BASE, "Accept": "application/json", "X-File-Name": "..%2Fmy%20scan.png"}
        return client.post(f"/try/{key}", content=content, headers=headers)

    base = send(data.getvalue()).json()["answer"]
    text = client.get(base).text
    scene = client.get(f"{base}/scene.json").json()
    exact = load(runs / run).predict(pixels)
    assert "not for diagnosis" in text
    if run == "masks":
        assert scene["outlines"]["prediction"] == path_of(exact.mask)
        assert client.get(f"{base}/heat.png").status_code == 200
    else:
        assert f"{exact.predicted}, probability" in text
        assert client.get(f"{base}/heat.png").status_code == 404
    sent = np.asarray(Image.open(io.BytesIO(client.get(f"{base}/image.png").content)))
    np.testing.assert_array_equal(sent, pixels)
    for content, word in ((b"", "0 bytes"), (b"nothing", "my scan.png")):
        refused = send(content)
        assert refused.status_code == 409
        assert word in refused.json()["error"]
    assert client.get("/try/answers/gone").status_code == 404
    assert sorted(runs.rglob("*")) == before
    assert not list(Path(tmp_path).iterdir())
