"""What the processes of a run tell each other beside gradients; nothing where there is one process."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from gcsam_med.errors import EnvironmentFault

T = TypeVar("T")


def gathered(value: T, world: int) -> list[T]:
    """The value of each process, by rank, in all of them."""
    if world == 1:
        return [value]
    values: list[T | None] = [None] * world
    torch.distributed.all_gather_object(values, value)
    return [v for v in values if v is not None]


def share_buffers(network: nn.Module, world: int) -> None:
    """Give all processes the running statistics of the first, whose network is the one that is kept.

    DDP does so ahead of a forward pass in training; after the last one of an epoch each process has its own,
    and its part of the validation would measure another network than the one that is saved.
    """
    if world > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, src=0)


def check_same_step(fabric: Any, step: int) -> None:
    """Refuse to go on if a process has read another checkpoint than the first: replicas would differ.

    Raises
    ------
    EnvironmentFault
        Names both steps.
    """
    if fabric.world_size == 1:
        return
    first = int(fabric.broadcast(step))
    if step != first:
        raise EnvironmentFault(
            f"Process {fabric.global_rank} found the checkpoint of step {step}, the first process that of "
            f"step {first}.",
            "Keep the run on a file system that all machines see alike; then --resume again.",
        )
