"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Average the weights of `network` with `decay`; buffers are copied.

    Parameters
    ----------
    network : torch.nn.Module
        The network that trains.
    decay : float
        In (0, 1). Early on less is kept, (1 + n) / (10 + n) after n updates, or the random start
        would weigh on a short run.

    Returns
    -------
    AveragedModel
        Call ``update_parameters(network)`` after each step; its ``module`` is the average.
    """

    @torch.no_grad()
    def update(averaged: Any, current: Sequence[torch.Tensor], count: Any) -> None:
        n = int(count)
        kept = min(decay, (1 + n) / (10 + n))
        floats = [(a, c) for a, c in zip(averaged, current, strict=True) if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floats], [c for _, c in floats], 1 - kept)

    return AveragedModel(network, multi_avg_fn=update)
