"""Random transforms of training images: one MONAI pipeline a modality, a function of (seed, epoch, case)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gcsam_med.config import Task
from gcsam_med.errors import InputError, unknown_name

if TYPE_CHECKING:
    import torch

    from gcsam_med.transforms.random_transforms import BatchTransform, CaseRandom

Modality = Literal["ultrasound", "xray", "photo"]


class Augmentation:
    """A pipeline of random transforms for batches; the draws of a case do not depend on its batch.

    `transforms` (`BatchTransform`) act on the whole batch, in this order; `further` are MONAI's dictionary
    transforms (`RandomizableTransform`), applied to each case after those.
    """

    def __init__(self, transforms: Sequence[BatchTransform], further: Sequence[Any] = ()) -> None:
        from monai.transforms import Compose

        self.pipeline = Compose(list(transforms))
        self.further = Compose(list(further)) if further else None
        # Of what each transform draws for a case.
        self._shapes = [[(d.shape[1:], d.dtype) for d in drawn] for drawn in self._draw(0, 0, [0])[0]]

    def draws(self, seed: int, epoch: int, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Draw all random numbers of n cases, as one table for `apply`: float32, shape (n, columns).

        `rows` are the cases' in the manifest. Whole numbers stand in the table bit for bit.
        """
        drawn, random = self._draw(seed, epoch, rows)
        columns = [draw.reshape(len(rows), -1).view(np.float32) for each in drawn for draw in each]
        if self.further is not None:
            keys = (random.bits() >> np.uint64(33)).astype(np.int32)
            columns.append(keys[:, None].view(np.float32))
        return np.concatenate(columns, axis=1)

    def _draw(self, seed: int, epoch: int, rows: Any) -> tuple[list[list[np.ndarray]], CaseRandom]:
        from gcsam_med.transforms.random_transforms import CaseRandom, case_keys

        random, drawn = CaseRandom(case_keys(seed, epoch, rows)), []
        for transform in self.pipeline.transforms:
            # A copy: threads may share the pipeline, and each call has its own random numbers.
            own = copy.copy(transform)
            own.set_random_state(state=random)
            drawn.append(own.randomize())
        return drawn, random

    def apply(
        self, images: torch.Tensor, masks: torch.Tensor | None, draws: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Transform a batch, as a call does, by rows (B, columns) of the table of `draws` on the same device.

        The batch's images may be changed in place.
        """
        import torch

        data: dict[str, Any] = {"image": images, "mask": masks}
        first = 0
        for transform, shapes in zip(self.pipeline.transforms, self._shapes, strict=True):
            drawn = []
            for shape, kind in shapes:
                width = math.prod(shape)
                part = draws[:, first : first + width]
                drawn.append((part if kind == np.float32 else part.view(torch.int32)).reshape(-1, *shape))
                first += width
            data = transform.apply(data, drawn)
        if self.further is not None:
            data = _case_by_case(copy.deepcopy(self.further), data, draws[:, -1].view(torch.int32).tolist())
        return data["image"].clamp_(0, 1), data["mask"]

    def __call__(
        self,
        images: torch.Tensor,
        masks: torch.Tensor | None,
        seed: int,
        epoch: int,
        rows: Sequence[int] | np.ndarray,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Transform a batch of the cases in these rows of the manifest, in an epoch (from 0) of a run.

        Images are float32 (B, C, S, S) in 0..1, masks float32 (B, 1, S, S) of 0 and 1, or None. New ones of
        the same kind come back, on the same device; masks are moved as the images are.
        """
        import torch

        draws = torch.from_numpy(self.draws(seed, epoch, rows)).to(images.device)
        return self.apply(images.clone(), masks, draws)


def _case_by_case(pipeline: Any, data: dict[str, Any], seeds: list[int]) -> dict[str, Any]:
    import torch

    done = []
    for i, seed in enumerate(seeds):
        pipeline.set_random_state(seed=seed)
        done.append(pipeline({k: v[i] for k, v in data.items() if v is not None}))
    stacked: dict[str, Any] = {
        k: torch.stack([torch.as_tensor(case[k]) for case in done]).as_subclass(torch.Tensor) for k in done[0]
    }
    mask = stacked.get("mask")
    # A transform may have interpolated it.
    return {"image": stacked["image"], "mask": None if mask is None else (mask >= 0.5).float()}


def training_transform(
    modality: Modality, task: Task, further: Sequence[Mapping[str, Mapping[str, Any]]] = ()
) -> Augmentation:
    """Random transforms for images of a modality (`DatasetInfo.modality`).

    The outline of a lesion is what segmentation learns to follow, so it may be bent there; to classification
    it is a sign (a tall or spiculated lesion is suspicious), so it is not. `further` are random dictionary
    transforms of MONAI, each ``{name: options}``.

    Raises
    ------
    InputError
        If the modality, or a further transform, is unknown or does not take its options.
    """
    if modality not in PIPELINES:
        raise unknown_name("modality", modality, PIPELINES)
    return Augmentation(PIPELINES[modality](task), [_monai_transform(entry) for entry in further])


def _monai_transform(entry: Mapping[str, Mapping[str, Any]]) -> Any:
    """Build one of MONAI's ``Rand...d`` transforms; no other class can be named."""
    import monai.transforms

    ((name, options),) = entry.items()
    known = {n for n in dir(monai.transforms) if n.startswith("Rand") and n.endswith("d")}
    if name not in known:
        raise unknown_name("random dictionary transform of MONAI", name, known)
    kind = getattr(monai.transforms, name)
    # What moves the image must move the mask alike; what changes brightness must leave it alone.
    moves = kind.__module__.startswith("monai.transforms.spatial")
    keys = ["image", "mask"] if moves else ["image"]
    try:
        return kind(keys, allow_missing_keys=True, **options)
    except (TypeError, ValueError) as error:
        raise InputError(f"MONAI's {name} does not take these options: {error}.") from error


def _ultrasound(task: Task) -> list[BatchTransform]:
    from gcsam_med.transforms import random_transforms as rt

    segmenting = task == "segmentation"
    return [
        # The probe may be held either way round, tilted and moved; pressed harder, tissue flattens and bends.
        rt.RandomPlacement(
            flip=0.5,
            rotate=15 if segmenting else 10,
            scale=0.15,
            shift=0.08,
            stretch=0.1 if segmenting else 0.0,
            bend=0.02 if segmenting else 0.0,
        ),
        # Every operator turns the knobs differently: gain, dynamic range, time-gain compensation.
        rt.RandomTone(gain=0.2, gamma=0.3, threshold=0.05, prob=0.8),
        rt.RandomDepthGain(change=0.3, prob=0.3),
        # Shadows hide parts of lesions, and an outline must not follow one.
        rt.RandomShadow(strength=(0.3, 0.7), prob=0.2),
        # Speckle is the texture of the machine, not of the patient.
        rt.RandomSpeckle(strength=0.2, prob=0.5),
    ]


def _xray(task: Task) -> list[BatchTransform]:
    from gcsam_med.transforms import random_transforms as rt

    return [
        # No mirror image: the heart lies on the left, and a mirrored chest is a finding (dextrocardia).
        # Patients are positioned with care, so movements are small.
        rt.RandomPlacement(flip=0.0, rotate=7, scale=0.1, shift=0.05),
        # Exposure, the detector's curve and its noise differ between machines.
        rt.RandomTone(gain=0.15, gamma=0.3, threshold=0.05, prob=0.8),
        rt.RandomQuantumNoise(strength=0.03, prob=0.3),
    ]


def _photo(task: Task) -> list[BatchTransform]:
    from gcsam_med.transforms import random_transforms as rt

    # What the literature on CIFAR does, so that scores compare.
    return [rt.RandomCrop(flip=0.5, pad=0.125)]


PIPELINES: dict[str, Callable[[Task], list[BatchTransform]]] = {
    "ultrasound": _ultrasound,
    "xray": _xray,
    "photo": _photo,
}
