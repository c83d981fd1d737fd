"""The prediction of one image, and what is written of it: mask, overlay, row of ``predictions.csv``."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gcsam_med.files import open_to_append
from gcsam_med.inference.ensemble import Answer
from gcsam_med.inference.inputs import MASKS, OVERLAYS, DecodedImage, Input
from gcsam_med.reporting.drawing import overlay
from gcsam_med.runs.postprocessing import NONE, Postprocessing, to_mask

# Above this mutual information (nats; of a mask, its mean where foreground is possible) the models disagree.
DISAGREEMENT = 0.05
# From this probability on, foreground is possible.
POSSIBLE = 0.1


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What is known of the prediction of one image, whatever the task."""

    name: str  #: The file's stem; ``"array"`` for an array.
    image: np.ndarray  #: uint8, shape (H, W) or (H, W, 3): the image.
    #: Mutual information (nats) between answer and model: of a mask, its mean where foreground is possible;
    #: None with a single answer.
    disagreement: float | None
    #: Distance from the training images by intensity statistics, over the limit; None where not known.
    unlikeness: float | None
    #: Distance from the training images by the network's features, over the limit; None where not known.
    feature_unlikeness: float | None
    flags: tuple[str, ...]  #: What a person should look at.
    notes: tuple[str, ...]  #: How the file was read.


@dataclass(frozen=True, kw_only=True)
class Segmentation(Prediction):
    """The mask of one image."""

    probability: np.ndarray  #: float32, shape (H, W): of foreground, at the image's own resolution.
    mask: np.ndarray  #: bool, shape (H, W): foreground.
    threshold: float  #: Foreground from this probability on.
    spacing: tuple[float, float] | None  #: Pixel spacing (row, column) in mm, where the file tells it.

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


@dataclass(frozen=True, kw_only=True)
class Classification(Prediction):
    """The predicted class of one image."""

    predicted: str  #: The class.
    probabilities: dict[str, float]  #: Of each class.
    #: The same, calibrated on validation; None where the model has not been calibrated.
    calibrated: dict[str, float] | None
    #: Of two classes, the positive one is predicted from this probability on; None with more.
    threshold: float | None


def segment(
    decoded: DecodedImage, answer: Answer, threshold: float, steps: Postprocessing = NONE
) -> Segmentation:
    """Bring one image's answer back to its own pixels, cut it at the threshold and post-process the mask."""
    probability = decoded.geometry.restore(answer.probability)
    mask = to_mask(probability, threshold, steps)
    disagreement = None
    if answer.disagreement is not None:
        possible = answer.probability > POSSIBLE
        disagreement = float(answer.disagreement[possible].mean()) if possible.any() else 0.0
    return Segmentation(
        probability=probability,
        mask=mask,
        threshold=threshold,
        spacing=decoded.spacing,
        **_common(decoded, answer, disagreement, empty=not mask.any()),
    )


def classify(
    decoded: DecodedImage, answer: Answer, classes: Sequence[str], positive: int | None, threshold: float
) -> Classification:
    """Predict the likeliest class of one image, or of two classes, the positive one from the threshold on.

    `classes` names the answer's columns; `positive` is the positive one's index, None with more than two.
    """
    probability = answer.probability
    if positive is None:
        predicted = int(probability.argmax())
    else:
        predicted = positive if probability[positive] >= threshold else 1 - positive
    return Classification(
        predicted=classes[predicted],
        probabilities=_by_class(classes, probability),
        calibrated=None if answer.calibrated is None else _by_class(classes, answer.calibrated),
        threshold=None if positive is None else threshold,
        **_common(decoded, answer, None if answer.disagreement is None else float(answer.disagreement)),
    )


def _by_class(classes: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value in zip(classes, values, strict=True)}


