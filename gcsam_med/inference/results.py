"""What is said about one image: what is marked on it, or what it is called, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gcsam_med.inference.decode import Ready
from gcsam_med.inference.ensemble import Answer
from gcsam_med.reporting.drawing import overlay
from gcsam_med.runs.postprocessing import NONE, Postprocessing, to_mask

if TYPE_CHECKING:
    from PIL import Image

# Above this mutual information (nats; of a mask, its mean where foreground is possible) the models disagree.
DISAGREEMENT = 0.05
# From this probability on, foreground is possible.
POSSIBLE = 0.1


@dataclass(frozen=True)
class Segmentation:
    """What is marked on one image."""

    name: str  #: The file's stem; ``"array"`` for an array.
    image: np.ndarray  #: ndarray of uint8, shape (H, W) or (H, W, 3): The image.
    #: ndarray of float32, shape (H, W): Of foreground, at the image's own resolution.
    probability: np.ndarray
    mask: np.ndarray  #: ndarray of bool, shape (H, W): Foreground.
    threshold: float  #: Foreground from this probability on.
    spacing: tuple[float, float] | None  #: Pixel spacing (row, column) in mm, where the file tells it.
    #: Mean mutual information (nats) where foreground is possible; None with a single answer.
    disagreement: float | None
    #: unlikeness, feature_unlikeness: Distance from the training images, by their statistics and as the
    #: network sees them, over the limit; None where it is not known.
    unlikeness: float | None
    feature_unlikeness: float | None
    flags: tuple[str, ...]  #: What a person should look at.
    notes: tuple[str, ...]  #: How the file was read.

    @property
    def area_px(self) -> int:
        """Pixels marked."""
        return int(np.count_nonzero(self.mask))

    @property
    def area_mm2(self) -> float | None:
        """Square millimetres marked; None where the spacing is not known."""
        return None if self.spacing is None else self.area_px * self.spacing[0] * self.spacing[1]

    def overlay(self) -> Image.Image:
        """Draw the mask's outline on the image."""
        return overlay(self.image, self.mask, width=max(1, round(max(self.mask.shape) / 400)))


@dataclass(frozen=True)
class Classification:
    """What one image is called."""

    name: str  #: The file's stem; ``"array"`` for an array.
    image: np.ndarray  #: ndarray of uint8, shape (H, W) or (H, W, 3): The image.
    predicted: str  #: The class.
    probabilities: dict[str, float]  #: Of each class.
    #: The same, calibrated on validation; None where evaluation has not done so.
    calibrated: dict[str, float] | None
    #: Of two classes, the positive one is called from this probability on; None with more.
    threshold: float | None
    #: disagreement, unlikeness, feature_unlikeness, flags, notes: As for `Segmentation`.
    disagreement: float | None
    unlikeness: float | None
    feature_unlikeness: float | None
    flags: tuple[str, ...]
    notes: tuple[str, ...]


def segment(ready: Ready, answer: Answer, threshold: float, steps: Postprocessing = NONE) -> Segmentation:
    """Bring the answer back to the image's own pixels and cut it at the threshold.

    Parameters
    ----------
    ready : Ready
        The image.
    answer : Answer
        About this image, on the square.
    threshold : float
        Foreground from this probability on.
    steps : Postprocessing
        What is done to the mask afterwards.

    Returns
    -------
    Segmentation
        At the image's own resolution.
    """
    probability = ready.geometry.restore(answer.probability)
    mask = to_mask(probability, threshold, steps)
    unsure = None
    if answer.disagreement is not None:
        possible = answer.probability > POSSIBLE
        unsure = float(answer.disagreement[possible].mean()) if possible.any() else 0.0
    return Segmentation(
        name=ready.item.name,
        image=ready.pixels,
        probability=probability,
        mask=mask,
        threshold=threshold,
        spacing=ready.spacing,
        disagreement=unsure,
        unlikeness=ready.unlikeness,
        feature_unlikeness=_unlikeness(answer),
        flags=_flags(ready, answer, unsure, empty=not mask.any()),
        notes=ready.notes,
    )


def classify(
    ready: Ready, answer: Answer, classes: Sequence[str], positive: int | None, threshold: float
) -> Classification:
    """Call an image by its likeliest class, or of two, by the threshold.

    Parameters
    ----------
    ready : Ready
        The image.
    answer : Answer
        About this image.
    classes : sequence of str
        Names of the answer's columns.
    positive : int or None
        Column of the positive class, of two.
    threshold : float
        Positive from this probability on.

    Returns
    -------
    Classification
        With every class's probability.
    """
    probability = answer.probability
    if positive is None:
        called = int(probability.argmax())
    else:
        called = positive if probability[positive] >= threshold else 1 - positive
    unsure = None if answer.disagreement is None else float(answer.disagreement)
    return Classification(
        name=ready.item.name,
        image=ready.pixels,
        predicted=classes[called],
        probabilities=_named(classes, probability),
        calibrated=None if answer.calibrated is None else _named(classes, answer.calibrated),
        threshold=None if positive is None else threshold,
        disagreement=unsure,
        unlikeness=ready.unlikeness,
        feature_unlikeness=_unlikeness(answer),
        flags=_flags(ready, answer, unsure),
        notes=ready.notes,
    )


def _named(classes: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value in zip(classes, values, strict=True)}


def _flags(ready: Ready, answer: Answer, unsure: float | None, *, empty: bool = False) -> tuple[str, ...]:
    strange = answer.unusual is not None and float(answer.unusual) > 1
    return (
        *ready.flags,
        *(["features unlike the training images"] if strange else []),
        *(["nothing marked"] if empty else []),
        *(["models disagree"] if unsure is not None and unsure > DISAGREEMENT else []),
    )


def _unlikeness(answer: Answer) -> float | None:
    return None if answer.unusual is None else round(float(answer.unusual), 4)
