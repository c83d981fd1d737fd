"""A trained model on disk: the same answers after reading, no code run, no half model after a crash."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from gcsam_med.cli import run as command
from gcsam_med.errors import CheckpointError
from gcsam_med.networks import NETWORKS, build_network
from gcsam_med.runs import ModelCard, load_model, save_model
from gcsam_med.runs import model as module
from tests.builders import make_prepared, make_run

SIZE = 32


def card(model: str = "unet", **changes: object) -> ModelCard:
    task = NETWORKS[model].task
    values: dict[str, object] = {
        "task": task,
        "model": model,
        "classes": ["lesion"] if task == "segmentation" else ["benign", "malignant", "normal"],
        "modality": "ultrasound",
        "in_channels": 1,
        "size": SIZE,
        "mean": [0.4],
        "std": [0.2],
        "dataset": "toy",
        "dataset_sha256": "0" * 64,
        "synthetic": True,
        "optimizer": "gcsam",
        "settings_sha256": "0" * 64,
        "epoch": 3,
        "tool_version": "0.1.0",
    }
    return ModelCard.model_validate({**values, **changes})


def network(model: str = "unet", seed: int = 0, in_channels: int = 1) -> torch.nn.Module:
    torch.manual_seed(seed)
    outputs = 1 if NETWORKS[model].task == "segmentation" else 3
    net = build_network(model, task=NETWORKS[model].task, in_channels=in_channels, outputs=outputs, size=SIZE)
    with torch.no_grad():  # running statistics that differ from a fresh network's
        net(torch.rand(4, in_channels, SIZE, SIZE))
    return net


SQUARES = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE), dtype=np.uint8)


@pytest.mark.parametrize("model", ["unet", "unet++", "unet-resnet34", "resnet18", "densenet121"])
def test_a_model_answers_the_same_after_reading(model, tmp_path):
    """Oracle: the network in memory, in eval mode, bit for bit."""
    net = network(model)
    written = save_model(tmp_path / "model", net, card(model))
    trained = load_model(tmp_path / "model")
    assert trained.card == written
    batch = trained.tensor(SQUARES)
    np.testing.assert_allclose(batch[:, 0].numpy(), (SQUARES / 255 - 0.4) / 0.2, atol=1e-5)
    net.eval()
    with torch.inference_mode():
        logits = net(batch)
    found = trained.probabilities(batch)
    if NETWORKS[model].task == "segmentation":
        assert torch.equal(found, logits.sigmoid())
        assert found.shape == (5, 1, SIZE, SIZE)
    else:
        assert torch.equal(found, logits.softmax(1))
        torch.testing.assert_close(found.sum(1), torch.ones(5))


def test_reading_leaves_the_model_in_eval_mode_and_asking_it_changes_nothing(tmp_path):
    save_model(tmp_path, network("resnet18"), card("resnet18"))
    trained = load_model(tmp_path, device="cpu")
    before = {k: v.clone() for k, v in trained.network.state_dict().items()}
    result = trained.probabilities(trained.tensor(SQUARES))
    assert not trained.network.training
    assert not result.requires_grad
    assert all(torch.equal(v, before[k]) for k, v in trained.network.state_dict().items())


def test_grey_is_repeated_for_a_network_of_three_channels(tmp_path):
    save_model(
        tmp_path,
        network("resnet18", in_channels=3),
        card("resnet18", in_channels=3, mean=[0.5] * 3, std=[0.25] * 3),
    )
    batch = load_model(tmp_path).tensor(SQUARES)
    assert batch.shape == (5, 3, SIZE, SIZE)
    assert torch.equal(batch[:, 0], batch[:, 2])


def test_the_files_are_safetensors_and_json(tmp_path):
    """Oracle: the safetensors library and json; channels-last and half precision are kept as values."""
    net = network().half().to(memory_format=torch.channels_last)
    save_model(tmp_path, net, card())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "weights.safetensors"]
    state = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    told = json.loads((tmp_path / "model.json").read_text())
    assert told["schema"] == 1
    digest = hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
    assert told["weights_sha256"] == digest


@pytest.mark.parametrize("crash", ["weights", "card", "move"])
def test_a_crash_while_a_better_model_is_saved_leaves_a_whole_one(tmp_path, monkeypatch, crash):
    """Oracle: the weights are the former's or the new one's, and fit their card's epoch."""
    former, new = network(seed=1), network(seed=2)
    save_model(tmp_path, former, card(epoch=1))
    writes = {"weights": module.INCOMING, "card": module.CARD, "move": None}
    write = module.write_durably

    def failing(path: Path, data: bytes) -> None:
        if path.name == writes[crash]:
            raise KeyboardInterrupt
        write(path, data)

    def stuck(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_durably", failing)
    if crash == "move":
        real = Path.replace
        monkeypatch.setattr(
            Path, "replace", lambda s, t: stuck(s, t) if s.name == module.INCOMING else real(s, t)
        )
    with pytest.raises(KeyboardInterrupt):
        save_model(tmp_path, new, card(epoch=2))
    monkeypatch.undo()
    trained = load_model(tmp_path)
    expected = new if crash == "move" else former
    assert trained.card.epoch == (2 if crash == "move" else 1)
    state = trained.network.state_dict()
    assert all(torch.equal(state[k], v) for k, v in expected.state_dict().items())
    save_model(tmp_path, new, card(epoch=3))
    assert load_model(tmp_path).card.epoch == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "weights.safetensors"]


