"""One data root for all runs of the tiny network, and a sound project."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gcsam_med.cli import run as command
from gcsam_med.compare.protocol import freeze
from gcsam_med.training import train
from tests.builders import make_prepared, make_run, picture, with_fingerprints
from tests.reliability import kills
from tests.reliability.hostile.project import Project


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data root with the prepared set ``toy``; the network ``tiny`` is in the table meanwhile."""
    folder = tmp_path_factory.mktemp("reliability")
    with kills.tiny_network():
        kills.prepare(folder)
        yield folder


def seal(project: Project) -> None:
    """Add two sets, two classifiers of the first, and a protocol that tests them on the second."""
    home, far = (
        with_fingerprints(make_prepared(project.data, n=n, size=32, name=name, seed=n), n)
        for name, n in (("home", 30), ("far", 24))
    )
    for seed in (0, 1):
        given = {"model": "tiny-classifier", "name": f"r{seed}", "classes": ("benign", "malignant")}
        make_run(project.root / "runs", home, "classification", seed=seed, **given)
    with chdir(project.root):  # so that its paths hold in a copy
        runs = [Path("runs/r0"), Path("runs/r1")]
        freeze(runs, [far.info.name], Path("protocol.json"), outcome="auc", margin=0.05)


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
