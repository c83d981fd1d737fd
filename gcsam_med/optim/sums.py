"""Sums over all parameters, wherever their parts lie."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gcsam_med.optim.scratch import ScratchBlock


def inner(blocks: Sequence[ScratchBlock], first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Inner product of two vectors that run parallel to the parameters of the blocks."""
    parts = []
    for block in blocks:
        block.load(first)
        parts.append(block.inner(second))
    return total(parts)


def total(parts: Sequence[Tensor]) -> Tensor:
    """Sum of numbers that may lie on several devices, in float64 where the first device has it."""
    home = parts[0].device
    precise = torch.float32 if home.type == "mps" else torch.float64
    return torch.stack([part.to(home) for part in parts]).sum(dtype=precise)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient of two numbers of no dimension; zero where the denominator is."""
    return torch.where(denominator == 0, torch.zeros_like(denominator), numerator / denominator)