def _common(
    decoded: DecodedImage, answer: Answer, disagreement: float | None, *, empty: bool = False
) -> dict[str, Any]:
    distance = None if answer.feature_distance is None else float(answer.feature_distance)
    flags = (
        *decoded.flags,
        *(["features unlike the training images"] if distance is not None and distance > 1 else []),
        *(["nothing marked"] if empty else []),
        *(["models disagree"] if disagreement is not None and disagreement > DISAGREEMENT else []),
    )
    return {
        "name": decoded.item.name,
        "image": decoded.pixels,
        "disagreement": disagreement,
        "unlikeness": decoded.unlikeness,
        "feature_unlikeness": None if distance is None else round(distance, 4),
        "flags": flags,
        "notes": decoded.notes,
    }


def base_row(item: Input) -> dict[str, Any]:
    """Return the columns that every input has."""
    return {"input": item.label, "name": item.name, "status": "ok", "reason": "", "flags": ""}


def failed_row(item: Input, reason: str, detail: str) -> dict[str, Any]:
    """Return the row of an input that could not be used."""
    return base_row(item) | {"status": "failed", "reason": f"{reason}: {detail}"}


def segmentation_row(item: Input, found: Segmentation, folder: Path, *, overlays: bool) -> dict[str, Any]:
    """Write the mask and overlay of one image below `folder`; return its row of ``predictions.csv``."""
    name, mask = f"{item.name}.png", found.mask
    write_mask(folder / MASKS / name, mask)
    if overlays:
        write_png(folder / OVERLAYS / name, found.overlay())
    area, mm2 = found.area_px, found.area_mm2
    return base_row(item) | {
        "height": mask.shape[0],
        "width": mask.shape[1],
        "mask": f"{MASKS}/{name}",
        "overlay": f"{OVERLAYS}/{name}" if overlays else "",
        "area_px": area,
        "area_mm2": None if mm2 is None else round(mm2, 3),
        "area_share": round(area / mask.size, 6),
        "max_probability": _round(found.probability.max()),
        "mean_probability": _round(found.probability[mask].mean()) if area else None,
        **_uncertainty(found),
    }


def classification_row(item: Input, found: Classification) -> dict[str, Any]:
    """Return the row of ``predictions.csv`` of one image."""
    row = base_row(item) | {
        "height": found.image.shape[0],
        "width": found.image.shape[1],
        "predicted": found.predicted,
    }
    row |= {f"prob_{name}": _round(p) for name, p in found.probabilities.items()}
    row |= {f"calibrated_{name}": _round(p) for name, p in (found.calibrated or {}).items()}
    return row | _uncertainty(found)


def _uncertainty(found: Segmentation | Classification) -> dict[str, Any]:
    return {
        "unlikeness": found.unlikeness,
        "feature_unlikeness": _round(found.feature_unlikeness),
        "disagreement": _round(found.disagreement),
        "flags": "; ".join(found.flags),
        "notes": "; ".join(found.notes),
    }


def _round(value: Any) -> float | None:
    return None if value is None else round(float(value), 6)


def write_png(path: Path, image: Image.Image) -> None:
    """Write a PNG so that a reader sees it whole or not at all."""
    data = io.BytesIO()
    # Speckle hardly compresses: looking for runs alone takes two thirds of the time of level 1, for a third
    # more bytes.
    image.save(data, format="PNG", compress_level=1, compress_type=zlib.Z_RLE)
    _write(path, data.getvalue())


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write a mask, bool (H, W), as an 8-bit grey PNG of 0 and 255, as `write_png` does.

    Pillow tries every filter on every row of a grey image; runs of equal pixels need none, and without them
    it takes a third of the time.
    """
    height, width = mask.shape
    rows = np.zeros((height, 1 + width), dtype=np.uint8)  # each row begins with its filter: 0, none
    np.multiply(mask, 255, out=rows[:, 1:], casting="unsafe")
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", packer.compress(rows.data) + packer.flush()),
        (b"IEND", b""),
    ]
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    _write(path, b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with open_to_append(temporary, anew=True) as file:
        file.write(data)
    temporary.replace(path)
