"""The random transforms, as MONAI transforms on ``{"image": (C, S, S), "mask": (1, S, S) or None}``.

MONAI's own do the same one by one, each with a resampling and a pass over metadata; these do all movements in
one resampling, which is sharper and takes a tenth of a millisecond.
"""

from __future__ import annotations

import math
from typing import Any, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import RandomizableTransform


class Sample(TypedDict):
    """A case on its way through the pipeline."""

    image: torch.Tensor
    mask: torch.Tensor | None


class SampleTransform(RandomizableTransform):
    """A random transform of a sample; it never changes the tensors it is given."""

    def __call__(self, sample: Sample) -> Sample:
        """Draw, and apply with probability ``prob``."""
        self.randomize(None)
        return self.apply(sample) if self._do_transform else sample

    def apply(self, sample: Sample) -> Sample:
        """Apply once."""
        raise NotImplementedError

    def symmetric(self, half_width: float) -> float:
        """Draw uniformly from -half_width..half_width."""
        return float(self.R.uniform(-half_width, half_width))

    def noise(self, *shape: int) -> torch.Tensor:
        """Draw standard normal numbers, float32."""
        # The ziggurat of Generator takes half the time of RandomState's polar method.
        generator = np.random.Generator(np.random.SFC64(self.R.randint(2**31)))
        return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


class RandomPlacement(SampleTransform):
    """Mirror, turn, zoom and shift, in one resampling; what comes in from outside is black.

    Parameters
    ----------
    flip : float
        Probability of a left-right mirror image. There is no top-bottom one.
    rotate : float
        Largest angle in degrees.
    scale : float
        Largest relative change of size.
    shift : float
        Largest shift along each axis, as a part of the side.
    prob : float
        Probability of turning, zooming and shifting.
    """

    def __init__(self, flip: float, rotate: float, scale: float, shift: float, prob: float = 0.9) -> None:
        super().__init__(1.0)
        self.flip, self.rotate, self.scale, self.shift, self.move_prob = flip, rotate, scale, shift, prob

    def apply(self, sample: Sample) -> Sample:
        """Apply once."""
        mirror = self.R.rand() < self.flip
        if self.R.rand() >= self.move_prob:
            return _each(sample, lambda plane, _: plane.flip(-1)) if mirror else sample
        angle = math.radians(self.symmetric(self.rotate))
        zoom = math.exp(self.symmetric(math.log1p(self.scale)))
        across, down = (2 * self.symmetric(self.shift) for _ in range(2))
        # Rows map a place of the output to one of the input, both in -1..1.
        c, s = math.cos(angle) / zoom, math.sin(angle) / zoom
        side = -1.0 if mirror else 1.0
        matrix = torch.tensor([[[side * c, side * s, across], [-s, c, down]]])

        def resample(plane: torch.Tensor, mode: str) -> torch.Tensor:
            return F.grid_sample(plane[None], grid, mode=mode, align_corners=False)[0]

        grid = F.affine_grid(matrix, [1, 1, *sample["image"].shape[-2:]], align_corners=False)
        return _each(sample, resample)


class RandomCrop(SampleTransform):
    """Mirror and shift by whole pixels, black coming in: pad, then crop.

    Parameters
    ----------
    flip : float
        Probability of a left-right mirror image.
    shift : float
        Largest shift along each axis, as a part of the side.
    """

    def __init__(self, flip: float, shift: float) -> None:
        super().__init__(1.0)
        self.flip, self.shift = flip, shift

    def apply(self, sample: Sample) -> Sample:
        """Apply once."""
        side = sample["image"].shape[-1]
        pad = round(self.shift * side)
        mirror = self.R.rand() < self.flip
        top, left = self.R.randint(0, 2 * pad + 1, size=2)

        def crop(plane: torch.Tensor, _: str) -> torch.Tensor:
            padded = F.pad(plane.flip(-1) if mirror else plane, [pad] * 4)
            return padded[:, top : top + side, left : left + side].contiguous()

        return _each(sample, crop)


class RandomGain(SampleTransform):
    """Overall brightness and gamma; black stays black, so padding does not give itself away.

    Parameters
    ----------
    gain : float
        Largest relative change of brightness.
    gamma : float
        Largest absolute logarithm of the exponent.
    prob : float
        Probability.
    """

    def __init__(self, gain: float, gamma: float, prob: float) -> None:
        super().__init__(prob)
        self.gain, self.gamma = gain, gamma

    def apply(self, sample: Sample) -> Sample:
        """Apply once."""
        factor = math.exp(self.symmetric(math.log1p(self.gain)))
        exponent = math.exp(self.symmetric(self.gamma))
        image = sample["image"].clamp(0, 1).pow(exponent).mul_(factor).clamp_(0, 1)
        return {"image": image, "mask": sample["mask"]}


class RandomShadow(SampleTransform):
    """An acoustic shadow: a dark stripe from some depth downwards, as below a rib, gas or calcification."""

    def __init__(self, prob: float) -> None:
        super().__init__(prob)

    def apply(self, sample: Sample) -> Sample:
        """Apply once."""
        side = sample["image"].shape[-1]
        place = (np.arange(side, dtype=np.float32) + 0.5) / side
        centre, width = self.R.rand(), self.R.uniform(0.05, 0.2)
        start, strength = self.R.uniform(0.1, 0.7), self.R.uniform(0.3, 0.7)
        across = np.exp(-0.5 * ((place - centre) / (width / 2)) ** 2)
        down = np.clip((place - start) / 0.1, 0, 1)
        shade = 1 - strength * np.outer(down, across)
        return {"image": sample["image"] * torch.from_numpy(shade), "mask": sample["mask"]}


class RandomSpeckle(SampleTransform):
    """Multiplicative noise, wider than tall: a beam resolves depth better than breadth."""

    def __init__(self, strength: float, prob: float) -> None:
        super().__init__(prob)
        self.strength = strength

    def apply(self, sample: Sample) -> Sample:
        """Apply once."""
        height, width = sample["image"].shape[-2:]
        coarse = self.noise(1, 1, height, max(1, width // 2))
        noise = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)[0]
        strength = self.R.uniform(0.3, 1.0) * self.strength
        return {
            "image": (sample["image"] * (1 + strength * noise)).clamp_(0, 1),
            "mask": sample["mask"],
        }


def _each(sample: Sample, move: Any) -> Sample:
    """Move the image smoothly and the mask, if there is one, by nearest neighbour."""
    mask = sample["mask"]
    return {
        "image": move(sample["image"], "bilinear"),
        "mask": None if mask is None else move(mask, "nearest"),
    }
