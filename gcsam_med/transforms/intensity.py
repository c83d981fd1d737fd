"""Random changes of brightness and noise. Black stays black: padding must not give itself away."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from gcsam_med.transforms.sample import Sample, SampleTransform


class RandomTone(SampleTransform):
    """Gain, gamma and contrast, as the knobs of an ultrasound machine or the exposure of a film change them.

    Parameters
    ----------
    gain : float
        Largest relative change of brightness.
    gamma : float
        Largest relative change of the exponent.
    threshold : float
        Largest grey level that is cut off as black: the dynamic range becomes narrower.
    prob : float
        Probability.
    """

    def __init__(self, *, gain: float, gamma: float, threshold: float = 0.0, prob: float) -> None:
        super().__init__(prob)
        self.gain, self.gamma, self.threshold = gain, gamma, threshold

    def apply(self, sample: Sample) -> Sample:
        """Act once."""
        cut = float(self.R.uniform(0, self.threshold))
        gain, exponent = self.factor(self.gain), self.factor(self.gamma)
        image = sample["image"].sub(cut).mul_(1 / (1 - cut)).clamp_(0, 1)
        return {"image": image.pow_(exponent).mul_(gain).clamp_(0, 1), "mask": sample["mask"]}


class RandomDepthGain(SampleTransform):
    """Brightness that rises or falls with depth, as a set of time-gain sliders changes it.

    Parameters
    ----------
    change : float
        Largest relative change of brightness from the top to the bottom.
    prob : float
        Probability.
    """

    def __init__(self, *, change: float, prob: float) -> None:
        super().__init__(prob)
        self.change = change

    def apply(self, sample: Sample) -> Sample:
        """Act once."""
        slope = self.symmetric(math.log1p(self.change))
        depth = torch.linspace(-0.5, 0.5, sample["image"].shape[-2])
        image = sample["image"] * depth.mul_(slope).exp_()[:, None]
        return {"image": image.clamp_(0, 1), "mask": sample["mask"]}


class RandomShadow(SampleTransform):
    """An acoustic shadow: a dark stripe from some depth down, as below a rib, gas, calcium or lost contact.

    Parameters
    ----------
    strength : tuple of float
        Least and largest part of the brightness that is lost in its middle.
    prob : float
        Probability.
    """

    def __init__(self, *, strength: tuple[float, float], prob: float) -> None:
        super().__init__(prob)
        self.strength = strength

    def apply(self, sample: Sample) -> Sample:
        """Act once."""
        height, width = sample["image"].shape[-2:]
        centre, half, start = self.R.uniform((0.0, 0.03, 0.0), (1.0, 0.1, 0.7))
        across = np.exp(-0.5 * (((np.arange(width) + 0.5) / width - centre) / half) ** 2)
        down = np.clip(((np.arange(height) + 0.5) / height - start) / 0.1, 0, 1)
        shade = 1 - self.R.uniform(*self.strength) * np.outer(down, across)
        image = sample["image"] * torch.from_numpy(shade.astype(np.float32))
        return {"image": image, "mask": sample["mask"]}


class RandomSpeckle(SampleTransform):
    """Multiplicative noise whose grains are wider than tall: a beam resolves depth better than breadth.

    Parameters
    ----------
    strength : float
        Largest standard deviation, relative to the brightness.
    prob : float
        Probability.
    """

    def __init__(self, *, strength: float, prob: float) -> None:
        super().__init__(prob)
        self.strength = strength

    def apply(self, sample: Sample) -> Sample:
        """Act once."""
        height, width = sample["image"].shape[-2:]
        strength = float(self.R.uniform(0, self.strength))
        coarse = self.noise(1, 1, height, max(1, width // 2))
        grains = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)[0]
        image = sample["image"] * grains.mul_(strength).add_(1)
        return {"image": image.clamp_(0, 1), "mask": sample["mask"]}


class RandomQuantumNoise(SampleTransform):
    """Noise that grows with the root of the brightness: what is white let few X-ray quanta through.

    Parameters
    ----------
    strength : float
        Largest standard deviation at full brightness.
    prob : float
        Probability.
    """

    def __init__(self, *, strength: float, prob: float) -> None:
        super().__init__(prob)
        self.strength = strength

    def apply(self, sample: Sample) -> Sample:
        """Act once."""
        strength = float(self.R.uniform(0, self.strength))
        image = sample["image"]
        noise = self.noise(1, *image.shape[-2:]).mul_(strength)
        return {"image": (image + image.sqrt() * noise).clamp_(0, 1), "mask": sample["mask"]}
