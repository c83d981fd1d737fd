"""A small data set with a run of each task, evaluated, once a session; and the page over them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from gcsam_med.evaluation import evaluate_run, evaluation_folder
from gcsam_med.files import write_json
from gcsam_med.inference import predict
from gcsam_med.reporting.tables import frame_to_csv
from gcsam_med.reporting.write import metrics_json
from gcsam_med.view.library import Library
from gcsam_med.view.rooms import routes
from gcsam_med.view.server import application
from tests.builders import make_prepared, make_run, picture

BASE, TOKEN = "http://127.0.0.1:8000", "of-this-test"


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    """A folder with the evaluated runs ``masks`` and ``calls``, of networks that learned nothing."""
    root = tmp_path_factory.mktemp("view")
    dataset = make_prepared(root / "data", n=30)
    for name, task in (("masks", "segmentation"), ("calls", "classification")):
        run = make_run(root / "runs", dataset, task, name=name)
        report = evaluate_run(run, device="cpu", resamples=100)
        folder = evaluation_folder(report, run)
        folder.mkdir(parents=True)
        write_json(folder / "metrics.json", metrics_json(report))
        (folder / "cases.csv").write_text(frame_to_csv(report.cases), encoding="utf-8")
    return root / "runs"


def opened(target: Path) -> TestClient:
    """The page over a folder, for who brought the token."""
    client = TestClient(
        application(routes(Library(target)), 8000, TOKEN), base_url=BASE, raise_server_exceptions=False
    )
    client.get("/static/view.css", params={"token": TOKEN})
    return client


def link(text: str, pattern: str) -> str:
    """The first address in a page that fits."""
    found = re.search(rf'(?:href|src|value|data-base)="({pattern})"', text)
    assert found is not None, pattern
    return found[1]


@pytest.fixture(scope="session")
def predicted(runs, tmp_path_factory) -> Path:
    """What `predict` wrote for a folder of thirteen images, one of them damaged."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(5)
    for i in range(12):
        pixels, _ = picture("benign" if i % 2 else "malignant", 40 + i, 52, rng)
        Image.fromarray(pixels).save(folder / f"scan {i}.png")
    (folder / "torn.png").write_bytes(b"no picture")
    predict(runs / "masks", folder, folder.parent / "predicted", device="cpu", threshold=0.5)
    return folder.parent / "predicted"


@pytest.fixture
def output(predicted, tmp_path) -> Path:
    """A copy of it, to review."""
    return Path(shutil.copytree(predicted, tmp_path / "output"))
