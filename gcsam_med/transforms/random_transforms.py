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
"""One number for each case, float32, shape (B,)."""


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
        """Draw from low..high, one number for each case."""
        del size
        part = (self.bits() >> np.uint64(11)) * 2.0**-53
        return (low + (high - low) * part).astype(np.float32)

    def rand(self, *size: int) -> Draws:  # type: ignore[override]
        """Draw from 0..1, one number for each case."""
        del size
        return self.uniform()


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
        """Draw, and act; images may be changed in place."""
        device = data["image"].device
        draws = [torch.from_numpy(draw).to(device, non_blocking=True) for draw in self.randomize()]
        return self.apply(data, draws)

    def randomize(self, data: Any = None) -> list[np.ndarray]:
        """Draw which cases to act on, and how.

        Returns
        -------
        list of ndarray of float32 or int32
            The draws that `apply` takes; the first dimension is the case.
        """
        del data
        self.acts = self.R.rand() < self.prob
        return self.draw()

    def draw(self) -> list[np.ndarray]:
        """Draw how to act."""
        raise NotImplementedError

    def apply(self, data: Batch, draws: Sequence[Tensor]) -> Batch:
        """Act as drawn, without looking at a number of the device; images may be changed in place."""
        return {"image": self.image(data["image"], *draws), "mask": data["mask"]}

    def image(self, image: Tensor, *draws: Tensor) -> Tensor:
        """Act on the images alone, which most transforms do."""
        raise NotImplementedError

    def symmetric(self, half_width: float) -> Draws:
        """Draw from -half_width..half_width, uniformly."""
        return self.R.uniform(-half_width, half_width)

    def factor(self, change: float) -> Draws:
        """Draw from 1/(1+change)..1+change, symmetric about 1 on a logarithmic scale."""
        return np.exp(self.symmetric(math.log1p(change)))

    def where_acting(self, draws: Draws, neutral: float) -> np.ndarray:
        """The draws as (B, 1, 1, 1); cases that are left alone get `neutral`."""
        return np.where(self.acts, draws, np.float32(neutral)).astype(np.float32)[:, None, None, None]

    def noise_seeds(self) -> np.ndarray:
        """Draw what `noise_field` makes a field from, int32, shape (B, 2)."""
        keys = self.R.bits()
        halves = np.stack([keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF)], axis=1)
        return halves.astype(np.uint32).view(np.int32)


def noise_field(seeds: Tensor, height: int, width: int) -> Tensor:
    """Standard normal numbers from seeds (B, 2), int32: float32, shape (B, 1, height, width)."""
    place = torch.arange(height * width, dtype=torch.int32, device=seeds.device)
    bits = _hash(_hash(place + seeds[:, :1]) ^ seeds[:, 1:])
    # 24 bits, between the steps of a float32, so that neither end is reached.
    uniform = (bits >> 8).float().add_(0.5).mul_(2.0**-23)
    return torch.erfinv(uniform).mul_(math.sqrt(2)).view(-1, 1, height, width)


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

    def draw(self) -> list[np.ndarray]:
        """Draw the matrices, and the bends where there are any."""
        matrices = self.matrices()
        return [matrices, self.bends()] if self.bend else [matrices]

    def apply(self, data: Batch, draws: Sequence[Tensor]) -> Batch:
        """Resample images and masks."""
        image, mask = data["image"], data["mask"]
        grid = F.affine_grid(draws[0], [len(image), 1, *image.shape[-2:]], align_corners=False)
        if self.bend:
            basis = _spline_basis(image.shape[-1], BEND_POINTS, image.device)
            grid += (basis @ draws[1] @ basis.T).permute(0, 2, 3, 1)
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
        points = noise_field(torch.from_numpy(self.noise_seeds()), 2 * BEND_POINTS, BEND_POINTS).numpy()
        scale = np.where(acts, 2 * self.bend, 0.0).astype(np.float32)
        return points.reshape(-1, 2, BEND_POINTS, BEND_POINTS) * scale[:, None, None, None]


