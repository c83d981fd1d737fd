"""The batch of each step, as a function of (seed, step): no state, so a resume needs the step number only.

A step's cases are ``batch_size * accumulate * processes`` of the epoch's order, divided among the processes
and cut into `accumulate` micro-batches. An epoch is cut into steps of even size (they differ by one case at
most), so that no step is left with a single case, on which batch normalization cannot work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gcsam_med.devices import free_memory
from gcsam_med.errors import InputError
from gcsam_med.training.plan import Plan
from gcsam_med.transforms.augmentation import training_transform

RESIDENT_SHARE = 0.2
"""A split is kept on a GPU if it takes no more than this part of the memory that is free there."""
READ_AHEAD = 3
"""Batches that the reading thread is ahead."""


class MicroBatch(NamedTuple):
    """Cases of one forward pass, on the run's device."""

    images: Tensor  #: Shape (B, C, S, S), float32: standardized.
    #: Segmentation: masks (B, 1, S, S), float32 0 or 1. Classification: class numbers (B,), int64.
    targets: Tensor
    #: What the mean loss of these cases counts in the step's loss; over all micro-batches and processes the
    #: shares sum to the number of processes (DDP averages over them).
    share: float


class StoredCases:
    """Stored images and targets of some rows: on the GPU if they fit, else read from disk when asked for.

    Parameters
    ----------
    plan : Plan
        Knows the data set and the task.
    rows : ndarray of int
        Rows of the manifest that will be asked for.
    device : torch.device
        Where batches go.
    """

    def __init__(self, plan: Plan, rows: np.ndarray, device: torch.device) -> None:
        self.plan, self.device = plan, device
        info = plan.dataset.info
        self.rows, self.place = rows, np.full(info.n_cases, -1)
        self.place[rows] = np.arange(len(rows))
        self.resident: tuple[Tensor, Tensor] | None = None
        case_bytes = info.size**2 * (info.channels + (plan.task == "segmentation"))
        if device.type == "cuda" and len(rows) * case_bytes <= RESIDENT_SHARE * free_memory(device):
            self.keep()

    def keep(self) -> None:
        """Keep all rows on the device."""
        images, targets = self.read(self.rows)
        self.resident = images.to(self.device), targets.to(self.device)

    def read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Read from disk: uint8 images, and masks (B, S, S) uint8 or class numbers (B,) int64."""
        images = torch.from_numpy(self.plan.dataset.images(rows))
        if self.plan.task == "segmentation":
            targets = torch.from_numpy(self.plan.dataset.masks(rows))
        else:
            targets = torch.from_numpy(self.plan.labels(rows))
        return (
            (images.pin_memory(), targets.pin_memory()) if self.device.type == "cuda" else (images, targets)
        )

    def on_device(self, rows: np.ndarray, read: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Images as `read` gives them, and targets as a loss takes them, on the device."""
        if self.resident is not None:
            place = torch.from_numpy(self.place[rows]).to(self.device, non_blocking=True)
            images, targets = (x.index_select(0, place) for x in self.resident)
        else:
            images, targets = (x.to(self.device, non_blocking=True) for x in read or self.read(rows))
        return images, targets[:, None].float() if self.plan.task == "segmentation" else targets


class Batches:
    """The training batches of a run, by step number.

    Parameters
    ----------
    plan : Plan
        What to train on.
    rank, world : int
        This process and how many there are.
    device : torch.device
        Where batches are made.
    """

    def __init__(self, plan: Plan, rank: int = 0, world: int = 1, device: torch.device | None = None) -> None:
        self.plan, self.rank, self.world = plan, rank, world
        config = plan.config
        whole = config.batch_size * config.accumulate * world
        self.steps_per_epoch = -(-len(plan.train_rows) // whole)
        if len(plan.train_rows) // self.steps_per_epoch < world:
            raise InputError(
                f"{len(plan.train_rows)} training cases in {self.steps_per_epoch} steps are too few for "
                f"{world} processes.",
                "Use fewer processes or a larger --batch-size.",
            )
        # The reading thread may be in the next epoch.
        self._order = lru_cache(maxsize=2)(self._draw_order)
        self.cases = StoredCases(plan, plan.train_rows, device or torch.device("cpu"))
        self.augment = (
            training_transform(plan.dataset.info.modality, plan.task, config.monai_transforms)
            if config.augment
            else None
        )

    def rows(self, step: int) -> np.ndarray:
        """Rows of the whole step, over all processes, in order."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return np.array_split(self._order(epoch), self.steps_per_epoch)[place]

    def _draw_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.plan.config.seed, epoch]).permutation(self.plan.train_rows)

    def __getitem__(self, step: int) -> list[MicroBatch]:
        """Make the micro-batches of this process for a step."""
        return [self._make(step, rows, self.cases.on_device(rows)) for rows in self._pieces(step)]

    def stream(self, first: int, last: int) -> Generator[list[MicroBatch]]:
        """Yield the micro-batches of steps `first` to `last` (exclusive); a thread reads ahead from disk."""
        if self.cases.resident is not None:
            yield from (self[step] for step in range(first, last))
            return
        with ThreadPoolExecutor(1, "read-ahead") as pool:
            ahead: deque[Future[list[tuple[Tensor, Tensor]]]] = deque()
            for step in range(first, last):
                while step + len(ahead) < min(step + READ_AHEAD, last):
                    ahead.append(pool.submit(self._read, step + len(ahead)))
                pieces = zip(self._pieces(step), ahead.popleft().result(), strict=True)
                yield [self._make(step, rows, self.cases.on_device(rows, read)) for rows, read in pieces]

    def _read(self, step: int) -> list[tuple[Tensor, Tensor]]:
        return [self.cases.read(rows) for rows in self._pieces(step)]

    def _pieces(self, step: int) -> list[np.ndarray]:
        mine = self.rows(step)[self.rank :: self.world]
        return np.array_split(mine, min(self.plan.config.accumulate, len(mine)))

    def _make(self, step: int, rows: np.ndarray, stored: tuple[Tensor, Tensor]) -> MicroBatch:
        plan, (images, targets) = self.plan, stored
        planes = plan.preprocessing.planes(images)
        if self.augment is not None:
            masks = targets if plan.task == "segmentation" else None
            epoch = step // self.steps_per_epoch
            planes, masks = self.augment(planes, masks, plan.config.seed, epoch, rows)
            targets = targets if masks is None else masks
        images = plan.preprocessing.standardize(planes).contiguous(memory_format=torch.channels_last)
        return MicroBatch(images, targets, len(rows) * self.world / len(self.rows(step)))
