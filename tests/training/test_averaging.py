"""Averages of the weights: what they hold, and which model a run keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gcsam_med.errors import ConfigError
from gcsam_med.training import resume, train
from gcsam_med.training.averaging import averaging_from, is_averaged
from gcsam_med.training.checkpoint import load_checkpoint
from tests.training.test_loop import settings, weights

PLAIN = {"model": "tiny", "optimizer": "adam", "schedule": "constant", "warmup_epochs": 0, "patience": 1}


def _parts(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    kept = load_checkpoint(folder / "checkpoints")
    assert kept is not None
    return kept.state["parts"]


def test_swa_is_the_mean_of_the_last_epochs_and_is_what_the_run_keeps(
    data_root: Path, tmp_path: Path
) -> None:
    """Oracle: the plain runs of 3 and 4 epochs, whose weights SWA over the last half of 4 has to average."""
    ends = []
    for epochs in (3, 4):
        train(settings(data_root, **PLAIN | {"epochs": epochs, "patience": 0}), tmp_path / f"{epochs}")
        ends.append(_parts(tmp_path / f"{epochs}")["network"])
    # Patience 1 would end the run before the average; it counts from there on.
    train(settings(data_root, **PLAIN, epochs=4, swa=0.5), tmp_path / "swa")
    kept = {
        key.removeprefix("module."): value
        for key, value in _parts(tmp_path / "swa")["averaged"].items()
        if key.startswith("module.")
    }
    learned = [key for key in kept if "running_" not in key and "num_batches" not in key]
    for key in learned:
        torch.testing.assert_close(kept[key], (ends[0][key] + ends[1][key]) / 2)
    statistics = [key for key in kept if "running_mean" in key]
    assert statistics
    assert all(not torch.equal(kept[key], ends[1][key]) for key in statistics)
    best = json.loads((tmp_path / "swa" / "result.json").read_text())["best_epoch"]
    assert best in (3, 4)
    saved = weights(tmp_path / "swa")
    wanted = kept if best == 4 else ends[0]
    for key in learned:
        torch.testing.assert_close(saved[key], wanted[key])


def test_the_steps_that_are_averaged() -> None:
    """Oracle: counted by hand, 4 epochs of 3 steps, the last half."""
    swa = settings(Path(), epochs=4, swa=0.5)
    dense = settings(Path(), epochs=4, swa=0.5, swa_every="step")
    assert averaging_from(swa, 3) == 6
    assert [s for s in range(12) if is_averaged(swa, s, 3)] == [8, 11]
    assert [s for s in range(12) if is_averaged(dense, s, 3)] == [6, 7, 8, 9, 10, 11]
    assert [s for s in range(3) if is_averaged(settings(Path(), epochs=1, swa=0.01), s, 3)] == [2]


def test_a_run_with_swa_is_not_extended(data_root: Path, tmp_path: Path) -> None:
    """Oracle: the refusal says why; ema and swa together are refused too."""
    train(settings(data_root, **PLAIN, epochs=1, swa=0.5), tmp_path / "swa")
    with pytest.raises(ConfigError, match="swa cannot be extended"):
        resume(tmp_path / "swa", extend=True, epochs=2)
    with pytest.raises(ValueError, match="two ways"):
        settings(data_root, ema=0.9, swa=0.5)
