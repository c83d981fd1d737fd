"""What reading gives: a picture of 8-bit pixels, or a fault with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gcsam_med.config import Frames
from gcsam_med.errors import InputError

# Limits on untrusted files. The largest radiographs and mammograms have about 5,000 x 6,000 pixels.
MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 40_000_000
MAX_FRAMES = 2_000
MIN_SIDE = 3

# A deep image is divided by the full scale of the smallest of these depths that holds its maximum, so that a
# 12-bit radiograph in a 16-bit file is neither black nor stretched to its own extremes.
BIT_DEPTHS = (8, 10, 12, 14, 16)


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
    """A decoded image."""

    #: ndarray of uint8, shape (H, W) or (H, W, 3): Grey, or colour where the file holds colour.
    pixels: np.ndarray
    kind: str  #: File format: ``png``, ``jpeg``, ``dicom``, ....
    spacing: tuple[float, float] | None = None  #: Pixel spacing (row, column) in mm.
    #: What a person should know about how it was read; never holds a tag's value.
    notes: tuple[str, ...] = ()
    #: Technical DICOM tags by allow-list; never an identity.
    tags: Mapping[str, str] = field(default_factory=dict)
    #: What the caller's `identify` made of the DICOM patient id, or empty; never the id itself.
    patient: str = ""
    frame: int = 0  #: Which frame of the file this is, from 0.
    n_frames: int = 1  #: How many frames the file has.
    turned: int = 1  #: EXIF orientation that was applied; 1 is upright.

    @property
    def grey(self) -> np.ndarray:
        """Luminance (ITU-R 601), uint8, shape (H, W)."""
        return to_grey(self.pixels)


def chosen_frames(frames: Frames, n_frames: int, name: str) -> range:
    """Frame numbers that `frames` means in a file of `n_frames`.

    Raises
    ------
    ImageFault
        Reasons ``no-frames``, ``too-many-frames``, ``no-such-frame``.
    """
    if n_frames < 1:
        raise ImageFault("no-frames", name, f"the file says it has {n_frames} frames.")
    if frames == "first":
        return range(1)
    if frames == "middle":
        return range(n_frames // 2, n_frames // 2 + 1)
    if frames == "all":
        if n_frames > MAX_FRAMES:
            raise ImageFault("too-many-frames", name, f"{n_frames} frames; at most {MAX_FRAMES} are read.")
        return range(n_frames)
    if not 0 <= frames < n_frames:
        raise ImageFault("no-such-frame", name, f"frame {frames} was asked for; there are {n_frames}.")
    return range(frames, frames + 1)


def check_size(width: int, height: int, name: str) -> None:
    """Refuse images too large for memory or too small to hold anything.

    Raises
    ------
    ImageFault
        Reasons ``too-large``, ``too-small``.
    """
    if width * height > MAX_PIXELS:
        raise ImageFault(
            "too-large", name, f"{width} x {height} pixels; at most {MAX_PIXELS // 10**6} million are read."
        )
    if min(width, height) < MIN_SIDE:
        raise ImageFault("too-small", name, f"{width} x {height} pixels; each side needs {MIN_SIDE}.")


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """Luminance (ITU-R 601) of uint8 (H, W) or (H, W, 3), as uint8 (H, W)."""
    if pixels.ndim == 2:
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).convert("L"))


def grey_if_grey(rgb: np.ndarray) -> np.ndarray:
    """One channel of (H, W, 3) if all three agree everywhere, else the three, contiguous."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return np.ascontiguousarray(red)
    return np.ascontiguousarray(rgb)
