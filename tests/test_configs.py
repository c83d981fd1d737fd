"""The example configurations: what their heads promise holds, and each kind really trains."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models import SwinTransformer, VisionTransformer

from gcsam_med.config import load_config, with_overrides
from gcsam_med.datasets import DATASETS
from gcsam_med.datasets.prepared import IMAGES, open_prepared
from gcsam_med.networks import find_network
from gcsam_med.networks.pretrained import weights_url
from gcsam_med.optim import OPTIMIZERS
from gcsam_med.runs import load_model
from gcsam_med.training import Callback, Start, train
from tests.builders import make_prepared, reseal

FOLDER = Path(__file__).resolve().parents[1] / "configs"
FILES = sorted(FOLDER.glob("*.yaml"))
EACH = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def head(file: Path) -> dict[str, str]:
    """Entries of the opening comment."""
    entries: dict[str, str] = {}
    for line in file.read_text().splitlines():
        if not line.startswith("# "):
            break
        start = re.match(r"# ([A-Z][a-z ]+): (.*)", line)
        if start:
            name, entries[start[1]] = start[1], start[2]
        else:
            entries[name] += ("\n" if name == "Command" else " ") + line[2:].strip()
    return entries


def commands(file: Path) -> dict[str, list[str]]:
    lines = [shlex.split(line) for line in head(file)["Command"].splitlines() if line.startswith("gcsam-med")]
    return {words[1]: words[2:] for words in lines}


def option(words: list[str], name: str, default: str) -> str:
    return words[words.index(name) + 1] if name in words else default


def test_there_is_one_for_each_of_the_paper_s_experiments():
    """Oracle: the data sets and networks that the paper names."""
    found = {(c.dataset, c.model) for c in (load_config(f, {}) for f in FILES if f.stem.startswith("paper"))}
    assert found == {
        ("gdph-sysucc", "resnet50"),
        ("gdph-sysucc", "vgg16"),
        ("gdph-sysucc", "vit-b-16"),
        ("gdph-sysucc", "swin-t"),
        ("covid-radiography", "resnet50"),
        ("cifar10", "resnet50"),
        ("cifar100", "resnet50"),
    }


@EACH
def test_the_head_tells_purpose_command_time_and_score(file):
    entries = head(file)
    assert ("Paper" in entries) == file.stem.startswith("paper")
    assert {"Command", "Run time", "Expected"} <= set(entries)
    assert "Paper" in entries or "Purpose" in entries
    assert max(map(len, file.read_text().splitlines())) <= 110


@EACH
def test_the_file_holds_and_its_names_are_known(file):
    """Oracle: the tables of networks and optimizers; every value is checked by the configuration's model."""
    config = load_config(file, {})
    assert config.task is not None
    assert config.model is not None
    find_network(config.model, config.task)
    assert config.optimizer in OPTIMIZERS
    if config.pretrained:
        url = weights_url(config.model)
        assert url.rpartition("/")[2] in head(file)["Command"], "the file to bring has another name"


@EACH
def test_the_commands_prepare_what_the_file_trains_on(file):
    """Oracle: the prepare line's name and size, the table of data sets, and this file's own path."""
    config, lines = load_config(file, {}), commands(file)
    dataset = option(lines["prepare"], "--dataset", "")
    assert dataset in DATASETS
    assert option(lines["prepare"], "--name", dataset) == config.dataset
    assert option(lines["train"], "--config", "") == f"configs/{file.name}"
    size = int(option(lines["prepare"], "--size", "256"))
    spec = find_network(config.model, config.task)
    assert size % spec.multiple == 0
    assert size >= spec.smallest


@pytest.mark.parametrize("file", [f for f in FILES if f.stem.startswith("paper")], ids=lambda f: f.stem)
def test_the_paper_s_settings_are_the_paper_s(file):
    """Oracle: Adam 1e-4, rho 0.05, batch 128, up to 120 epochs, patience 10; nothing of ours added."""
    config = load_config(file, {})
    assert (config.optimizer, config.base, config.lr, config.rho) == ("gcsam", "adam", 1e-4, 0.05)
    assert (config.batch_size, config.epochs, config.patience) == (128, 120, 10)
    assert (config.schedule, config.warmup_epochs, config.clip_norm) == ("constant", 0, 0)
    assert not any([config.pretrained, config.class_weights, config.weight_decay, config.ema])


