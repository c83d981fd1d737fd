"""What is written for one image: its mask, its overlay, its row of ``predictions.csv``."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gcsam_med.geometry import Geometry
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


def segment(
    ready: Ready, probability: np.ndarray, disagreement: np.ndarray | None, how: Drawing
) -> dict[str, Any]:
    """Write the mask and overlay of one image and return its row.

    Parameters
    ----------
    ready : Ready
        The image.
    probability : ndarray of float32, shape (size, size)
        Of foreground, on the square.
    disagreement : ndarray of float32, shape (size, size), or None
        Mutual information, on the square.
    how : Drawing
        What is written where.

    Returns
    -------
    dict
        Columns of ``predictions.csv``.
    """
    original = ready.geometry.restore(probability)
    mask = to_mask(original, how.threshold, how.steps)
    name = f"{ready.item.name}.png"
    write_png(how.folder / MASKS / name, Image.fromarray(mask.astype(np.uint8) * 255))
    if how.overlays:
        width = max(1, round(max(mask.shape) / 400))
        write_png(how.folder / OVERLAYS / name, overlay(ready.pixels, mask, width=width))
    area = int(np.count_nonzero(mask))
    flags = [*ready.flags, *(["nothing marked"] if not area else [])]
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
        "disagreement": None,
    }
    if disagreement is not None:
        possible = probability > 0.1
        value = float(disagreement[possible].mean()) if possible.any() else 0.0
        row["disagreement"] = _round(value)
        flags += ["models disagree"] if value > DISAGREEMENT else []
    return row | {"flags": "; ".join(flags), "notes": "; ".join(ready.notes)}


def _area_mm2(area: int, spacing: tuple[float, float] | None) -> float | None:
    return None if spacing is None else round(area * spacing[0] * spacing[1], 3)


def _round(value: Any) -> float:
    return round(float(value), 6)


def write_png(path: Path, image: Image.Image) -> None:
    """Write a PNG so that a reader sees it whole or not at all."""
    data = io.BytesIO()
    # Level 1: a third of the time for a tenth more bytes.
    image.save(data, format="PNG", compress_level=1)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data.getvalue())
    temporary.replace(path)
