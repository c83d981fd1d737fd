"""Models and checkpoints from strangers: nothing of them runs, and exit code 4 says they are not trusted."""

from __future__ import annotations

import hashlib
import json
import pickle
import resource
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from gcsam_med.cli import run as command
from gcsam_med.errors import CheckpointError
from gcsam_med.runs import load_model
from gcsam_med.training import train
from gcsam_med.training.checkpoint import save_checkpoint
from tests.reliability.kills import Trial
from tests.reliability.payloads import PLAIN, payloads

PAYLOADS = payloads()


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound run that the tests copy and then spoil."""
    folder = tmp_path_factory.mktemp("untrusted") / "run"
    train(Trial("adam", 0.0).config(root).model_copy(update={"epochs": 1}), folder)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def resign_model(run: Path) -> None:
    """Whoever exchanges the weights can exchange their hash."""
    card = run / "model" / "model.json"
    values = json.loads(card.read_text())
    values.pop("seal", None)
    values["weights_sha256"] = hashlib.sha256(
        (run / "model" / "weights.safetensors").read_bytes()
    ).hexdigest()
    card.write_text(json.dumps(values))


def resign_checkpoints(run: Path) -> None:
    """The same for the checkpoints."""
    index = run / "checkpoints" / "index.json"
    entries = json.loads(index.read_text())
    for entry in entries:
        data = (run / "checkpoints" / entry["file"]).read_bytes()
        entry["sha256"] = hashlib.sha256(data).hexdigest()
    index.write_text(json.dumps(entries))


def test_there_are_enough_payloads() -> None:
    assert len(PLAIN) >= 20


def test_the_payloads_do_harm_where_they_are_let(tmp_path: Path) -> None:
    """Negative control: they leave the canary when Python's own pickle reads them."""
    elsewhere = {"NEWOBJ", "__import__", "importlib", "runpy.run_path", "compile", "torch.hub", "torch.jit"}
    harmless = []
    for number, name in enumerate(sorted(PLAIN.keys() - elsewhere)):
        canary = tmp_path / str(number)
        with suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pickle.loads(PLAIN[name](str(canary)))
        harmless += [name] * (not canary.exists())
    assert harmless == ["a call after the end"]
    assert len(PLAIN.keys() - elsewhere) - len(harmless) >= 20


