"""Choosing a device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from gcsam_med import devices
from gcsam_med.devices import pick_device
from gcsam_med.errors import EnvironmentFault


@pytest.fixture
def machine(monkeypatch):
    """Pretend to have some devices."""

    def pretend(cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "name", "expected"),
    [
        (0, False, "auto", "cpu"),
        (2, True, "auto", "cuda:0"),
        (0, True, "auto", "mps"),
        (2, False, "cuda", "cuda:0"),
        (2, False, "cuda:1", "cuda:1"),
        (2, False, "cpu", "cpu"),
        (0, True, "mps", "mps"),
    ],
)
def test_the_device_that_is_there_is_taken(machine, cuda, mps, name, expected):
    machine(cuda, mps)
    assert pick_device(name) == torch.device(expected)


@pytest.mark.parametrize(("cuda", "name"), [(0, "cuda"), (0, "mps"), (2, "cuda:2"), (0, "cuda:0")])
def test_a_device_that_is_not_there_is_not_replaced_by_another(machine, cuda, name):
    """Oracle: exit code 3, and the devices that are there; a silent fall back to the CPU would cost days."""
    machine(cuda)
    with pytest.raises(EnvironmentFault, match=f"'{name}' was asked for") as caught:
        pick_device(name)
    assert "cpu" in caught.value.message
    assert ("cuda:1" in caught.value.message) == (cuda == 2)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ({"cpu.max": "nonsense"}, 64),
        ({}, 64),
    ],
)
def test_the_quota_of_a_container_counts(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the files of both versions of cgroups, as the kernel's documentation describes them."""
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert devices.usable_cores() == cores


def test_affinity_counts_and_auto_precision_is_fp32_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert devices.usable_cores() == 1
    assert devices.pick_precision("auto", torch.device("cpu")) == "fp32"
    assert devices.pick_precision("bf16", torch.device("cpu")) == "bf16"


@pytest.mark.parametrize(("asked", "expected"), [("", 4), ("2", 2), ("0", 1), ("64", 4), ("many", 4)])
def test_workers_share_the_cores_of_runs_side_by_side(
    asked: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the rule by hand, on four cores."""
    monkeypatch.setattr(devices, "usable_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert devices.worker_count() == expected
