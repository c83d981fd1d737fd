"""One data root for all runs of the tiny network, and a sound project."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gcsam_med.cli import run as command
from gcsam_med.training import train
from tests.builders import make_prepared, picture
from tests.reliability import kills
from tests.reliability.hostile.project import Project, seal


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data root with the prepared set ``toy``; the network ``tiny`` is in the table meanwhile."""
    folder = tmp_path_factory.mktemp("reliability")
    with kills.tiny_network():
        kills.prepare(folder)
        yield folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sound project, which every test copies."""
    torch.set_num_threads(1)
    project = Project(tmp_path_factory.mktemp("hostile") / "project")
    make_prepared(project.data, n=36, size=32)
    rng = np.random.default_rng(0)
    for number in range(16):
        label = ("benign", "malignant")[number % 2]
        (project.source / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(label, 40, 48, rng)[0]).save(project.source / label / f"{number}.png")
    with kills.tiny_network():
        for number, folder in enumerate((project.run, project.other)):
            config = kills.Trial("adam", 0.0, number).config(project.data)
            train(config.model_copy(update={"epochs": 1}), folder)
            assert command(["evaluate", str(folder), "--device", "cpu", "--resamples", "100", "-q"]) == 0
            for unread in ("figures", "tables"):  # hundreds of copies are made
                shutil.rmtree(folder / "evaluation/test" / unread)
        seal(project)
        yield project.root