@pytest.mark.parametrize("name", PAYLOADS)
def test_no_payload_runs(
    name: str, root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the canary file. Through evaluate, predict, sharpness, --weights and --resume; exit code 4."""
    canary = tmp_path / "canary"
    content = PAYLOADS[name](str(canary))
    picture = tmp_path / "image.png"
    Image.fromarray(np.zeros((40, 40), dtype=np.uint8)).save(picture)
    (run / "model" / "weights.safetensors").write_bytes(content)
    resign_model(run)
    for file in (run / "checkpoints").glob("*.pt"):
        file.write_bytes(content)
    resign_checkpoints(run)
    train = ["train", "--dataset", "toy", "--data-root", str(root), "--epochs", "1", "--device", "cpu"]
    doors = [
        ["evaluate", str(run), "--device", "cpu"],
        ["predict", str(run), str(picture), "--output", str(tmp_path / "out"), "--device", "cpu"],
        ["sharpness", str(run), "--device", "cpu"],
        ["train", "--resume", str(run)],
    ]
    for suffix in (".pt", ".safetensors"):
        weights = (tmp_path / "weights").with_suffix(suffix)
        weights.write_bytes(content)
        doors.append([*train, "--weights", str(weights), "--output", str(tmp_path / "new")])
    for arguments in doors:
        if arguments[0] == "train":
            (run / "result.json").unlink(missing_ok=True)  # only an unfinished run is resumed
        code = command(arguments)
        said = "".join(capsys.readouterr())
        assert code == 4, (arguments[0], said)
        assert "Traceback" not in said
        assert len(said.splitlines()) < 6
        assert not canary.exists(), arguments


# --- Sizes, shapes and names are checked before memory is taken


def header(entries: dict[str, object], data: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


HEADERS: dict[str, Callable[[], bytes]] = {
    "1e12 elements": lambda: header(
        {"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
    ),
    "1e12 elements in 4 bytes": lambda: header(
        {"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}}, bytes(4)
    ),
    "a product that overflows": lambda: header(
        {"a": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 0]}}
    ),
    "a negative shape": lambda: header(
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)
    ),
    "overlapping tensors": lambda: header(
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        },
        bytes(12),
    ),
    "offsets beyond the end": lambda: header(
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [2**40, 2**40 + 8]}}, bytes(8)
    ),
    "a header of 2**60 bytes": lambda: struct.pack("<Q", 2**60) + b"{}",
    "a header that is no JSON": lambda: struct.pack("<Q", 4) + b"nope",
    "a header of deep JSON": lambda: struct.pack("<Q", 10**5) + b"[" * 10**5,
    "an unknown type": lambda: header(
        {"a": {"dtype": "OBJ", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)
    ),
    "names like paths": lambda: save({"../../../etc/passwd": torch.zeros(3)}),
    "thousands of empty tensors": lambda: header(
        {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(5_000)}
    ),
    "other shapes": lambda: save({"0.weight": torch.zeros(6, 1, 5, 5)}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_header_is_refused_in_little_memory(name: str, run: Path) -> None:
    """Oracle: exit code 4, and a peak of memory that no claim of the header can have raised."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (run / "model" / "weights.safetensors").write_bytes(HEADERS[name]())
    resign_model(run)
    with pytest.raises(CheckpointError):
        load_model(run / "model")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


CARDS: dict[str, dict[str, object]] = {
    "a gigantic square": {"size": 10**9},
    "a billion channels": {"in_channels": 10**9, "mean": [0.5], "std": [0.5]},
    "a million classes": {
        "classes": [f"c{i}" for i in range(10**6)],
        "task": "classification",
        "model": "vgg16",
    },
    "no class": {"classes": []},
    "one class twice": {"classes": ["a", "a"]},
    "a class without a name": {"classes": [""]},
    "a negative size": {"size": -32},
    "a size of half a pixel": {"size": 32.5},
    "another number of means": {"mean": [0.5, 0.5]},
    "no deviation": {"std": [0.0]},
    "a mean that is no number": {"mean": ["NaN"]},
    "an infinite mean": {"mean": [1e999]},
    "a dropout of 2": {"dropout": 2},
    "a threshold of -1": {"threshold": -1},
    "a network's path": {"model": "../../evil"},
    "a network of the other task": {"model": "resnet18"},
    "a later layout": {"schema": 99},
    "a task of its own": {"task": "generation"},
    "a field more": {"code": "import os"},
    "no object": {},
}


@pytest.mark.parametrize("name", CARDS)
def test_a_hostile_card_is_refused_before_a_network_is_built(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: exit code 4, and that the largest allowed network is not even begun."""
    path = run / "model" / "model.json"
    values = json.loads(path.read_text())
    del values["seal"]
    content = json.dumps({**values, **CARDS[name]}) if CARDS[name] else "[[[["
    path.write_text(content)
    allocated: list[object] = []
    monkeypatch.setattr(torch.nn.Linear, "__init__", lambda *a, **k: allocated.append(a))
    monkeypatch.setattr(torch.nn.Conv2d, "__init__", lambda *a, **k: allocated.append(a))
    with pytest.raises(CheckpointError) as refused:
        load_model(run / "model")
    assert refused.value.exit_code == 4
    assert allocated == []


STATES: dict[str, Callable[[dict], object]] = {
    "no parts": lambda s: s.pop("parts"),
    "no training state": lambda s: s.pop("state"),
    "a list": lambda s: s.update(parts=[1, 2]),
    "another network": lambda s: s["parts"].update(network={"a": torch.zeros(3)}),
    "shapes of another network": lambda s: s["parts"]["network"].update({"0.weight": torch.zeros(1)}),
    "moments of another shape": lambda s: s["parts"]["optimizer"]["state"][0].update(
        exp_avg=torch.zeros(1).expand(10**12)
    ),
    "no groups": lambda s: s["parts"]["optimizer"].update(param_groups=[]),
    "a step of text": lambda s: s["state"].update(step="9"),
    "another step": lambda s: s["state"].update(step=10**18),
    "a history of text": lambda s: s["state"].update(history="none"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_checkpoint_of_another_make_is_refused(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Well-formed tensors that do not fit: exit code 4, and what does not fit."""
    from gcsam_med.training.checkpoint import load_checkpoint

    kept = load_checkpoint(run / "checkpoints")
    assert kept is not None
    STATES[name](kept.state)
    save_checkpoint(run / "checkpoints", kept.step, kept.state)
    (run / "result.json").unlink()
    assert command(["train", "--resume", str(run)]) == 4
    said = "".join(capsys.readouterr())
    assert "Traceback" not in said
    assert "does not fit" in said


def test_a_claim_of_more_elements_than_bytes_is_refused(tmp_path: Path, root: Path) -> None:
    """A storage's record of 16 bytes that should hold 10**8 numbers is not read beyond its end."""
    path = tmp_path / "weights.pt"
    torch.save({"0.weight": torch.arange(4, dtype=torch.float32)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            larger = data.replace(b"K\x04", b"J" + struct.pack("<i", 10**8))
            archive.writestr(name, larger if name.endswith("data.pkl") else data)
    train = ["train", "--dataset", "toy", "--data-root", str(root), "--output", str(tmp_path / "r")]
    assert command([*train, "--weights", str(path)]) == 4


@pytest.fixture(autouse=True)
def _leave_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
