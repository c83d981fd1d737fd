"""Random transforms of training images, one pipeline a modality, as functions of a seed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from gcsam_med.errors import unknown_name

if TYPE_CHECKING:
    import torch

    from gcsam_med.transforms.random import Sample, SampleTransform

Modality = Literal["ultrasound", "xray", "photo"]


class Augmentation:
    """A random transform of an image and its mask that is a function of a seed.

    It keeps no state between calls, so threads and processes may share it.

    Parameters
    ----------
    steps : sequence of SampleTransform
        Applied in this order.
    """

    def __init__(self, steps: Sequence[SampleTransform]) -> None:
        self.steps = tuple(steps)

    def __call__(
        self, image: torch.Tensor, mask: torch.Tensor | None, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Transform one case.

        Parameters
        ----------
        image : Tensor of float32, shape (C, S, S)
            Values in 0..1; left unchanged.
        mask : Tensor of float32, shape (1, S, S), or None
            0 or 1; left unchanged.
        seed : int
            From `sample_seed`.

        Returns
        -------
        image : Tensor of float32, shape (C, S, S)
            Values in 0..1.
        mask : Tensor of float32, shape (1, S, S), or None
            0 or 1, moved as the image was.
        """
        # MONAI's transforms draw from RandomState; MT19937 from a small seed costs 0.1 ms, PCG64 a tenth.
        random = np.random.RandomState(np.random.PCG64(seed))
        sample: Sample = {"image": image, "mask": mask}
        for step in self.steps:
            own = copy.copy(step)
            own.set_random_state(state=random)
            sample = own(sample)
        return sample["image"].clamp(0, 1), sample["mask"]


def training_transform(modality: Modality, task: Literal["segmentation", "classification"]) -> Augmentation:
    """Random transforms for a kind of images.

    Parameters
    ----------
    modality : {"ultrasound", "xray", "photo"}
        `DatasetInfo.modality`.
    task : {"segmentation", "classification"}
        A lesion's shape is a diagnostic sign, so classification bends it less.

    Returns
    -------
    Augmentation
        A function of image, mask and seed.
    """
    from gcsam_med.transforms import random as r

    segmenting = task == "segmentation"
    pipelines: dict[str, list[SampleTransform]] = {
        "ultrasound": [
            r.RandomPlacement(flip=0.5, rotate=15 if segmenting else 10, scale=0.15, shift=0.08),
            r.RandomGain(gain=0.2, gamma=0.3, prob=0.8),
            r.RandomShadow(prob=0.2),
            r.RandomSpeckle(strength=0.15, prob=0.5),
        ],
        "xray": [
            r.RandomPlacement(flip=0.0, rotate=7, scale=0.1, shift=0.05),
            r.RandomGain(gain=0.15, gamma=0.25, prob=0.8),
        ],
        "photo": [r.RandomCrop(flip=0.5, shift=0.125)],
    }
    if modality not in pipelines:
        raise unknown_name("modality", modality, pipelines.keys())
    return Augmentation(pipelines[modality])


def sample_seed(seed: int, epoch: int, row: int) -> int:
    """Turn a run's seed, an epoch and a case's row into the seed of its augmentation.

    Neither the order in which cases are drawn nor the number of workers takes part, so a run may be resumed
    anywhere and loaded by any number of processes with the same result.

    Returns
    -------
    int
        In 0..2**32-1.
    """
    return int(np.random.SeedSequence((seed, epoch, row)).generate_state(1)[0])
