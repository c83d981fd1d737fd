"""Pictures for the browser: thumbnails, images, outlines as paths, and maps laid over them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from starlette.responses import JSONResponse, Response

from gcsam_med.reporting.drawing import outlines
from gcsam_med.reporting.page import thumbnail

SIDE = 200  # pixels of a thumbnail's longer side


@dataclass(frozen=True)
class Scene:
    """What is laid over an image."""

    height: int  #: Pixels of the original, the unit of the outlines.
    width: int
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)  #: ``truth``, ``prediction``: bool (H, W).
    heat: np.ndarray | None = None  #: float, any shape (h, w), in [0, 1]: where the network sees something.
    facts: tuple[tuple[str, str], ...] = ()  #: What the network says, as name and value.

    def response(self) -> JSONResponse:
        """Return sizes, outlines and facts; the map is sent as a picture of its own."""
        return JSONResponse(
            {
                "width": self.width,
                "height": self.height,
                "outlines": {name: path_of(mask) for name, mask in self.masks.items()},
                "heat": self.heat is not None,
                "facts": [list(fact) for fact in self.facts],
            }
        )


def path_of(mask: np.ndarray) -> str:
    """Return the outlines of a mask, bool (H, W), as the path of an SVG whose unit is a pixel."""
    # The middle of the first pixel lies half a pixel from the picture's corner.
    lines = [np.round(line + 0.5, 1) for line in outlines(mask)]
    return "".join("M" + "L".join(f"{x:g},{y:g}" for x, y in line) + "Z" for line in lines)


def small_jpeg(pixels: np.ndarray) -> Response:
    """Send uint8 (H, W) or (H, W, 3) as a thumbnail."""
    data = io.BytesIO()
    Image.fromarray(thumbnail(pixels, SIDE)).save(data, format="JPEG", quality=82)
    return Response(data.getvalue(), media_type="image/jpeg")


def png(pixels: np.ndarray) -> Response:
    """Send uint8 (H, W), (H, W, 3) or (H, W, 4) without loss."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG", compress_level=1)
    return Response(data.getvalue(), media_type="image/png")


def heat_png(heat: np.ndarray) -> Response:
    """Send a map in [0, 1] as colours that are the less transparent, the higher it is."""
    import matplotlib as mpl

    colours: Any = mpl.colormaps["inferno"](np.clip(heat, 0, 1), bytes=True)
    colours[..., 3] = np.clip(heat, 0, 1) * 180
    return png(colours)
