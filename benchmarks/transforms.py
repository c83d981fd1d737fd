"""What the random transforms of training cost, on one thread.

::

    python benchmarks/transforms.py --size 128

Prints milliseconds of processor time a case (image and mask): each pipeline, each of its steps where it acts,
and for comparison what a user would write with MONAI's dictionary transforms. All are taken in turn, round
after round, in one run; the figure is the median over the rounds, with the fastest and the slowest.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from gcsam_med.transforms.augmentation import sample_seed, training_transform
from gcsam_med.transforms.sample import SampleTransform

Case = Callable[[torch.Tensor, torch.Tensor, int], object]


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
    image = torch.rand(arguments.channels, arguments.size, arguments.size, generator=generator)
    mask = (image[:1] > 0.5).float()
    cases = {**pipelines(), **steps(), "MONAI, one by one": monai_pipeline()}
    times = measure(cases, image, mask, arguments.rounds, arguments.calls)
    shape = " x ".join(map(str, image.shape))
    print(f"image {shape} and mask: milliseconds of processor time a case")
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
                case(image, mask, sample_seed(0, number, call))
            if number:  # the first round warms up
                times[name].append((time.process_time() - start) / calls * 1e3)
    return times


def pipelines() -> dict[str, Case]:
    """The pipelines of training."""
    return {
        f"{modality}, {task}": training_transform(modality, task)
        for modality in ("ultrasound", "xray", "photo")
        for task in ("segmentation", "classification")
    }


def steps() -> dict[str, Case]:
    """Each step of the segmentation pipelines, acting every time."""
    found: dict[str, Case] = {}
    for modality in ("ultrasound", "xray", "photo"):
        for step in training_transform(modality, "segmentation").steps:
            step.prob = 1.0
            found[f"  {modality}: {type(step).__name__}"] = alone(step)
    return found


def alone(step: SampleTransform) -> Case:
    """One step as a function of a seed."""

    def case(image: torch.Tensor, mask: torch.Tensor, seed: int) -> object:
        step.set_random_state(state=np.random.RandomState(np.random.PCG64(seed)))
        return step({"image": image, "mask": mask})

    return case


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

    def case(image: torch.Tensor, mask: torch.Tensor, seed: int) -> object:
        pipeline.set_random_state(seed)
        return pipeline({"image": image, "mask": mask})

    return case


if __name__ == "__main__":
    main()
