"""The batch of each step, as a function of (seed, step): no state, so a resume needs the step number only.

A step's cases are ``batch_size * accumulate * processes`` of the epoch's order, divided among the processes
and cut into `accumulate` micro-batches. An epoch is cut into steps of even size (they differ by one case at
most), so that no step is left with a single case, on which batch normalization cannot work.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gcsam_med.devices import free_memory
from gcsam_med.errors import InputError
from gcsam_med.optim.capture import CapturedFunction
from gcsam_med.pools import ahead
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


def fits_on(device: torch.device, plan: Plan, rows: np.ndarray) -> bool:
    """Whether the stored images and targets of some rows are to be kept on a GPU."""
    info = plan.dataset.info
    case_bytes = info.size**2 * (info.channels + (plan.task == "segmentation"))
    return device.type == "cuda" and len(rows) * case_bytes <= RESIDENT_SHARE * free_memory(device)


class StoredCases:
    """Stored images and targets of some rows of the manifest, on their way to a device.

    They are kept on a GPU if they fit, else read from disk when asked for.
    """

    def __init__(self, plan: Plan, rows: np.ndarray, device: torch.device) -> None:
        self.plan, self.device = plan, device
        info = plan.dataset.info
        self.rows, self.place = rows, np.full(info.n_cases, -1)
        self.place[rows] = np.arange(len(rows))
        self.resident: tuple[Tensor, Tensor] | None = None
        if fits_on(device, plan, rows):
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

    def on_device(
        self, rows: np.ndarray, read: tuple[Tensor, Tensor] | None = None, places: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images and targets of some rows as `read` gives them, on the device.

        `read` is what that gave for them already, `places` are their places in what is resident, on the
        device already.
        """
        if self.resident is None:
            images, targets = (x.to(self.device, non_blocking=True) for x in read or self.read(rows))
            return images, targets
        if places is None:
            places = torch.from_numpy(self.place[rows]).to(self.device, non_blocking=True)
        images, targets = (x.index_select(0, places) for x in self.resident)
        return images, targets

    def for_network(self, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Images as `read` gives them, as the network takes them, and targets as a loss takes them."""
        images, targets = self.on_device(rows)
        inputs = self.plan.preprocessing(images).contiguous(memory_format=torch.channels_last)
        return images, inputs, targets[:, None].float() if self.plan.task == "segmentation" else targets


class _Epoch(NamedTuple):
    """What is the same for an epoch, on the device; a row for each case in the epoch's order."""

    places: Tensor | None  #: Where the cases stand among the resident ones.
    draws: Tensor | None  #: Random numbers of the augmentation.


class Batches:
    """The training batches of a run for this process (`rank` of `world`), by step number."""

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
        self._epoch = lru_cache(maxsize=1)(self._make_epoch)
        self.device = device or torch.device("cpu")
        self.cases = StoredCases(plan, plan.train_rows, self.device)
        self.augment = (
            training_transform(plan.dataset.info.modality, plan.task, config.monai_transforms)
            if config.augment
            else None
        )
        self._transform: Callable[..., Sequence[Tensor | None]] = self._transform_stored
        self._beside: torch.cuda.Stream | None = None
        if self.device.type == "cuda":
            self._beside = torch.cuda.Stream(self.device)
            if config.capture and not config.monai_transforms:
                self._transform = CapturedFunction(self._transform_stored)

    def rows(self, step: int) -> np.ndarray:
        """Rows of the whole step, over all processes, in order."""
        first, last = self._bounds(step)
        return self._order(step // self.steps_per_epoch)[first:last]

    def _bounds(self, step: int) -> tuple[int, int]:
        """Places of the step's cases in the order of its epoch; the first steps may have one case more."""
        place = step % self.steps_per_epoch
        size, larger = divmod(len(self.plan.train_rows), self.steps_per_epoch)
        first = place * size + min(place, larger)
        return first, first + size + (place < larger)

    def _draw_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.plan.config.seed, epoch]).permutation(self.plan.train_rows)

    def _make_epoch(self, epoch: int) -> _Epoch:
        order, places, draws = self._order(epoch), None, None
        if self.cases.resident is not None:
            places = self._to_device(self.cases.place[order])
        if self.augment is not None:
            draws = self._to_device(self.augment.draws(self.plan.config.seed, epoch, order))
        return _Epoch(places, draws)

    def _to_device(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self._beside else tensor

    def __getitem__(self, step: int) -> list[MicroBatch]:
        """Make the micro-batches of this process for a step."""
        return self._make(step, [None] * len(self._pieces(step)))

    def stream(self, first: int, last: int) -> Generator[list[MicroBatch]]:
        """Yield the micro-batches of steps `first` to `last` (exclusive); a thread reads ahead from disk."""
        if self.cases.resident is not None:
            yield from (self[step] for step in range(first, last))
            return
        with ThreadPoolExecutor(1, "read-ahead") as pool:
            parts = ahead(pool, self._read, range(first, last), READ_AHEAD)
            yield from (self._make(step, read) for step, read in zip(range(first, last), parts, strict=True))

    def _read(self, step: int) -> list[tuple[Tensor, Tensor]]:
        order = self._order(step // self.steps_per_epoch)
        return [self.cases.read(order[piece]) for piece in self._pieces(step)]

    def _pieces(self, step: int) -> list[slice]:
        """Places of this process's micro-batches in the order of the epoch."""
        first, last = self._bounds(step)
        mine = range(first + self.rank, last, self.world)
        parts = np.array_split(np.array(mine), min(self.plan.config.accumulate, len(mine)))
        return [slice(int(part[0]), int(part[-1]) + 1, self.world) for part in parts]

    def _make(self, step: int, read: Sequence[tuple[Tensor, Tensor] | None]) -> list[MicroBatch]:
        """Make micro-batches; on a GPU while it still computes the step before."""
        if self._beside is None:
            return self._make_here(step, read)
        with torch.cuda.stream(self._beside):
            made = self._make_here(step, read)
        now = torch.cuda.current_stream(self.device)
        now.wait_stream(self._beside)
        for batch in made:
            batch.images.record_stream(now)
            batch.targets.record_stream(now)
        return made

    def _make_here(self, step: int, read: Sequence[tuple[Tensor, Tensor] | None]) -> list[MicroBatch]:
        number = step // self.steps_per_epoch
        order, epoch = self._order(number), self._epoch(number)
        first, last = self._bounds(step)
        made = []
        for piece, part in zip(self._pieces(step), read, strict=True):
            rows = order[piece]
            places = None if epoch.places is None else epoch.places[piece]
            draws = None if epoch.draws is None else epoch.draws[piece]
            images, targets = self.cases.on_device(rows, part, places)
            masks = targets if self.plan.task == "segmentation" else None
            planes, moved = self._transform(images, masks, draws)
            share = len(rows) * self.world / (last - first)
            made.append(MicroBatch(planes, targets if moved is None else moved, share))  # type: ignore[arg-type]
        return made

    def _transform_stored(
        self, images: Tensor, masks: Tensor | None, draws: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """From stored images and masks to what the network and the loss take."""
        planes = self.plan.preprocessing.planes(images)
        masks = None if masks is None else masks[:, None].float()
        if self.augment is not None and draws is not None:
            planes, masks = self.augment.apply(planes, masks, draws)
        images = self.plan.preprocessing.standardize(planes)
        return images.contiguous(memory_format=torch.channels_last), masks
