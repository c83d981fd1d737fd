"""What is written for one image: its mask, its overlay, its row of ``predictions.csv``."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gcsam_med.inference.inputs import Input
from gcsam_med.inference.results import Classification, Segmentation
from gcsam_med.runs.postprocessing import Postprocessing

MASKS, OVERLAYS = "masks", "overlays"


@dataclass(frozen=True)
class Drawing:
    """How masks are made and what is drawn."""

    folder: Path  #: Output folder, with ``masks/`` and ``overlays/`` in it.
    steps: Postprocessing = field(default_factory=Postprocessing)  #: What is done to the mask afterwards.
    overlays: bool = True  #: Whether overlays are drawn.


def base_row(item: Input) -> dict[str, Any]:
    """Return the columns that every input has."""
    return {"input": item.label, "name": item.name, "status": "ok", "reason": "", "flags": ""}


def failed_row(item: Input, reason: str, detail: str) -> dict[str, Any]:
    """Return the row of an input that could not be used."""
    return base_row(item) | {"status": "failed", "reason": f"{reason}: {detail}"}


def segmentation_row(item: Input, found: Segmentation, how: Drawing) -> dict[str, Any]:
    """Write the mask and overlay of one image and return its row of ``predictions.csv``."""
    name, mask = f"{item.name}.png", found.mask
    write_mask(how.folder / MASKS / name, mask)
    if how.overlays:
        write_png(how.folder / OVERLAYS / name, found.overlay())
    area, mm2 = found.area_px, found.area_mm2
    return base_row(item) | {
        "height": mask.shape[0],
        "width": mask.shape[1],
        "mask": f"{MASKS}/{name}",
        "overlay": f"{OVERLAYS}/{name}" if how.overlays else "",
        "area_px": area,
        "area_mm2": None if mm2 is None else round(mm2, 3),
        "area_share": round(area / mask.size, 6),
        "max_probability": _round(found.probability.max()),
        "mean_probability": _round(found.probability[mask].mean()) if area else None,
        **_doubts(found),
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
    return row | _doubts(found)


def _doubts(found: Segmentation | Classification) -> dict[str, Any]:
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
    temporary.write_bytes(data)
    temporary.replace(path)
