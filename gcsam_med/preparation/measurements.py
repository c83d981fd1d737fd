"""What is measured on each image while it is in memory: fingerprints, statistics, marks burned into it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

THUMB = 128  # side of the thumbnails on which pairs are compared
COLOUR_SPREAD = 32  # grey levels between channels from which a pixel counts as coloured

# Characters, calipers and dotted lines are thin, bright, sharply bounded and small.
STROKE = 7  # pixels; structures thinner than this stand out against an opening of this size
STROKE_CONTRAST = 90
STROKE_BRIGHTNESS = 150
STROKE_MEAN_CONTRAST = 140
MARK_SIDES = (6, 40)  # pixels
MARKS_SUSPICIOUS = 5  # fewer occur by chance in tissue and as a machine's corner sign


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Perceptual hashes of an image and of its mirror image."""

    #: dhash, phash, dhash_mirrored, phash_mirrored: 64 bits each: gradient hash and DCT hash as in the
    #: imagehash library.
    dhash: int
    phash: int
    dhash_mirrored: int
    phash_mirrored: int


def fingerprint(grey: np.ndarray) -> Fingerprint:
    """Hash a grey image, uint8 (H, W)."""
    import imagehash

    image = Image.fromarray(grey)
    # The library's own first steps, done once for the image and its mirror image.
    small, middle = (image.resize(size, Image.Resampling.LANCZOS) for size in ((9, 8), (32, 32)))
    flip = Image.Transpose.FLIP_LEFT_RIGHT
    return Fingerprint(
        _bits(imagehash.dhash(small).hash),
        _bits(imagehash.phash(middle).hash),
        _bits(imagehash.dhash(small.transpose(flip)).hash),
        _bits(imagehash.phash(middle.transpose(flip)).hash),
    )


def _bits(flags: np.ndarray) -> int:
    return int.from_bytes(np.packbits(flags.ravel()).tobytes(), "big")


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """Squeeze a grey image, uint8 (H, W), into uint8 (128, 128) whatever its aspect ratio."""
    return np.asarray(Image.fromarray(grey).resize((THUMB, THUMB), Image.Resampling.BOX))


def statistics(pixels: np.ndarray, grey: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
    """Numbers that tell an unusual image or mask from the rest.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W) or (H, W, 3)
        The image.
    grey : ndarray of uint8, shape (H, W)
        Its luminance.
    mask : ndarray of bool, shape (H, W), optional
        Its mask.

    Returns
    -------
    dict
        ``mean``, ``sd`` (0..255), ``black``, ``white``, ``colour`` (fractions of pixels), ``marks`` (count of
        things like characters and calipers), and with a mask ``mask_fraction``, ``mask_parts`` and
        ``mask_at_edge``.
    """
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    total, levels = counts.sum(), np.arange(256)
    mean = float((counts * levels).sum() / total)
    values = {
        "mean": mean,
        "sd": float(np.sqrt((counts * (levels - mean) ** 2).sum() / total)),
        "black": float(counts[:8].sum() / total),
        "white": float(counts[250:].sum() / total),
        "colour": colour_fraction(pixels),
        "marks": float(burned_in_marks(grey)),
    }
    if mask is not None:
        values |= _mask_statistics(mask)
    return values


def colour_fraction(pixels: np.ndarray) -> float:
    """Fraction of pixels whose channels differ by more than a compression artefact explains."""
    if pixels.ndim == 2:
        return 0.0
    red, green, blue = (pixels[..., i] for i in range(3))
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return float((spread > COLOUR_SPREAD).mean())


def burned_in_marks(grey: np.ndarray) -> int:
    """Count small, thin, bright, sharply bounded structures: characters, caliper crosses, dotted lines."""
    from scipy import ndimage

    contrast = grey - _dilate(_erode(grey, STROKE), STROKE)
    strokes = (contrast > STROKE_CONTRAST) & (grey > STROKE_BRIGHTNESS)
    parts, n = ndimage.label(strokes, np.ones((3, 3), dtype=np.int8))
    if n == 0:
        return 0
    flat = parts.ravel()
    area = np.bincount(flat)[1:]
    mean_contrast = np.bincount(flat, contrast.ravel())[1:] / area
    sides = np.array([max(s.stop - s.start for s in box) for box in ndimage.find_objects(parts)])
    low, high = MARK_SIDES
    return int(
        ((sides >= low) & (sides <= high) & (area >= 8) & (mean_contrast > STROKE_MEAN_CONTRAST)).sum()
    )


def _erode(image: np.ndarray, size: int) -> np.ndarray:
    return _windowed(_windowed(image, size, 0, np.minimum, 255), size, 1, np.minimum, 255)


def _dilate(image: np.ndarray, size: int) -> np.ndarray:
    return _windowed(_windowed(image, size, 0, np.maximum, 0), size, 1, np.maximum, 0)


def _windowed(image: np.ndarray, size: int, axis: int, best: np.ufunc, outside: int) -> np.ndarray:
    """Running minimum or maximum along an axis, by doubling: log2(size) vectorised passes."""
    pad = [(0, 0), (0, 0)]
    pad[axis] = (size // 2, size // 2)
    run = np.moveaxis(np.pad(image, pad, constant_values=outside), axis, 0)
    width = 1
    while width < size:
        step = min(width, size - width)
        run = best(run[:-step], run[step:])
        width += step
    return np.moveaxis(run, 0, axis)


def _mask_statistics(mask: np.ndarray) -> dict[str, float]:
    from scipy import ndimage

    small = mask[:: max(1, mask.shape[0] // 512), :: max(1, mask.shape[1] // 512)]
    edge = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    return {
        "mask_fraction": float(mask.mean()),
        "mask_parts": float(ndimage.label(small)[1]),
        "mask_at_edge": float(edge),
    }
