"""`doctor`: 0 where all essential parts are there, 3 where one is not, and it says which and what to do."""

from __future__ import annotations

import json
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gcsam_med import __version__
from gcsam_med.cli import info, run
from tests.builders import make_prepared


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def _look(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run(["doctor", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def _check(payload: dict[str, Any], what: str) -> dict[str, Any]:
    return next(c for c in payload["checks"] if c["what"] == what)


def test_a_sound_installation_exits_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the versions that importlib.metadata and torch themselves report."""
    import torch

    code, payload = _look(capsys, "--data-root", str(tmp_path))
    assert (code, payload["ok"], payload["version"]) == (0, True, __version__)
    assert _check(payload, "package torch")["found"] == metadata.version("torch")
    assert _check(payload, "device cpu")["found"] == f"{torch.get_num_threads()} threads"
    assert payload["datasets"] == []


def test_every_required_package_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the unconditional requirements in the installed metadata."""
    unconditional = [r for r in metadata.requires("gcsam-med") or [] if ";" not in r]
    _, payload = _look(capsys, "--data-root", str(tmp_path))
    packages = [c for c in payload["checks"] if c["what"].startswith("package ")]
    assert len(packages) == len(unconditional) > 15


def test_data_sets_are_listed_and_damaged_ones_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_prepared(tmp_path, n=12, name="sound")
    make_prepared(tmp_path, n=12, name="cut")
    (tmp_path / "prepared" / "cut" / "manifest.csv").unlink()
    code, payload = _look(capsys, "--data-root", str(tmp_path))
    sound = next(d for d in payload["datasets"] if d["data set"] == "sound")
    cut = next(d for d in payload["datasets"] if d["data set"] == "cut")
    assert code == 0
    assert sound["cases"] == 12
    assert cut["note"].startswith("damaged")


@pytest.mark.parametrize(
    ("version", "found"), [(None, "not installed"), ("0.0.1", "0.0.1, but >=")], ids=["absent", "too old"]
)
def test_a_missing_or_old_package_exits_3(
    version: str | None,
    found: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = metadata.version

    def version_of(name: str) -> str:
        if name != "monai":
            return real(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", version_of)
    code, payload = _look(capsys, "--data-root", str(tmp_path))
    check = _check(payload, "package monai")
    assert (code, payload["ok"], check["state"]) == (3, False, "missing")
    assert check["found"].startswith(found)
    assert 'pip install "monai>=' in check["advice"]


def test_an_absent_extra_is_named_with_its_command_and_is_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version

    def version_of(name: str) -> str:
        if name == "highdicom":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version_of)
    code = run(["doctor", "--data-root", str(tmp_path)])
    out = capsys.readouterr().out
    assert code == 0
    assert re.search("extras .* not installed: .*dicom.*gcsam-med.NAME", out)  # one line for all of them
    assert run(["doctor", "--data-root", str(tmp_path), "--verbose"]) == 0
    out = capsys.readouterr().out
    assert "without highdicom" in out
    assert 'pip install "gcsam-med[dicom]"' in out


def test_torch_that_does_not_load_exits_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    code, payload = _look(capsys, "--data-root", str(tmp_path))
    assert code == 3
    assert _check(payload, "PyTorch")["state"] == "missing"


def test_a_full_disk_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: 10 MB left on the disk."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(total=64_000_000, used=0, free=10_000_000))
    code, payload = _look(capsys, "--data-root", str(tmp_path))
    assert code == 0
    assert _check(payload, "disk for data")["state"] == "warning"


def test_a_file_in_the_place_of_the_data_root_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").write_text("not a folder")
    _, payload = _look(capsys, "--data-root", str(tmp_path / "data"))
    assert _check(payload, "disk for data")["state"] == "warning"


@pytest.mark.parametrize(
    ("built_for", "text"), [(None, "built for CPU only"), ("13.0", "CUDA 13.0")], ids=["cpu", "cuda"]
)
def test_an_unused_nvidia_gpu_is_explained(
    built_for: str | None,
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setattr(info, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    code, payload = _look(capsys, "--data-root", str(tmp_path))
    assert code == 0
    assert text in _check(payload, "NVIDIA GPU")["found"]


def test_gpus_are_listed_by_name_and_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    class Properties:
        name = "Some GPU"
        total_memory = 24_000_000_000

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (20_000_000_000, 24_000_000_000))
    _, payload = _look(capsys, "--data-root", str(tmp_path))
    found = _check(payload, "device cuda:1")["found"]
    assert found.startswith("Some GPU, 24 GB; train uses fp32, captures its steps")
    assert "up to 4.0 GB" in found


def test_required_packages_that_are_there_are_shown_with_verbose_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["doctor", "--data-root", str(tmp_path)])
    assert "package safetensors" not in capsys.readouterr().out
    run(["doctor", "--verbose", "--data-root", str(tmp_path)])
    assert "package safetensors" in capsys.readouterr().out