@dataclass(eq=False, kw_only=True)
class RandomCrop(BatchTransform):
    """Mirror and shift by whole pixels, black coming in: pad, then crop (He 2016, arXiv 1512.03385, 4.2)."""

    flip: float  #: Probability of a left-right mirror image.
    #: Width of the border, as a part of the side: 4 of CIFAR's 32 pixels are 0.125.
    pad: float

    def draw(self) -> list[np.ndarray]:
        """Draw mirror, and the offsets from the top and the left as parts of twice the border."""
        return [(self.R.rand() < self.flip).astype(np.int32), self.R.rand(), self.R.rand()]

    def apply(self, data: Batch, draws: Sequence[Tensor]) -> Batch:
        """Cut images and masks out of their padded selves."""
        side = data["image"].shape[-1]
        pad = round(self.pad * side)
        mirror, *parts = draws
        place = torch.arange(side, device=mirror.device)
        down, across = ((part * (2 * pad + 1)).long().clamp_(max=2 * pad)[:, None] + place for part in parts)
        across = torch.where(mirror[:, None] > 0, 2 * pad + side - 1 - across, across)
        case = torch.arange(len(mirror), device=mirror.device)[:, None, None]

        def crop(planes: Tensor) -> Tensor:
            padded = F.pad(planes, [pad] * 4)
            return padded[case, :, down[:, :, None], across[:, None]].permute(0, 3, 1, 2).contiguous()

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

    def draw(self) -> list[np.ndarray]:
        """Draw cut-off, gain and exponent."""
        return [
            self.where_acting(self.R.uniform(0, self.threshold), 0),
            self.where_acting(self.factor(self.gain), 1),
            self.where_acting(self.factor(self.gamma), 1),
        ]

    def image(self, image: Tensor, *draws: Tensor) -> Tensor:
        """Change the brightness."""
        cut, gain, exponent = draws
        return image.sub_(cut).div_(1 - cut).clamp_(0, 1).pow_(exponent).mul_(gain).clamp_(0, 1)


@dataclass(eq=False, kw_only=True)
class RandomDepthGain(BatchTransform):
    """Brightness that rises or falls with depth, as a set of time-gain sliders changes it."""

    change: float  #: Largest relative change of brightness from the top to the bottom.

    def draw(self) -> list[np.ndarray]:
        """Draw the slope of the logarithm."""
        return [self.where_acting(self.symmetric(math.log1p(self.change)), 0)]

    def image(self, image: Tensor, *draws: Tensor) -> Tensor:
        """Change the brightness with depth."""
        (slope,) = draws
        depth = torch.linspace(-0.5, 0.5, image.shape[-2], device=image.device)[:, None]
        return image.mul_((depth * slope).exp_()).clamp_(0, 1)


@dataclass(eq=False, kw_only=True)
class RandomShadow(BatchTransform):
    """An acoustic shadow: a dark stripe from some depth down, as below a rib, gas or calcium."""

    #: Least and largest part of the brightness that is lost in its middle.
    strength: tuple[float, float]

    def draw(self) -> list[np.ndarray]:
        """Draw centre, half width, first depth, and strength."""
        return [
            self.where_acting(self.R.uniform(0, 1), 0),
            self.where_acting(self.R.uniform(0.03, 0.1), 1),
            self.where_acting(self.R.uniform(0, 0.7), 0),
            self.where_acting(self.R.uniform(*self.strength), 0),
        ]

    def image(self, image: Tensor, *draws: Tensor) -> Tensor:
        """Darken the stripes."""
        centre, half, start, strength = draws
        height, width = (
            (torch.arange(n, dtype=torch.float32, device=image.device) + 0.5) / n for n in image.shape[-2:]
        )
        across = ((width - centre) / half).square_().mul_(-0.5).exp_()
        down = ((height[:, None] - start) / 0.1).clamp_(0, 1)
        return image.mul_((down.mul_(strength) * across).neg_().add_(1))


@dataclass(eq=False, kw_only=True)
class RandomSpeckle(BatchTransform):
    """Multiplicative noise whose grains are wider than tall: a beam resolves depth better than breadth."""

    strength: float  #: Largest standard deviation, relative to the brightness.

    def draw(self) -> list[np.ndarray]:
        """Draw the standard deviation, and the seeds of the grains."""
        return [self.where_acting(self.R.uniform(0, self.strength), 0), self.noise_seeds()]

    def image(self, image: Tensor, *draws: Tensor) -> Tensor:
        """Multiply by grains."""
        strength, seeds = draws
        height, width = image.shape[-2:]
        chosen = _acting(strength)
        coarse = noise_field(seeds[chosen], height, max(1, width // 2))
        grains = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
        image[chosen] = (image[chosen] * grains.mul_(strength[chosen]).add_(1)).clamp_(0, 1)
        return image


@dataclass(eq=False, kw_only=True)
class RandomQuantumNoise(BatchTransform):
    """Noise that grows with the root of the brightness: what is white let few X-ray quanta through."""

    strength: float  #: Largest standard deviation at full brightness.

    def draw(self) -> list[np.ndarray]:
        """Draw the standard deviation, and the seeds of the noise."""
        return [self.where_acting(self.R.uniform(0, self.strength), 0), self.noise_seeds()]

    def image(self, image: Tensor, *draws: Tensor) -> Tensor:
        """Add noise."""
        strength, seeds = draws
        chosen = _acting(strength)
        noise = noise_field(seeds[chosen], *image.shape[-2:])
        part = image[chosen]
        image[chosen] = (part + part.sqrt() * noise.mul_(strength[chosen])).clamp_(0, 1)
        return image


def _acting(strength: Tensor) -> Tensor | slice:
    """Cases to make noise for: on a CPU those that need it; a GPU makes it for all rather than wait."""
    return strength.flatten().nonzero()[:, 0] if strength.device.type == "cpu" else slice(None)
