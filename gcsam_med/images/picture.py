"""What reading gives: a picture of 8-bit pixels, or a fault with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gcsam_med.errors import InputError

# Limits on untrusted files. The largest radiographs have about 5,000 x 6,000 pixels.
MAX_FILE_BYTES = 512 * 2**20
MAX_PIXELS = 64_000_000
MIN_SIDE = 8


class ImageFault(InputError):
    """An image or mask file cannot be used.

    Parameters
    ----------
    reason : str
        Short machine-readable kind, e.g. ``"truncated"``.
    name : str
        The file, as the user knows it.
    detail : str
        One sentence: what was expected and what was found.
    advice : str, optional
        What to do about it.
    """

    def __init__(self, reason: str, name: str, detail: str, advice: str = "") -> None:
        super().__init__(f"{name}: {detail}", advice)
        self.reason = reason
        self.name = name
        self.detail = detail

    def __reduce__(self) -> tuple[type[ImageFault], tuple[str, str, str, str]]:
        """Travel between processes whole."""
        return type(self), (self.reason, self.name, self.detail, self.advice)


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W) or (H, W, 3)
        Grey, or colour where the file holds colour.
    kind : str
        File format: ``png``, ``jpeg``, ``tiff``, ``bmp`` or ``dicom``.
    spacing : tuple of float, optional
        Pixel spacing (row, column) in mm.
    notes : tuple of str
        What a person should know about how it was read; never holds a tag's value.
    tags : mapping
        Technical DICOM tags by allow-list; never an identity.
    """

    pixels: np.ndarray
    kind: str
    spacing: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def grey(self) -> np.ndarray:
        """Luminance (ITU-R 601), uint8, shape (H, W)."""
        return to_grey(self.pixels)


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """Luminance (ITU-R 601) of uint8 (H, W) or (H, W, 3), as uint8 (H, W)."""
    if pixels.ndim == 2:
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).convert("L"))
