"""Random transforms of a batch of images and masks, on the device the batch is on.

Each case draws its own numbers, from a generator that is a function of the case's key and a counter: what
happens to a case does not depend on the batch it comes in. Small draws are made on the host for all cases at
once; fields of noise are made where the images are, from the same integers on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import RandomizableTransform
from torch import Tensor

BEND_POINTS = 6
"""Control points of a bend along each side: folds of about a sixth of the image, as tissue makes them."""

Draws = np.ndarray
"""One number a case, float32, shape (B,)."""


class Batch(TypedDict):
    """What passes through a pipeline: images (B, C, S, S) in 0..1; masks (B, 1, S, S) of 0 and 1, or None."""

    image: Tensor
    mask: Tensor | None


class CaseRandom(np.random.RandomState):
    """MONAI's source of random numbers, with one stream for each case of a batch.

    The n-th number of a case is SplitMix64 of its key and n (Steele, Lea and Flood 2014,
    doi 10.1145/2660193.2660195): a counter-based generator, which needs no state but the count.

    Parameters
    ----------
    keys : ndarray of uint64, shape (B,)
        From `case_keys`.
    """

    def __init__(self, keys: np.ndarray) -> None:
        super().__init__(0)
        self.keys, self.count = keys, 0

    def bits(self) -> np.ndarray:
        """Draw 64 bits a case, uint64, shape (B,)."""
        self.count += 1
        return _mix(self.keys + _counter(self.count))

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Draws:  # type: ignore[override]
        """Draw from low..high, one number a case."""
        del size
        part = (self.bits() >> np.uint64(11)) * 2.0**-53
        return (low + (high - low) * part).astype(np.float32)

    def rand(self, *size: int) -> Draws:  # type: ignore[override]
        """Draw from 0..1, one number a case."""
        del size
        return self.uniform()

    def randint(self, low: Any, high: Any = None, size: Any = None, dtype: Any = int) -> np.ndarray:  # type: ignore[override]
        """Draw from low..high - 1, one whole number a case."""
        del size, dtype
        low, high = (0, low) if high is None else (low, high)
        return (low + self.bits() % np.uint64(high - low)).astype(np.int64)


def case_keys(seed: int, epoch: int, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Key of each case in an epoch of a run, uint64, shape (B,).

    Neither the batch nor the order in which cases come takes part, so a run may be resumed anywhere.
    """
    run = _mix(np.array([seed], dtype=np.uint64) + _counter(1))
    return _mix(np.asarray(rows).astype(np.uint64) + _mix(run + _counter(epoch + 1)))


def _counter(n: int) -> np.uint64:
    return np.uint64(n * 0x9E3779B97F4A7C15 % 2**64)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(eq=False, kw_only=True)
class BatchTransform(RandomizableTransform):
    """A random transform of a batch, by MONAI's convention: all randomness comes from ``self.R``."""

    R: ClassVar[CaseRandom]
    prob: float = 1.0  #: Probability that it acts on a case.

    def __post_init__(self) -> None:
        """Let MONAI set up its part."""
        super().__init__(self.prob)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Any:
        """Take a `CaseRandom`; a seed alone stands for a batch of one case."""
        self.R = state if isinstance(state, CaseRandom) else CaseRandom(case_keys(seed or 0, 0, [0]))  # type: ignore[misc]
        return self

    def __call__(self, data: Batch) -> Batch:
        """Draw which cases to act on, and act; images may be changed in place."""
        self.acts = self.R.rand() < self.prob
        return self._apply(data)

    def _apply(self, data: Batch) -> Batch:
        # What acts on the images alone overrides `_image` only.
        return {"image": self._image(data["image"]), "mask": data["mask"]}

    def _image(self, image: Tensor) -> Tensor:
        raise NotImplementedError

    def symmetric(self, half_width: float) -> Draws:
        """Draw from -half_width..half_width, uniformly."""
        return self.R.uniform(-half_width, half_width)

    def factor(self, change: float) -> Draws:
        """Draw from 1/(1+change)..1+change, symmetric about 1 on a logarithmic scale."""
        return np.exp(self.symmetric(math.log1p(change)))

    def where_acting(self, draws: Draws, neutral: float, like: Tensor) -> Tensor:
        """The draws as a tensor (B, 1, 1, 1) on the device; cases that are left alone get `neutral`."""
        values = np.where(self.acts, draws, np.float32(neutral)).astype(np.float32)
        return torch.from_numpy(values).to(like.device, non_blocking=True)[:, None, None, None]

    def noise(self, cases: np.ndarray, shape: tuple[int, int], device: torch.device) -> Tensor:
        """Draw a field of standard normal numbers for each of `cases`, float32, (n, 1, height, width)."""
        keys = self.R.bits()[cases]
        halves = np.stack([keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF)]).astype(np.uint32)
        first, second = torch.from_numpy(halves.view(np.int32)).to(device, non_blocking=True)
        place = torch.arange(shape[0] * shape[1], dtype=torch.int32, device=device)
        bits = _hash(_hash(place + first[:, None]) ^ second[:, None])
        # 24 bits, between the steps of a float32, so that neither end is reached.
        uniform = (bits >> 8).float().add_(0.5).mul_(2.0**-23)
        return torch.erfinv(uniform).mul_(math.sqrt(2)).view(-1, 1, *shape)


