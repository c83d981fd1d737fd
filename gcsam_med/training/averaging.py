"""Averages of the weights over a run: exponential (EMA), of the last epochs (SWA), of their steps (dense).

Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018. Cha et al.,
"SWAD: Domain Generalization by Seeking Flat Minima", NeurIPS 2021, average after each step, between two
points that they read off the validation loss; here the first is given, and the last is the best epoch on
validation.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from gcsam_med.config import RunConfig
from gcsam_med.training.batches import StoredCases


@torch.no_grad()
def update_average(
    averaged: AveragedModel, network: nn.Module, decay: float | None = None, skipped: Tensor | None = None
) -> None:
    """Take the weights after a step into an average; nothing waits for a GPU, and buffers are copied.

    With `decay`, in (0, 1), the average moves towards them; early on less is kept, (1 + n) / (10 + n) after n
    updates, or the random start would weigh on a short run. Without it all weights count the same. A step
    that was `skipped` changes nothing.
    """
    count = averaged.n_averaged
    share = 1 / (1 + count)
    if decay is not None:
        kept = ((1 + count) / (10 + count)).clamp(max=decay)
        share = torch.where(count == 0, 1.0, 1 - kept)
    taken = torch.ones_like(count) if skipped is None else (~skipped).to(count.dtype)
    for weight, now in zip(averaged.module.parameters(), network.parameters(), strict=True):
        weight.lerp_(now, (share * taken).to(weight.dtype))
    for buffer, current in zip(averaged.module.buffers(), network.buffers(), strict=True):
        buffer.copy_(current)
    count += taken


def averaging_from(config: RunConfig, steps_per_epoch: int) -> int:
    """The first step, from 0, whose weights SWA may average: the beginning of an epoch."""
    return min(config.epochs - 1, round(config.epochs * (1 - config.swa))) * steps_per_epoch


def is_averaged(config: RunConfig, step: int, steps_per_epoch: int) -> bool:
    """Whether SWA averages the weights after a step, counted from 0."""
    if step < averaging_from(config, steps_per_epoch):
        return False
    return config.swa_every == "step" or (step + 1) % steps_per_epoch == 0


def add_to_average(
    averaged: AveragedModel | None,
    network: nn.Module,
    config: RunConfig,
    step: int,
    steps_per_epoch: int,
    skipped: Tensor,
) -> None:
    """Take the weights after a step, counted from 0, into the average, if that is due."""
    if averaged is None:
        return
    if config.ema:
        update_average(averaged, network, config.ema, skipped)
    elif is_averaged(config, step, steps_per_epoch):
        update_average(averaged, network)


def update_statistics(
    averaged: AveragedModel,
    config: RunConfig,
    cases: StoredCases,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> None:
    """Take the running statistics of BatchNorm anew at the averaged weights, from the training images.

    The images are not augmented and come in the order of the manifest, so that the result depends on the
    weights alone. Without BatchNorm, or before anything was averaged, nothing is done.
    """
    if not averaged.n_averaged:
        return

    def images() -> Any:
        for rows in np.array_split(cases.rows, -(-len(cases.rows) // config.batch_size)):
            yield cases.for_network(rows)[1]

    torch.manual_seed(config.seed)  # dropout is on
    with autocast():
        update_bn(images(), averaged)
