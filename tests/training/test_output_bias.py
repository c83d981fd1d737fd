"""The first guess: the output's bias is the prior, in every segmentation network of the table."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gcsam_med.config import RunConfig
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.networks import NETWORKS, build_network
from gcsam_med.training.build import foreground_fraction, start_from_prior
from gcsam_med.training.plan import make_plan
from tests.builders import make_prepared


@pytest.mark.parametrize("name", [n for n, spec in NETWORKS.items() if spec.task == "segmentation"])
def test_the_output_moves_by_the_same_amount_everywhere(name: str) -> None:
    """Oracle: a change of the output layer's own bias, and of nothing before it, adds a constant."""
    torch.manual_seed(0)
    network = build_network(name, task="segmentation", in_channels=1, outputs=1, size=64).eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        start_from_prior(network, 0.5)
        even = network(image)
        start_from_prior(network, 0.05)
        moved = network(image) - even
    torch.testing.assert_close(moved, torch.full_like(moved, math.log(0.05 / 0.95)), rtol=1e-4, atol=1e-4)


def test_the_fraction_is_that_of_the_training_masks(tmp_path: Path) -> None:
    make_prepared(tmp_path, n=36)
    dataset = open_prepared(tmp_path, "toy")
    plan = make_plan(RunConfig(dataset="toy", data_root=tmp_path, task="segmentation"), dataset)
    assert foreground_fraction(plan) == pytest.approx(np.mean(dataset.masks(plan.train_rows)), rel=0.05)
