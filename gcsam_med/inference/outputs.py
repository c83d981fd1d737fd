"""What is written for one image: its mask, its overlay, its row of ``predictions.csv``."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gcsam_med.geometry import Geometry
from gcsam_med.inference.ensemble import Answer
from gcsam_med.inference.inputs import Input
from gcsam_med.reporting.drawing import overlay
from gcsam_med.runs.masks import Postprocessing, to_mask

MASKS, OVERLAYS = "masks", "overlays"
# Above this mean mutual information (nats) where foreground is possible, the models disagree.
DISAGREEMENT = 0.05


@dataclass(frozen=True)
class Ready:
    """A decoded image on its way through the network.

    Parameters
    ----------
    item : Input
        Where it comes from.
    pixels : ndarray of uint8, shape (H, W) or (H, W, 3)
        The original.
    square : ndarray of uint8, shape (size, size) or (size, size, 3)
        What the network sees.
    geometry : Geometry
        How the one lies in the other.
    spacing : tuple of float or None
        Row and column in mm.
    notes : tuple of str
        How it was read.
    flags : tuple of str
        In which way it is unlike the training images.
    unlikeness : float or None
        Distance from the training images over the limit; above 1 is flagged.
    """

    item: Input
    pixels: np.ndarray
    square: np.ndarray
    geometry: Geometry
    spacing: tuple[float, float] | None
    notes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    unlikeness: float | None = None


@dataclass(frozen=True)
class Drawing:
    """How masks are made and what is drawn.

    Parameters
    ----------
    folder : Path
        Output folder, with ``masks/`` and ``overlays/`` in it.
    threshold : float
        Foreground from this probability on.
    steps : Postprocessing
        What is done to the mask afterwards.
    overlays : bool
        Whether overlays are drawn.
    """

    folder: Path
    threshold: float
    steps: Postprocessing = field(default_factory=Postprocessing)
    overlays: bool = True


def base_row(item: Input) -> dict[str, Any]:
    """Return the columns that every input has."""
    return {"input": item.label, "name": item.name, "status": "ok", "reason": "", "flags": ""}


def failed_row(item: Input, reason: str, detail: str) -> dict[str, Any]:
    """Return the row of an input that could not be used."""
    return base_row(item) | {"status": "failed", "reason": f"{reason}: {detail}"}


def segment(ready: Ready, answer: Answer, how: Drawing) -> dict[str, Any]:
    """Write the mask and overlay of one image and return its row.

    Parameters
    ----------
    ready : Ready
        The image.
    answer : Answer
        About this image, on the square.
    how : Drawing
        What is written where.

    Returns
    -------
    dict
        Columns of ``predictions.csv``.
    """
    probability, disagreement = answer.probability, answer.disagreement
    original = ready.geometry.restore(probability)
    mask = to_mask(original, how.threshold, how.steps)
    name = f"{ready.item.name}.png"
    write_png(how.folder / MASKS / name, Image.fromarray(mask.astype(np.uint8) * 255))
    if how.overlays:
        width = max(1, round(max(mask.shape) / 400))
        write_png(how.folder / OVERLAYS / name, overlay(ready.pixels, mask, width=width))
    area = int(np.count_nonzero(mask))
    flags = [*_flags(ready, answer), *(["nothing marked"] if not area else [])]
    row = base_row(ready.item) | {
        "height": mask.shape[0],
        "width": mask.shape[1],
        "mask": f"{MASKS}/{name}",
        "overlay": f"{OVERLAYS}/{name}" if how.overlays else "",
        "area_px": area,
        "area_mm2": _area_mm2(area, ready.spacing),
        "area_share": round(area / mask.size, 6),
        "max_probability": _round(original.max()),
        "mean_probability": _round(original[mask].mean()) if area else None,
        "unlikeness": ready.unlikeness,
        "feature_unlikeness": _unlikeness(answer),
        "disagreement": None,
    }
    if disagreement is not None:
        possible = probability > 0.1
        value = float(disagreement[possible].mean()) if possible.any() else 0.0
        row["disagreement"] = _round(value)
        flags += ["models disagree"] if value > DISAGREEMENT else []
    return row | {"flags": "; ".join(flags), "notes": "; ".join(ready.notes)}


def classify(
    ready: Ready, answer: Answer, classes: Sequence[str], positive: int | None, threshold: float
) -> dict[str, Any]:
    """Return the row of one image of a classification.

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
    dict
        Columns of ``predictions.csv``.
    """
    probability = answer.probability
    if positive is None:
        called = int(probability.argmax())
    else:
        called = positive if probability[positive] >= threshold else 1 - positive
    row = base_row(ready.item) | {
        "height": ready.geometry.height,
        "width": ready.geometry.width,
        "predicted": classes[called],
    }
    row |= {f"prob_{name}": _round(p) for name, p in zip(classes, probability, strict=True)}
    if answer.calibrated is not None:
        row |= {f"calibrated_{name}": _round(p) for name, p in zip(classes, answer.calibrated, strict=True)}
    row |= {"unlikeness": ready.unlikeness, "feature_unlikeness": _unlikeness(answer)}
    flags = _flags(ready, answer)
    if answer.disagreement is not None:
        row["disagreement"] = _round(answer.disagreement)
        flags += ["models disagree"] if float(answer.disagreement) > DISAGREEMENT else []
    return row | {"flags": "; ".join(flags), "notes": "; ".join(ready.notes)}


def _flags(ready: Ready, answer: Answer) -> list[str]:
    strange = answer.unusual is not None and float(answer.unusual) > 1
    return [*ready.flags, *(["features unlike the training images"] if strange else [])]


def _unlikeness(answer: Answer) -> float | None:
    return None if answer.unusual is None else round(float(answer.unusual), 4)


def _area_mm2(area: int, spacing: tuple[float, float] | None) -> float | None:
    return None if spacing is None else round(area * spacing[0] * spacing[1], 3)


def _round(value: Any) -> float:
    return round(float(value), 6)


def write_png(path: Path, image: Image.Image) -> None:
    """Write a PNG so that a reader sees it whole or not at all."""
    data = io.BytesIO()
    # Speckle hardly compresses: looking for runs alone takes two thirds of the time of level 1, for a third
    # more bytes; masks, which are runs, become smaller too.
    image.save(data, format="PNG", compress_level=1, compress_type=zlib.Z_RLE)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data.getvalue())
    temporary.replace(path)