# --- One of each kind is trained for two steps

KINDS = {
    "quick-laptop": ("ultrasound", ("benign", "malignant", "normal")),
    "lungs-segmentation": ("xray", ("normal-lung", "tuberculosis")),
    "busi-segmentation-pretrained": ("ultrasound", ("benign", "malignant", "normal")),
    "paper-bus-resnet50": ("ultrasound", ("benign", "malignant")),
    "paper-bus-vit": ("ultrasound", ("benign", "malignant")),
    "paper-bus-swin": ("ultrasound", ("benign", "malignant")),
    "paper-covid-resnet50": ("xray", ("COVID", "Normal")),
    "paper-cifar10-resnet50": ("photo", ("cat", "ship")),
}


class CountSteps(Callback):
    """Counts the steps of a run."""

    steps = 0

    def start(self, event: Start) -> None:
        self.steps += event.steps_per_epoch


def tiny_data(folder: Path, name: str, modality: str, classes: tuple[str, ...]) -> None:
    """A data set of a modality and classes."""
    dataset = make_prepared(folder, n=30, name=name, classes=classes, group_size=1)
    channels = 3 if modality == "photo" else 1
    if channels == 3:
        grey = np.load(dataset.root / IMAGES)
        np.save(dataset.root / IMAGES, np.repeat(grey[..., None], 3, axis=3))
    reseal(dataset.root, modality=modality, positive_class=classes[0], channels=channels)


def vit_b_16(image_size: int, num_classes: int) -> VisionTransformer:
    """A vision transformer with one small block: the settings are tested here, the networks elsewhere."""
    return VisionTransformer(image_size, 16, 1, 2, 32, 64, num_classes=num_classes)


def swin_t(num_classes: int) -> SwinTransformer:
    """A Swin transformer with two small blocks."""
    return SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=num_classes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "optimizer"),
    [*((name, "gcsam") for name in KINDS), ("quick-laptop", "adam"), ("paper-bus-resnet50", "sam")],
)
def test_one_of_each_kind_trains_for_two_steps(name, optimizer, tmp_path, monkeypatch):
    """Oracle: a run that ends, with finite losses, and a model that can be read and asked."""
    for small in (vit_b_16, swin_t):
        monkeypatch.setattr(torchvision.models, small.__name__, small)
    config = load_config(FOLDER / f"{name}.yaml", {})
    tiny_data(tmp_path, config.dataset, *KINDS[name])
    changes: dict[str, object] = {"optimizer": optimizer, "data_root": tmp_path, "device": "cpu", "epochs": 1}
    rows = open_prepared(tmp_path, config.dataset)
    taking_part = rows.labels(rows.rows("train")) != (2 if len(KINDS[name][1]) == 3 else -1)
    changes["batch_size"] = -(-int(taking_part.sum()) // 2)
    if config.pretrained:
        weights = tmp_path / "weights.pth"
        torch.save(torchvision.models.resnet34().state_dict(), weights)
        changes |= {"pretrained": False, "weights": weights}
    if config.model == "resnet50" and (name, optimizer) != ("paper-bus-resnet50", "gcsam"):
        changes["model"] = "resnet18"  # its larger brother is trained once
    callback = CountSteps()
    train(with_overrides(config, changes), tmp_path / "run", callback)
    assert callback.steps == 2
    with (tmp_path / "run" / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert np.isfinite([float(row["train_loss"]), float(row["val_loss"])]).all()
    trained = load_model(tmp_path / "run" / "model")
    squares = np.zeros((2, 32, 32, 3) if KINDS[name][0] == "photo" else (2, 32, 32), dtype=np.uint8)
    assert trained.probabilities(trained.tensor(squares)).isfinite().all()
