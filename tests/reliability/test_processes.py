"""One of two processes that dies, and BatchNorm over processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from gcsam_med.config import RunConfig
from gcsam_med.errors import ConfigError
from gcsam_med.training.build import synchronized
from tests.builders import make_prepared

SECONDS = 120  # until a machine that does other things as well has begun, or has ended


def start(folder: Path, *launcher: str) -> subprocess.Popen[str]:
    """Begin a training that does not end by itself; the data are made first."""
    make_prepared(folder / "data", n=36, size=32)
    command = [
        sys.executable, "-m", *launcher, "gcsam_med", "train", "--dataset", "toy", "--data-root",
        str(folder / "data"), "--task", "segmentation", "--model", "basic-unet", "--optimizer", "adam",
        "--epochs", "100000", "--batch-size", "4", "--device", "cpu", "-q",
        "--set", "patience=0", "--output", str(folder / "run"),
    ]  # fmt: skip
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_epoch(folder: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + SECONDS
    while not (folder / "run" / "checkpoints" / "index.json").is_file():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    """Processes that this one started and that run our own code, not Python's helpers."""
    found = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [p for p in found if b"gcsam_med" in Path(f"/proc/{p}/cmdline").read_bytes()]


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        said = process.communicate(timeout=SECONDS)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
def test_one_of_two_processes_that_dies_ends_the_other(tmp_path):
    """Oracle: torchrun ends within the time and names the signal; nobody is left waiting in an exchange."""
    process = start(tmp_path, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    try:
        wait_for_epoch(tmp_path, process)
        ranks = children(process.pid)
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGKILL)
        code, said = end_of(process)
        until = time.monotonic() + SECONDS
        while any(Path(f"/proc/{rank}").exists() for rank in ranks) and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        process.kill()
    assert code != 0
    assert "SIGKILL" in said or "-9" in said
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)


def test_batchnorm_over_processes_keeps_the_names_of_its_weights():
    """Oracle: PyTorch's layer in place of each BatchNorm, the same state; one process needs none."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    names = list(network.state_dict())
    assert synchronized(network, torch.device("cuda"), 1) is network
    several = synchronized(network, torch.device("cuda"), 2)
    assert isinstance(several[1], nn.SyncBatchNorm)
    assert list(several.state_dict()) == names


def test_batchnorm_over_processes_is_refused_without_cuda():
    """Oracle: PyTorch has that layer for CUDA only; the error says so before anything is trained."""
    with pytest.raises(ConfigError, match="needs CUDA"):
        synchronized(nn.BatchNorm2d(1), torch.device("cpu"), 2)
    with pytest.raises(ValueError, match="needs CUDA"):
        RunConfig(dataset="toy", device="cpu", sync_batchnorm=True)
