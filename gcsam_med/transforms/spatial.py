"""Random movements of image and mask together.

All movements of a case are one resampling: sharper than one after the other, and cheaper.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from gcsam_med.transforms.sample import Sample, SampleTransform

BEND_POINTS = 6
"""Control points of a bend along each side: folds of about a sixth of the picture, as tissue makes them."""


class RandomPlacement(SampleTransform):
    """Mirror, turn, zoom, stretch, shift and bend; what comes in from outside is black.

    The image is read bilinearly, the mask at the nearest pixel, so that it stays 0 and 1. There is no
    top-bottom mirror image: in ultrasound depth runs down, and in a chest X-ray the diaphragm is below.

    Parameters
    ----------
    flip : float
        Probability of a left-right mirror image.
    rotate : float
        Largest angle in degrees.
    scale : float
        Largest relative change of size.
    shift : float
        Largest shift along each axis, as a part of the side.
    stretch : float
        Largest relative change of height against width.
    bend : float
        Standard deviation of the displacements of a grid of control points, as a part of the side.
    bend_prob : float
        Probability of a bend.
    """

    def __init__(
        self,
        *,
        flip: float,
        rotate: float,
        scale: float,
        shift: float,
        stretch: float = 0.0,
        bend: float = 0.0,
        bend_prob: float = 0.5,
    ) -> None:
        super().__init__(1.0)
        self.flip, self.rotate, self.scale, self.shift = flip, rotate, scale, shift
        self.stretch, self.bend, self.bend_prob = stretch, bend, bend_prob

    def apply(self, sample: Sample) -> Sample:
        """Act once."""
        side = sample["image"].shape[-1]
        (a, b, across), (c, d, down) = self._matrix()
        place = _pixel_places(side)
        # The same as affine_grid, which takes eight times as long for one small picture.
        grid = torch.empty(1, side, side, 2)
        torch.add(a * place, (b * place + across)[:, None], out=grid[0, :, :, 0])
        torch.add(c * place, (d * place + down)[:, None], out=grid[0, :, :, 1])
        if self.bend and self.R.rand() < self.bend_prob:
            self._bend(grid[0])
        mask = sample["mask"]
        return {
            "image": _read(sample["image"], grid, "bilinear"),
            "mask": None if mask is None else _read(mask, grid, "nearest"),
        }

    def _matrix(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Draw the map from a place of the output to one of the input, both from -1 to 1."""
        mirror = -1.0 if self.R.rand() < self.flip else 1.0
        angle = math.radians(self.symmetric(self.rotate))
        zoom, stretch = self.factor(self.scale), self.factor(self.stretch)
        across, down = 2 * self.symmetric(self.shift), 2 * self.symmetric(self.shift)
        cosine, sine = math.cos(angle) / zoom, math.sin(angle) / zoom
        return (mirror * cosine, mirror * sine, across), (-sine * stretch, cosine * stretch, down)

    def _bend(self, grid: torch.Tensor) -> None:
        """Draw displacements of the control points and add them to `grid`, (S, S, 2), by splines."""
        basis = _spline_basis(grid.shape[0], BEND_POINTS)
        points = 2 * self.bend * self.noise(2, BEND_POINTS, BEND_POINTS)
        for axis in range(2):
            grid[..., axis] += basis @ points[axis] @ basis.T


class RandomCrop(SampleTransform):
    """Mirror and shift by whole pixels, black coming in: pad, then crop (He 2016, arXiv 1512.03385, 4.2).

    Parameters
    ----------
    flip : float
        Probability of a left-right mirror image.
    pad : float
        Width of the border, as a part of the side: 4 of CIFAR's 32 pixels are 0.125.
    """

    def __init__(self, *, flip: float, pad: float) -> None:
        super().__init__(1.0)
        self.flip, self.pad = flip, pad

    def apply(self, sample: Sample) -> Sample:
        """Act once."""
        side = sample["image"].shape[-1]
        pad = round(self.pad * side)
        mirror = self.R.rand() < self.flip
        top, left = self.R.randint(0, 2 * pad + 1, size=2)

        def crop(plane: torch.Tensor) -> torch.Tensor:
            padded = F.pad(plane.flip(-1) if mirror else plane, [pad] * 4)
            return padded[:, top : top + side, left : left + side].contiguous()

        mask = sample["mask"]
        return {"image": crop(sample["image"]), "mask": None if mask is None else crop(mask)}


def _read(plane: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    return F.grid_sample(plane[None], grid, mode=mode, align_corners=False)[0]


@lru_cache(maxsize=16)
def _pixel_places(side: int) -> torch.Tensor:
    """Centres of the pixels of a side, from -1 to 1."""
    return (2 * torch.arange(side) + 1) / side - 1


@lru_cache(maxsize=16)
def _spline_basis(side: int, points: int) -> torch.Tensor:
    """Weights (side, points) of uniform cubic B-splines; outside, the last control points go on."""
    place = np.linspace(0, points - 1, side)[:, None]
    distance = np.abs(place - np.arange(-1, points + 1)[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weight = np.where(distance < 1, near, far)
    weight[:, 1] += weight[:, 0]
    weight[:, -2] += weight[:, -1]
    return torch.from_numpy(weight[:, 1:-1].astype(np.float32))
