"""Which steps are captured, and what a run says of it; the capture itself needs a GPU (test_cuda)."""

from __future__ import annotations

import pytest
import torch

from gcsam_med.config import RunConfig
from gcsam_med.training.steps import why_not_captured


@pytest.mark.parametrize(
    ("device", "changes", "processes", "said"),
    [
        ("cuda", {}, 1, ""),
        ("cpu", {}, 1, "the run is on cpu"),
        ("cuda", {"capture": False}, 1, "capture is off"),
        ("cuda", {}, 2, "several processes"),
        ("cuda", {"accumulate": 2}, 1, "--accumulate"),
        ("cuda", {"precision": "fp16"}, 1, "fp16"),
    ],
)
def test_only_plain_steps_on_one_gpu_are_captured(device, changes, processes, said):
    """Oracle: what a graph holds: one batch, one process, no loss scale that the host changes."""
    config = RunConfig(dataset="toy", precision=changes.pop("precision", "bf16"), **changes)
    found = why_not_captured(config, torch.device(device), processes)
    assert said in found
    assert bool(found) == bool(said)
