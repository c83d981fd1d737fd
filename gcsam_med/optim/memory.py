"""Vectors as long as the network, kept beside it, and their products."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gcsam_med.optim.scratch import ScratchBlock
from gcsam_med.optim.sums import total


class Memory:
    """One tensor for each parameter that was ever stored, allocated once.

    Attributes
    ----------
    tensors : dict of Tensor to Tensor
        From a parameter to what is kept for it.
    """

    def __init__(self) -> None:
        self.tensors: dict[Tensor, Tensor] = {}

    def beside(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """What is kept for these parameters; room, where nothing was."""
        for parameter in parameters:
            if parameter not in self.tensors:
                self.tensors[parameter] = torch.zeros_like(parameter, requires_grad=False)
        return [self.tensors[parameter] for parameter in parameters]

    def keep_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Copy the gradients of these parameters."""
        torch._foreach_copy_(self.beside(parameters), gradients(parameters))


def gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of parameters; zeros, where one vanished between two passes."""
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]


def inner(blocks: Sequence[ScratchBlock], first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Inner product of two vectors that run parallel to the parameters of the blocks."""
    parts = []
    for block in blocks:
        block.load(first)
        parts.append(block.inner(second))
    return total(parts)
