"""A small data set with a run of each task, evaluated, once a session; and the page over them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gcsam_med.evaluation import evaluate
from gcsam_med.view.library import Library
from gcsam_med.view.rooms import routes
from gcsam_med.view.server import application
from tests.builders import make_prepared, make_run

BASE, TOKEN = "http://127.0.0.1:8000", "of-this-test"


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    """A folder with the evaluated runs ``masks`` and ``calls``, of networks that learned nothing."""
    root = tmp_path_factory.mktemp("view")
    dataset = make_prepared(root / "data", n=30)
    for name, task in (("masks", "segmentation"), ("calls", "classification")):
        run = make_run(root / "runs", dataset, task, name=name)
        evaluate(run, device="cpu", resamples=100)
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
