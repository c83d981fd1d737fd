"""What the random transforms of training cost, on one thread.

::

    python benchmarks/transforms.py --size 128

Prints milliseconds of processor time a case (image and mask), in batches of 8: each
pipeline, each of its steps where it acts,
and for comparison what a user would write with MONAI's dictionary transforms. All are taken in turn, round
after round, in one run; the number is the median over the rounds, with the fastest and the slowest.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch

from gcsam_med.transforms.augmentation import Augmentation, training_transform

Case = Callable[[torch.Tensor, torch.Tensor, int], object]
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--channels", type=int, choices=(1, 3), default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=60, help="calls a round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, arguments.channels, arguments.size, arguments.size)
    image = torch.rand(shape, generator=generator)
    mask = (image[:, :1] > 0.5).float()
    cases = {**pipelines(), **steps(), "MONAI, one by one": monai_pipeline()}
    times = measure(cases, image, mask, arguments.rounds, arguments.calls)
    print(f"images {tuple(image.shape)} and masks: milliseconds of processor time a case")
    for name, taken in times.items():
        middle = statistics.median(taken)
        print(f"{name:36s} {middle:6.3f}   ({min(taken):.3f} .. {max(taken):.3f})")


def measure(
    cases: dict[str, Case], image: torch.Tensor, mask: torch.Tensor, rounds: int, calls: int
) -> dict[str, list[float]]:
    """Milliseconds of processor time a call, one figure a round for each case."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            start = time.process_time()
            for call in range(calls):
                case(image, mask, number * calls + call)
            if number:  # the first round warms up
                times[name].append((time.process_time() - start) / calls / BATCH * 1e3)
    return times


def pipelines() -> dict[str, Case]:
    """The pipelines of training."""
    return {
        f"{modality}, {task}": on_batches(training_transform(modality, task))
        for modality in ("ultrasound", "xray", "photo")
        for task in ("segmentation", "classification")
    }


def steps() -> dict[str, Case]:
    """Each step of the segmentation pipelines, acting every time."""
    found: dict[str, Case] = {}
    for modality in ("ultrasound", "xray", "photo"):
        for step in training_transform(modality, "segmentation").pipeline.transforms:
            step.prob = 1.0
            found[f"  {modality}: {type(step).__name__}"] = on_batches(Augmentation([step]))
    return found


def on_batches(augment: Augmentation) -> Case:
    """An augmentation of batches as a function of a seed."""
    return lambda images, masks, seed: augment(images, masks, seed, 0, range(BATCH))


def monai_pipeline() -> Case:
    """Flip, affine, contrast and noise by MONAI's dictionary transforms."""
    from monai.transforms import (
        Compose,
        RandAdjustContrastd,
        RandAffined,
        RandFlipd,
        RandGaussianNoised,
    )

    both = ["image", "mask"]
    pipeline = Compose(
        [
            RandFlipd(both, prob=0.5, spatial_axis=1),
            RandAffined(
                both,
                prob=1.0,
                rotate_range=0.26,
                scale_range=0.15,
                translate_range=10,
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            RandAdjustContrastd("image", prob=0.8, gamma=(0.7, 1.4)),
            RandGaussianNoised("image", prob=0.5, std=0.1),
        ]
    )

    def case(images: torch.Tensor, masks: torch.Tensor, seed: int) -> object:
        pipeline.set_random_state(seed)
        return [pipeline({"image": i, "mask": m}) for i, m in zip(images, masks, strict=True)]

    return case


if __name__ == "__main__":
    main()
