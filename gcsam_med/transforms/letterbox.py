"""How an image of any shape becomes a square of one size, and how a mask finds its way back.

The aspect ratio is kept: the image is scaled so that its longer side fits, then padded in the middle with
black. Everything follows from the original height, width and the square's size, so the manifest needs to
record no more than these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Letterbox:
    """The placement of an image of `height` x `width` pixels in a square of `size` pixels."""

    #: height, width: Original size in pixels, both at least 1.
    height: int
    width: int
    size: int  #: Side of the square in pixels.

    @property
    def scale(self) -> float:
        """Square pixels for one original pixel."""
        return self.size / max(self.height, self.width)

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width in square pixels of the part that holds the image."""
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
        """Put an image into the square.

        Parameters
        ----------
        image : ndarray of uint8, shape (height, width) or (height, width, 3)
            The original.

        Returns
        -------
        ndarray of uint8, shape (size, size) or (size, size, 3)
            Bilinear with antialiasing; padding is 0.
        """
        h, w = self.inner
        resized = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
        return self._pad(resized)

    def place_mask(self, mask: np.ndarray) -> np.ndarray:
        """Put a mask into the square.

        Parameters
        ----------
        mask : ndarray of bool, shape (height, width)
            The original.

        Returns
        -------
        ndarray of uint8 (0 or 1), shape (size, size)
            A pixel is foreground where at least half of the area it stands for is.
        """
        h, w = self.inner
        grey = Image.fromarray(mask.astype(np.uint8) * 255).resize((w, h), Image.Resampling.BOX)
        return self._pad((np.asarray(grey) >= 128).astype(np.uint8))

    def restore(self, plane: np.ndarray) -> np.ndarray:
        """Bring a plane of the square (a probability map) back to the original pixels.

        Parameters
        ----------
        plane : ndarray of float, shape (size, size)
            Values on the square.

        Returns
        -------
        ndarray of float32, shape (height, width)
            Bilinear; threshold it afterwards, not before.
        """
        top, left, bottom, right = self.box
        inner = Image.fromarray(np.ascontiguousarray(plane[top:bottom, left:right], dtype=np.float32))
        return np.asarray(inner.resize((self.width, self.height), Image.Resampling.BILINEAR))

    def _pad(self, inner: np.ndarray) -> np.ndarray:
        top, left, bottom, right = self.box
        square = np.zeros((self.size, self.size, *inner.shape[2:]), dtype=np.uint8)
        square[top:bottom, left:right] = inner
        return square
