"""Sums over all parameters, wherever their parts lie."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RUN = 256
"""Longest float32 sum of squares."""


def squared_length(flat: Tensor, room: Tensor) -> Tensor:
    """Squared length of a vector, right to 1e-6 of itself for any numbers.

    ``torch.dot`` and the norm of a whole vector add up float32 numbers one after the other, and are off by
    1e-5 for a hundred thousand heavy-tailed ones; float64 all the way takes four times as long.

    Parameters
    ----------
    flat : Tensor, shape (n,)
        The vector.
    room : Tensor, shape (at least `lengths_of` n,)
        Of the same type and device, overwritten: so nothing has to be allocated.

    Returns
    -------
    Tensor, no dimension
        On the same device, in float64 where the device has it.
    """
    runs = len(flat) // RUN
    lengths = room[: runs + 1]
    torch.linalg.vector_norm(flat[: runs * RUN].view(-1, RUN), dim=1, out=lengths[:runs])
    torch.linalg.vector_norm(flat[runs * RUN :], out=lengths[runs])
    return lengths.square_().sum(dtype=_widest(flat.device))


def lengths_of(elements: int) -> int:
    """Room that `squared_length` needs for a vector of so many elements."""
    return elements // RUN + 1


def total(parts: Sequence[Tensor]) -> Tensor:
    """Sum of numbers that may lie on several devices, in float64 where the first device has it."""
    home = parts[0].device
    return torch.stack([part.to(home) for part in parts]).sum(dtype=_widest(home))


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient of two numbers of no dimension; zero where the denominator is."""
    return torch.where(denominator == 0, torch.zeros_like(denominator), numerator / denominator)
