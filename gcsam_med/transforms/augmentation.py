"""Random transforms of training images, one pipeline a modality, as functions of a seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from gcsam_med.config import Task
from gcsam_med.errors import unknown_name

if TYPE_CHECKING:
    import torch

    from gcsam_med.transforms.sample import Sample, SampleTransform

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
        # MONAI's transforms draw from a RandomState; on PCG64 it is seeded in a tenth of MT19937's 0.1 ms.
        random = np.random.RandomState(np.random.PCG64(seed))
        sample: Sample = {"image": image, "mask": mask}
        for step in self.steps:
            own = copy.copy(step)
            own.set_random_state(state=random)
            sample = own(sample)
        return sample["image"].clamp(0, 1), sample["mask"]


def training_transform(modality: Modality, task: Task) -> Augmentation:
    """Random transforms for a kind of images.

    Parameters
    ----------
    modality : {"ultrasound", "xray", "photo"}
        `DatasetInfo.modality`.
    task : {"segmentation", "classification"}
        The outline of a lesion is what segmentation learns to follow, so it may be bent there; to
        classification it is a sign (a tall or spiculated lesion is suspicious), so it is not.

    Returns
    -------
    Augmentation
        A function of image, mask and seed.

    Raises
    ------
    InputError
        If the modality is unknown.
    """
    if modality not in PIPELINES:
        raise unknown_name("modality", modality, PIPELINES)
    return Augmentation(PIPELINES[modality](task))


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


def _ultrasound(task: Task) -> list[SampleTransform]:
    from gcsam_med.transforms import intensity, spatial

    segmenting = task == "segmentation"
    return [
        # The probe may be held either way round, tilted and moved; pressed harder, tissue flattens and bends.
        spatial.RandomPlacement(
            flip=0.5,
            rotate=15 if segmenting else 10,
            scale=0.15,
            shift=0.08,
            stretch=0.1 if segmenting else 0.0,
            bend=0.02 if segmenting else 0.0,
        ),
        # Every operator turns the knobs differently: gain, dynamic range, time-gain compensation.
        intensity.RandomTone(gain=0.2, gamma=0.3, threshold=0.05, prob=0.8),
        intensity.RandomDepthGain(change=0.3, prob=0.3),
        # Shadows hide parts of lesions, and an outline must not follow one.
        intensity.RandomShadow(strength=(0.3, 0.7), prob=0.2),
        # Speckle is the texture of the machine, not of the patient.
        intensity.RandomSpeckle(strength=0.2, prob=0.5),
    ]


def _xray(task: Task) -> list[SampleTransform]:
    from gcsam_med.transforms import intensity, spatial

    return [
        # No mirror image: the heart lies on the left, and a mirrored chest is a finding (dextrocardia).
        # Patients are positioned with care, so movements are small.
        spatial.RandomPlacement(flip=0.0, rotate=7, scale=0.1, shift=0.05),
        # Exposure, the detector's curve and its noise differ between machines.
        intensity.RandomTone(gain=0.15, gamma=0.3, threshold=0.05, prob=0.8),
        intensity.RandomQuantumNoise(strength=0.03, prob=0.3),
    ]


def _photo(task: Task) -> list[SampleTransform]:
    from gcsam_med.transforms import spatial

    # What the literature on CIFAR does, so that scores compare.
    return [spatial.RandomCrop(flip=0.5, pad=0.125)]


PIPELINES: dict[str, Callable[[Task], list[SampleTransform]]] = {
    "ultrasound": _ultrasound,
    "xray": _xray,
    "photo": _photo,
}
