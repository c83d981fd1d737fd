"""The authors' norm against another library that has it."""

from __future__ import annotations

import copy

import pytest
import pytorch_optimizer
import torch
import torchvision
from torch import nn

from gcsam_med.optim import GCSAM


@pytest.mark.slow
def test_raw_norm_is_sam_with_gc_of_pytorch_optimizer() -> None:
    """Oracle: SAM(use_gc=True) of pytorch_optimizer 4.1; 20 steps of SGD on ResNet-18."""
    torch.manual_seed(0)
    start = torchvision.models.resnet18(num_classes=4).eval()  # no BatchNorm statistics to differ
    batches = [(torch.randn(2, 3, 32, 32), torch.randint(0, 4, (2,))) for _ in range(20)]
    runs = []
    for kind, options in ((GCSAM, {"norm": "raw"}), (pytorch_optimizer.SAM, {"use_gc": True})):
        model = copy.deepcopy(start)
        optimizer = kind(model.parameters(), torch.optim.SGD, rho=0.05, lr=1e-3, **options)
        for x, y in batches:
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.first_step(zero_grad=True)
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.second_step(zero_grad=True)
        runs.append([p.detach() for p in model.parameters()])
    moved = max(float((a - b.detach()).abs().max()) for a, b in zip(runs[0], start.parameters(), strict=True))
    apart = max(float((a - b).abs().max()) for a, b in zip(*runs, strict=True))
    assert apart < 1e-4 * moved
