"""Outlines of masks on images, for overlays and galleries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gcsam_med.metrics.regions import bounding_box

if TYPE_CHECKING:
    from PIL import Image

Colour = tuple[int, int, int]

# Blue and orange are told apart by all common kinds of colour vision; the prediction is dashed besides.
TRUTH: Colour = (43, 179, 230)
PREDICTION: Colour = (255, 159, 28)
_HALO: Colour = (0, 0, 0)


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 (H, W) or (H, W, 3) as uint8 (H, W, 3)."""
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Return the outlines of a mask (bool, (H, W)) as closed lines of (x, y) points between pixel centres.

    There is one line, float (n, 2), for each region or hole.
    """
    import contourpy

    if not mask.any():
        return []
    box = bounding_box(mask)
    # A frame of background closes the outlines of regions at the border.
    padded = np.pad(mask[box], 1).astype(np.float32)
    lines = contourpy.contour_generator(z=padded, line_type=contourpy.LineType.Separate).lines(0.5)
    return [np.asarray(line) + np.array([box[1].start - 1, box[0].start - 1]) for line in lines]


def draw_outlines(
    image: np.ndarray, masks: list[tuple[np.ndarray, Colour, bool]], *, width: int = 2, halo: bool = True
) -> np.ndarray:
    """Draw outlines of masks on an image, uint8 (H, W) or (H, W, 3); return a new one, uint8 (H, W, 3).

    Each mask is (bool (H, W), colour, dashed). A dark line (`halo`) under each shows it on bright tissue;
    `width` is in pixels.
    """
    from PIL import Image, ImageDraw

    canvas: Image.Image = Image.fromarray(to_rgb(image))
    pen = ImageDraw.Draw(canvas)
    for mask, colour, dashed in masks:
        for line in outlines(mask):
            for piece in _dashes(line, 4.0 * width, 3.0 * width) if dashed else [line]:
                points = [(float(x), float(y)) for x, y in piece]
                if halo:
                    pen.line(points, fill=_HALO, width=width + 2)
                pen.line(points, fill=colour, width=width)
    return np.asarray(canvas)


def overlay(
    image: np.ndarray, mask: np.ndarray, colour: Colour = PREDICTION, *, width: int = 2
) -> Image.Image:
    """Draw a mask's outline on an image, uint8 (H, W) or (H, W, 3), for a file of its own.

    The result is of mode RGB for colour; for grey of mode P, a third of the bytes to compress, whose last
    entry is the line's colour and whose white is one level darker.
    """
    from PIL import Image

    grey = image.ndim == 2
    pixels = np.minimum(image, 254) if grey else image.copy()
    pixels[_rim(mask, width)] = 255 if grey else colour
    canvas: Image.Image = Image.fromarray(pixels)
    if grey:
        palette = [value for value in range(255) for _ in range(3)] + list(colour)
        canvas.putpalette(palette)
    return canvas


def _rim(mask: np.ndarray, width: int) -> np.ndarray:
    """Return the pixels within half of `width` of a mask's edge, in a time that its form does not change."""
    rim = np.zeros_like(mask)
    if not mask.any():
        return rim
    rows, columns = (slice(max(0, s.start - width), s.stop + width) for s in bounding_box(mask))
    box = rows, columns
    # What lies beyond the picture counts as outside, so that a region at its border is closed there.
    near, deep = mask[box], np.pad(mask, 1)[rows.start : rows.stop + 2, columns.start : columns.stop + 2]
    for _ in range(width // 2):
        near = _grown(near)
    for _ in range(width - width // 2):
        deep = ~_grown(~deep)
        deep[[0, -1]] = deep[:, [0, -1]] = False
    rim[box] = near & ~deep[1:-1, 1:-1]
    return rim


def _grown(mask: np.ndarray) -> np.ndarray:
    """Add the four neighbours of every pixel."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _dashes(line: np.ndarray, on: float, off: float) -> list[np.ndarray]:
    """Cut a line into pieces of length `on`, `off` apart."""
    length = np.concatenate([[0.0], np.hypot(*np.diff(line, axis=0).T).cumsum()])
    pieces = []
    for start in np.arange(0.0, length[-1], on + off):
        at = np.linspace(start, min(start + on, length[-1]), 6)
        pieces.append(np.stack([np.interp(at, length, line[:, axis]) for axis in (0, 1)], axis=1))
    return pieces
