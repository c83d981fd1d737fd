"""A study of several parts in one YAML file, and what it takes of a GPU.

The file holds ``parts``; each is one comparison: ``compare`` (fields of `CompareOptions`), ``settings`` (of
`RunConfig`, common to its runs), and the numbers of training and validation images for the estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gcsam_med.compare.arms import planned_arms
from gcsam_med.config import CompareOptions, load_config
from gcsam_med.errors import InputError
from gcsam_med.fields import Name, validated
from gcsam_med.reading import read_yaml, validate
from gcsam_med.training.cost import FORWARD, passes_per_step

# Images a second of one pass (forward, backward, update) in the training loop of one NVIDIA H200, bf16, by
# network and batch size (docs/how-to/gpu.md; images of 256 pixels, ViT-B/16 of 224).
H200 = {"unet": {8: 1930, 32: 3306}, "resnet50": {32: 2604}, "vit-b-16": {32: 1803}}
# Not measured: guessed from their operations and the two classifiers above.
GUESSED = {"resnet18": {32: 6000}, "vgg16": {32: 1000}, "swin-t": {32: 1500}}
MOST_IMAGES = 10**9


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    compare: dict[str, Any]
    settings: dict[str, Any]
    train_images: int = Field(ge=1, le=MOST_IMAGES)
    val_images: int = Field(ge=0, le=MOST_IMAGES)


class _StudyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    parts: dict[Name, _Part] = Field(min_length=1)


@dataclass(frozen=True)
class StudyPart:
    """One comparison of a study."""

    name: str  #: Its folder below the study's.
    options: CompareOptions
    settings: dict[str, Any]  #: Common to its runs.
    #: train_images, val_images: Numbers for the estimate.
    train_images: int
    val_images: int


def read_study(path: Path, overrides: dict[str, Any]) -> list[StudyPart]:
    """Read the parts of a study; `overrides` are settings that beat those of every part.

    Raises
    ------
    InputError
        If the file cannot be read, or an option or setting is unknown or does not fit.
    """
    try:
        found = validate(read_yaml(path, 2**20), _StudyFile)
    except (OSError, ValueError) as error:
        raise InputError(f"The study {path} cannot be read: {error}.", "See configs/studies/.") from None
    parts = []
    for name, part in found.parts.items():
        options = validated(
            CompareOptions, part.compare, f"Part '{name}' of {path.name} does not hold: ", str
        )
        settings = part.settings | overrides
        load_config(None, settings)
        parts.append(StudyPart(name, options, settings, part.train_images, part.val_images))
    return parts


@dataclass(frozen=True)
class Estimate:
    """What a part takes of an H200, at most: early stopping and runs beside each other make it less."""

    part: str
    runs: int
    minutes: float
    measured: bool  #: Whether the rate of each of its networks was measured.
    each: dict[str, float]  #: Minutes of one run, by network and arm.


def estimate(part: StudyPart) -> Estimate:
    """Estimate the GPU minutes of a part from the table of measured rates; nothing is read or run.

    Raises
    ------
    InputError
        If the table has no rate for a network.
    """
    base = load_config(None, part.settings)
    rates = H200 | GUESSED
    seconds, count, each = 0.0, 0, {}
    models = part.options.models or (base.model or ("unet" if base.task == "segmentation" else "resnet18"),)
    for model in models:
        if model not in rates:
            raise InputError(f"No rate of '{model}' is known.", f"Known: {', '.join(rates)}.")
        for arm in planned_arms(part.options, base):
            config = arm.config(base)
            steps = math.ceil(part.train_images / config.batch_size)
            images = steps * config.batch_size * passes_per_step(config) + part.val_images * FORWARD
            repeats = len(part.options.seeds) * (
                5 if part.options.folds == "all" else len(part.options.folds or (None,))
            )
            rate = max(
                r for size, r in rates[model].items() if size <= max(config.batch_size, min(rates[model]))
            )
            one = config.epochs * images / rate
            each[f"{model} {arm.name}"] = one / 60
            seconds += repeats * one
            count += repeats
    return Estimate(part.name, count, seconds / 60, all(model in H200 for model in models), each)