def resign(folder: Path) -> None:
    """Make the card accept the weights file as it is now."""
    path = folder / "model.json"
    values = json.loads(path.read_text())
    del values["seal"]
    values["weights_sha256"] = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    path.write_text(json.dumps(values))


def edit_card(folder: Path, **values: object) -> None:
    path = folder / "model.json"
    content = json.loads(path.read_text())
    del content["seal"]
    path.write_text(json.dumps({**content, **values}))


def other_weights(folder: Path) -> None:
    save_file({"a": torch.zeros(3)}, folder / "weights.safetensors")
    resign(folder)


def pickled(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(pickle.dumps({"a": 1}))
    resign(folder)


DAMAGES = {
    "one bit": (
        lambda f: (f / "weights.safetensors").write_bytes(
            (f / "weights.safetensors").read_bytes()[:-1] + b"\x01"
        ),
        "not the file that was saved",
    ),
    "cut short": (
        lambda f: (f / "weights.safetensors").write_bytes((f / "weights.safetensors").read_bytes()[:-1]),
        "not the file that was saved",
    ),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "weights.safetensors is not there"),
    "no card": (lambda f: (f / "model.json").unlink(), "model.json is not there"),
    "card is no JSON": (lambda f: (f / "model.json").write_text("{"), "model.json is damaged"),
    "card lacks a field": (
        lambda f: (f / "model.json").write_text("{}"),
        "model.json is damaged or was not written by gcsam-med: it does not fit at 'task'",
    ),
    "card has an unknown field": (lambda f: edit_card(f, hidden=1), "does not fit at 'hidden'"),
    "weights of another network": (other_weights, "does not fit the network 'unet'"),
    "a pickle": (pickled, "not a valid safetensors file"),
    "an unknown network": (lambda f: edit_card(f, model="unet9000"), "Unknown segmentation model 'unet9000'"),
    "a size it cannot take": (lambda f: edit_card(f, size=33), "multiple of 16"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_an_error_of_its_own_kind(tmp_path, damage):
    """Oracle: exit code 4, never a library's own error."""
    save_model(tmp_path, network(), card())
    act, said = DAMAGES[damage]
    act(tmp_path)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_model(tmp_path)
    assert caught.value.exit_code == 4


MIXED = {
    "config.yaml": "evaluate predict export sharpness calibrate compare",
    "model/calibration.json": "evaluate predict export sharpness",
    "model/weights.safetensors": "evaluate predict export sharpness calibrate",
}
"""A part of another run, and the commands that open the model."""


@pytest.mark.parametrize("part", MIXED)
def test_parts_of_two_models_are_refused_by_every_command(part: str, tmp_path: Path) -> None:
    """Oracle: exit code 4. (`calibrate` makes calibration.json anew.)"""
    data = make_prepared(tmp_path, n=30, size=32)
    one, other = (make_run(tmp_path, data, name=f"run{seed}", seed=seed) for seed in (0, 1))
    for run in (one, other) if "compare" in MIXED[part] else ():
        assert command(["evaluate", str(run), "--device", "cpu", "--resamples", "100", "-q"]) == 0
    shutil.copy(other / part, one / part)
    (tmp_path / "images").mkdir()
    Image.new("L", (40, 40)).save(tmp_path / "images" / "a.png")
    more = {
        "predict": [str(tmp_path / "images"), "--output", str(tmp_path / "out")],
        "export": ["--format", "safetensors", "--output", str(tmp_path / "exported")],
        "compare": [str(other), "--output", str(tmp_path / "compared")],
    }
    codes = {verb: command([verb, str(one), *more.get(verb, []), "-q"]) for verb in MIXED[part].split()}
    assert codes == dict.fromkeys(MIXED[part].split(), 4)
