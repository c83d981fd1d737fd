"""What passes through a pipeline of random transforms, and what each of them is."""

from __future__ import annotations

import math
from typing import TypedDict

import numpy as np
import torch
from monai.transforms import RandomizableTransform


class Sample(TypedDict):
    """A case on its way through the pipeline: (C, S, S) in 0..1, and (1, S, S) of 0 and 1 or None."""

    image: torch.Tensor
    mask: torch.Tensor | None


class SampleTransform(RandomizableTransform):
    """A random transform of a sample; it never changes the tensors it is given.

    MONAI's convention holds: all randomness comes from ``self.R`` (see `set_random_state`).

    Parameters
    ----------
    prob : float
        Probability that it acts.
    """

    def __init__(self, prob: float) -> None:
        super().__init__(prob)

    def __call__(self, sample: Sample) -> Sample:
        """Draw whether to act, and act."""
        self.randomize(None)
        return self.apply(sample) if self._do_transform else sample

    def apply(self, sample: Sample) -> Sample:
        """Act once."""
        raise NotImplementedError

    def symmetric(self, half_width: float) -> float:
        """Draw from -half_width..half_width, uniformly."""
        return float(self.R.uniform(-half_width, half_width))

    def factor(self, change: float) -> float:
        """Draw from 1/(1+change)..1+change, symmetric about 1 on a logarithmic scale."""
        return math.exp(self.symmetric(math.log1p(change)))

    def noise(self, *shape: int) -> torch.Tensor:
        """Draw standard normal numbers, float32."""
        # Generator's ziggurat takes half the time of RandomState's polar method, SFC64 a tenth to seed.
        generator = np.random.Generator(np.random.SFC64(self.R.randint(2**31)))
        return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