def _hash(x: Tensor) -> Tensor:
    """Mix 32 bits (Wellons' lowbias32); integers, so the same on every device."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * -0x7B935975  # 0x846CA68B as a signed number
    return x ^ ((x >> 16) & 0xFFFF)


# --- Space: image and mask together


@dataclass(eq=False, kw_only=True)
class RandomPlacement(BatchTransform):
    """Mirror, turn, zoom, stretch, shift and bend, in one resampling; what comes in from outside is black.

    The image is read bilinearly, the mask at the nearest pixel, so that it stays 0 and 1. There is no
    top-bottom mirror image: in ultrasound depth runs down, and in a chest X-ray the diaphragm is below.
    """

    flip: float  #: Probability of a left-right mirror image.
    rotate: float  #: Largest angle in degrees.
    scale: float  #: Largest relative change of size.
    shift: float  #: Largest shift along each axis, as a part of the side.
    stretch: float = 0.0  #: Largest relative change of height against width.
    #: Standard deviation of the displacements of a grid of control points, as a part of the side.
    bend: float = 0.0
    bend_prob: float = 0.5  #: Probability of a bend.

    def _apply(self, data: Batch) -> Batch:
        image, mask = data["image"], data["mask"]
        theta = torch.from_numpy(self.matrices()).to(image.device, non_blocking=True)
        grid = F.affine_grid(theta, [len(image), 1, *image.shape[-2:]], align_corners=False)
        if self.bend:
            basis = _spline_basis(image.shape[-1], BEND_POINTS, image.device)
            points = torch.from_numpy(self.bends()).to(image.device, non_blocking=True)
            grid += (basis @ points @ basis.T).permute(0, 2, 3, 1)
        return {
            "image": F.grid_sample(image, grid, mode="bilinear", align_corners=False),
            "mask": None if mask is None else F.grid_sample(mask, grid, mode="nearest", align_corners=False),
        }

    def matrices(self) -> np.ndarray:
        """Draw maps from places of the output to places of the input, both -1 to 1: (B, 2, 3), float32."""
        mirror = np.where(self.R.rand() < self.flip, np.float32(-1), np.float32(1))
        angle = np.radians(self.symmetric(self.rotate))
        zoom, stretch = self.factor(self.scale), self.factor(self.stretch)
        across, down = 2 * self.symmetric(self.shift), 2 * self.symmetric(self.shift)
        cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
        rows = [[mirror * cosine, mirror * sine, across], [-sine * stretch, cosine * stretch, down]]
        return np.array(rows, dtype=np.float32).transpose(2, 0, 1).copy()

    def bends(self) -> np.ndarray:
        """Draw displacements of the control points, (B, 2, points, points), float32; 0 without a bend."""
        acts = self.R.rand() < self.bend_prob
        cases = np.arange(len(acts))
        points = self.noise(cases, (2 * BEND_POINTS, BEND_POINTS), torch.device("cpu")).numpy()
        scale = np.where(acts, 2 * self.bend, 0.0).astype(np.float32)
        return points.reshape(-1, 2, BEND_POINTS, BEND_POINTS) * scale[:, None, None, None]


@dataclass(eq=False, kw_only=True)
class RandomCrop(BatchTransform):
    """Mirror and shift by whole pixels, black coming in: pad, then crop (He 2016, arXiv 1512.03385, 4.2)."""

    flip: float  #: Probability of a left-right mirror image.
    #: Width of the border, as a part of the side: 4 of CIFAR's 32 pixels are 0.125.
    pad: float

    def _apply(self, data: Batch) -> Batch:
        side = data["image"].shape[-1]
        pad = round(self.pad * side)
        mirror = self.R.rand() < self.flip
        top, left = self.R.randint(0, 2 * pad + 1), self.R.randint(0, 2 * pad + 1)
        down = top[:, None] + np.arange(side)
        across = left[:, None] + np.arange(side)
        across[mirror] = 2 * pad + side - 1 - across[mirror]
        case, down, across = np.arange(len(top))[:, None, None], down[:, :, None], across[:, None, :]
        places = [
            torch.from_numpy(x).to(data["image"].device, non_blocking=True) for x in (case, down, across)
        ]

        def crop(planes: Tensor) -> Tensor:
            padded = F.pad(planes, [pad] * 4)
            return padded[places[0], :, places[1], places[2]].permute(0, 3, 1, 2).contiguous()

        mask = data["mask"]
        return {"image": crop(data["image"]), "mask": None if mask is None else crop(mask)}


@lru_cache(maxsize=16)
def _spline_basis(side: int, points: int, device: torch.device) -> Tensor:
    """Weights (side, points) of uniform cubic B-splines; outside, the last control points go on."""
    place = np.linspace(0, points - 1, side)[:, None]
    distance = np.abs(place - np.arange(-1, points + 1)[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weight = np.where(distance < 1, near, far)
    weight[:, 1] += weight[:, 0]
    weight[:, -2] += weight[:, -1]
    return torch.from_numpy(weight[:, 1:-1].astype(np.float32)).to(device)


# --- Brightness and noise: black stays black, so that padding does not give itself away


@dataclass(eq=False, kw_only=True)
class RandomTone(BatchTransform):
    """Gain, gamma and contrast, as the knobs of an ultrasound machine or the exposure of a film do."""

    gain: float  #: Largest relative change of brightness.
    gamma: float  #: Largest relative change of the exponent.
    #: Largest grey level that is cut off as black: the dynamic range becomes narrower.
    threshold: float = 0.0

    def _image(self, image: Tensor) -> Tensor:
        cut = self.where_acting(self.R.uniform(0, self.threshold), 0, image)
        gain = self.where_acting(self.factor(self.gain), 1, image)
        exponent = self.where_acting(self.factor(self.gamma), 1, image)
        image = image.sub_(cut).div_(1 - cut).clamp_(0, 1).pow_(exponent).mul_(gain).clamp_(0, 1)
        return image


@dataclass(eq=False, kw_only=True)
class RandomDepthGain(BatchTransform):
    """Brightness that rises or falls with depth, as a set of time-gain sliders changes it."""

    change: float  #: Largest relative change of brightness from the top to the bottom.

    def _image(self, image: Tensor) -> Tensor:
        slope = self.where_acting(self.symmetric(math.log1p(self.change)), 0, image)
        depth = torch.linspace(-0.5, 0.5, image.shape[-2], device=image.device)[:, None]
        return image.mul_((depth * slope).exp_()).clamp_(0, 1)


@dataclass(eq=False, kw_only=True)
class RandomShadow(BatchTransform):
    """An acoustic shadow: a dark stripe from some depth down, as below a rib, gas or calcium."""

    #: Least and largest part of the brightness that is lost in its middle.
    strength: tuple[float, float]

    def _image(self, image: Tensor) -> Tensor:
        centre = self.where_acting(self.R.uniform(0, 1), 0, image)
        half = self.where_acting(self.R.uniform(0.03, 0.1), 1, image)
        start = self.where_acting(self.R.uniform(0, 0.7), 0, image)
        strength = self.where_acting(self.R.uniform(*self.strength), 0, image)
        height, width = (
            (torch.arange(n, dtype=torch.float32, device=image.device) + 0.5) / n for n in image.shape[-2:]
        )
        across = ((width - centre) / half).square_().mul_(-0.5).exp_()
        down = ((height[:, None] - start) / 0.1).clamp_(0, 1)
        return image.mul_(1 - strength * down * across)


@dataclass(eq=False, kw_only=True)
class RandomSpeckle(BatchTransform):
    """Multiplicative noise whose grains are wider than tall: a beam resolves depth better than breadth."""

    strength: float  #: Largest standard deviation, relative to the brightness.

    def _image(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        strength = self.where_acting(self.R.uniform(0, self.strength), 0, image)
        cases, on_device = _acting(self.acts, image)
        coarse = self.noise(cases, (height, max(1, width // 2)), image.device)
        grains = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
        image[on_device] = (image[on_device] * grains.mul_(strength[on_device]).add_(1)).clamp_(0, 1)
        return image


@dataclass(eq=False, kw_only=True)
class RandomQuantumNoise(BatchTransform):
    """Noise that grows with the root of the brightness: what is white let few X-ray quanta through."""

    strength: float  #: Largest standard deviation at full brightness.

    def _image(self, image: Tensor) -> Tensor:
        strength = self.where_acting(self.R.uniform(0, self.strength), 0, image)
        cases, on_device = _acting(self.acts, image)
        noise = self.noise(cases, (image.shape[-2], image.shape[-1]), image.device)
        part = image[on_device]
        image[on_device] = (part + part.sqrt() * noise.mul_(strength[on_device])).clamp_(0, 1)
        return image


def _acting(acts: np.ndarray, like: Tensor) -> tuple[np.ndarray, Tensor]:
    """Places of the cases to act on, on the host and on the device: noise is made for no others."""
    cases = np.flatnonzero(acts)
    return cases, torch.from_numpy(cases).to(like.device, non_blocking=True)
