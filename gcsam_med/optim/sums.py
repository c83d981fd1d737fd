"""Sums over all parameters, wherever their parts lie."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RUN = 256
"""About the longest float32 sum of squares."""


class Lengths:
    """Squared length of a vector in parts, right to 1e-6 of itself for any numbers.

    ``torch.dot`` and the norm of a whole vector add up float32 numbers one after the other, and are off by
    1e-5 for a hundred thousand heavy-tailed ones; float64 all the way takes four times as long. Here parts
    are cut into short runs, whose lengths are kept in room that is allocated once.

    Parameters
    ----------
    sizes : sequence of int
        Elements of each part.
    dtype : torch.dtype
        Of the parts.
    device : torch.device
        Of the parts.
    """

    def __init__(self, sizes: Sequence[int], dtype: torch.dtype, device: torch.device | None = None) -> None:
        plans = [_runs(size) for size in sizes]
        count = sum(stop // run for plan in plans for stop, run in plan)
        self._all = torch.zeros(count, dtype=dtype, device=device)
        self._plans: list[list[tuple[int, int, int, Tensor]]] = []
        used = 0
        for plan in plans:
            start = 0
            self._plans.append([])
            for elements, run in plan:
                room = self._all[used : used + elements // run]
                self._plans[-1].append((start, start + elements, run, room))
                start, used = start + elements, used + elements // run

    def take(self, number: int, part: Tensor) -> None:
        """Take the lengths of the runs of one part, of one dimension."""
        for start, stop, run, room in self._plans[number]:
            stretch = part if stop - start == len(part) else part[start:stop]
            torch.linalg.vector_norm(stretch.view(-1, run), dim=1, out=room)

    def squared_total(self) -> Tensor:
        """Squared length of all parts as last taken, no dimension; the lengths are spent."""
        return self._all.square_().sum().to(_widest(self._all.device))


def _runs(elements: int) -> list[tuple[int, int]]:
    """Cut a length into stretches of equal runs: pairs of a stretch's elements and its run."""
    for run in range(2 * RUN, RUN // 2, -1):
        if elements % run == 0:
            return [(elements, run)]
    even = elements // RUN * RUN
    stretches = [(even, RUN), (elements - even, elements - even)]
    return [(stretch, run) for stretch, run in stretches if stretch]


def total(parts: Sequence[Tensor]) -> Tensor:
    """Sum of numbers that may lie on several devices, in float64 where the first device has it."""
    home = parts[0].device
    return torch.stack([part.to(home) for part in parts]).sum(dtype=_widest(home))


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient of two numbers of no dimension; zero where the denominator is."""
    return torch.where(denominator == 0, torch.zeros_like(denominator), numerator / denominator)
