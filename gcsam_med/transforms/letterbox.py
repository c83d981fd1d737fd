"""How an image of any shape is letterboxed to one size, and how a mask finds its way back.

The aspect ratio is kept: the image is scaled so that its longer side fits, then padded with black on both
sides. Everything follows from the original height and width and the size, so the manifest needs to record no
more than these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Letterbox:
    """The placement of an image of `height` x `width` pixels in a letterbox of `size` x `size` pixels."""

    #: height, width: Original size in pixels, both at least 1.
    height: int
    width: int
    size: int  #: Side of the letterbox in pixels.

    @property
    def scale(self) -> float:
        """Pixels of the letterbox for one original pixel."""
        return self.size / max(self.height, self.width)

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width of the part of the letterbox that holds the image, in its pixels."""
        return (
            max(1, min(self.size, round(self.height * self.scale))),
            max(1, min(self.size, round(self.width * self.scale))),
        )

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right of that part (bottom and right exclusive)."""
        h, w = self.inner
        top, left = (self.size - h) // 2, (self.size - w) // 2
        return top, left, top + h, left + w

    def place_image(self, image: np.ndarray) -> np.ndarray:
        """Letterbox an image: uint8 (height, width) or (height, width, 3) to (size, size) or (size, size, 3).

        Bilinear with antialiasing; padding is 0.
        """
        h, w = self.inner
        resized = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
        return self._pad(resized)

    def place_mask(self, mask: np.ndarray) -> np.ndarray:
        """Letterbox a mask: bool (height, width) to uint8 (0 or 1) (size, size).

        A pixel is foreground where at least half of the area it stands for is.
        """
        h, w = self.inner
        grey = Image.fromarray(mask.astype(np.uint8) * 255).resize((w, h), Image.Resampling.BOX)
        return self._pad((np.asarray(grey) >= 128).astype(np.uint8))

    def restore(self, plane: np.ndarray) -> np.ndarray:
        """Bring a letterboxed plane (a probability map) back: (size, size) to float32 (height, width).

        Bilinear; threshold it afterwards, not before.
        """
        top, left, bottom, right = self.box
        inner = Image.fromarray(np.ascontiguousarray(plane[top:bottom, left:right], dtype=np.float32))
        return np.asarray(inner.resize((self.width, self.height), Image.Resampling.BILINEAR))

    def _pad(self, inner: np.ndarray) -> np.ndarray:
        top, left, bottom, right = self.box
        padded = np.zeros((self.size, self.size, *inner.shape[2:]), dtype=np.uint8)
        padded[top:bottom, left:right] = inner
        return padded
