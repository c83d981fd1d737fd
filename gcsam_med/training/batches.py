"""The batch of each step, as a function of (seed, step): no state, so a resume needs the step number only.

A step's cases are ``batch_size * accumulate * processes`` of the epoch's order, divided among the processes
and cut into `accumulate` micro-batches. An epoch is cut into steps of even size (they differ by one case at
most), so that no step is left with a single case, on which batch normalization cannot work.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from gcsam_med.errors import InputError
from gcsam_med.training.plan import Plan
from gcsam_med.transforms.augmentation import sample_seed, training_transform


class MicroBatch(NamedTuple):
    """Cases of one forward pass."""

    images: torch.Tensor  #: Tensor, shape (B, C, S, S), float32: Standardized.
    #: Segmentation: masks (B, 1, S, S), float32 0 or 1. Classification: class numbers (B,), int64.
    targets: torch.Tensor
    #: What the mean loss of these cases counts in the step's loss; over all micro-batches and processes the
    #: shares sum to the number of processes (DDP averages over them).
    share: float

    def to(self, device: torch.device) -> MicroBatch:
        """Move to `device`; without waiting, where the memory is page-locked."""
        return MicroBatch(
            self.images.to(device, non_blocking=True), self.targets.to(device, non_blocking=True), self.share
        )


class Batches:
    """The training batches of a run, by step number.

    Parameters
    ----------
    plan : Plan
        What to train on.
    rank, world : int
        This process and how many there are.
    """

    def __init__(self, plan: Plan, rank: int = 0, world: int = 1) -> None:
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
        self.augment = training_transform(plan.dataset.info.modality, plan.task) if config.augment else None

    def rows(self, step: int) -> np.ndarray:
        """Rows of the whole step, over all processes, in order."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.plan.config.seed, epoch]).permutation(self.plan.train_rows)
        return np.array_split(order, self.steps_per_epoch)[place]

    def __getitem__(self, step: int) -> list[MicroBatch]:
        """Make the micro-batches of this process for a step."""
        everyone = self.rows(step)
        mine = everyone[self.rank :: self.world]
        pieces = np.array_split(mine, min(self.plan.config.accumulate, len(mine)))
        epoch = step // self.steps_per_epoch
        return [self._micro_batch(rows, epoch, len(everyone)) for rows in pieces]

    def _micro_batch(self, rows: np.ndarray, epoch: int, step_cases: int) -> MicroBatch:
        plan, dataset = self.plan, self.plan.dataset
        images = plan.preprocessing.planes(dataset.images(rows))
        masks = targets_of(plan, rows) if plan.task == "segmentation" else None
        if self.augment is not None:
            for i, row in enumerate(rows):
                seed = sample_seed(plan.config.seed, epoch, int(row))
                image, mask = self.augment(images[i], None if masks is None else masks[i], seed)
                images[i] = image
                if masks is not None and mask is not None:
                    masks[i] = mask
        targets = targets_of(plan, rows) if masks is None else masks
        return MicroBatch(
            plan.preprocessing.standardize(images).contiguous(memory_format=torch.channels_last),
            targets,
            len(rows) * self.world / step_cases,
        )


def targets_of(plan: Plan, rows: np.ndarray) -> torch.Tensor:
    """Masks (B, 1, S, S) float32 or class numbers (B,) int64 of `rows`."""
    if plan.task == "segmentation":
        return torch.from_numpy(plan.dataset.masks(rows)).unsqueeze(1).float()
    return torch.from_numpy(plan.labels(rows))
