"""The fixed part of the way from stored letterboxed images to a network's input, the same for every use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from gcsam_med.errors import InputError
from gcsam_med.transforms.letterbox import Letterbox

if TYPE_CHECKING:
    import numpy as np
    import torch

LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Preprocessing:
    """What a network is fed with; training, evaluation, prediction and export all take it from here.

    Raises
    ------
    InputError
        If the numbers do not fit each other.
    """

    size: int  #: Side of the letterbox in pixels.
    channels: int  #: 1 (grey) or 3.
    #: mean, std: Of intensities in 0..1, one a channel: subtracted, then divided by; ``std`` above 0.
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that the numbers fit each other."""
        if self.channels not in (1, 3):
            raise InputError(f"A network takes 1 or 3 channels, not {self.channels}.")
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            raise InputError(
                f"Mean and std should be {self.channels} numbers each, std above 0, but are "
                f"{list(self.mean)} and {list(self.std)}."
            )

    def letterbox(self, height: int, width: int) -> Letterbox:
        """How an image of this height and width is placed."""
        return Letterbox(height, width, self.size)

    def __call__(self, stored: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Turn stored images into the network's input.

        From uint8 (B, S, S) or (B, S, S, 3), as `PreparedDataset.images` and `Letterbox.place_image` give
        them, to float32 (B, channels, S, S): standardized, contiguous, on the same device.
        """
        return self.standardize(self.planes(stored))

    def planes(self, stored: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Scale stored images to 0..1, float32 (B, C, S, S); random transforms of training come after this.

        One channel for grey images whatever the network takes. Colour becomes grey for a network of one
        channel, by ITU-R BT.601 luma, as Pillow's "L".

        Raises
        ------
        InputError
            If `stored` is of another type or shape.
        """
        import torch

        images = torch.as_tensor(stored)
        colour = images.ndim == 4
        if images.dtype != torch.uint8 or images.ndim not in (3, 4) or (colour and images.shape[3] != 3):
            raise InputError(
                "Stored images should be uint8 of shape (B, S, S) or (B, S, S, 3), but are "
                f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}."
            )
        planes = images.to(torch.float32).div_(255)
        if not colour:
            return planes[:, None]
        if self.channels == 3:
            return planes.permute(0, 3, 1, 2).contiguous()
        return (planes @ _constant(LUMA, planes.device))[:, None].clamp_(max=1)

    def standardize(self, planes: torch.Tensor) -> torch.Tensor:
        """Repeat grey over the channels, subtract the mean and divide by the standard deviation.

        From float32 (B, C, S, S), which is not changed, to (B, channels, S, S).
        """
        if planes.shape[1] != self.channels:
            planes = planes.repeat(1, self.channels, 1, 1)
        mean, std = (_constant(x, planes.device).view(1, -1, 1, 1) for x in (self.mean, self.std))
        return (planes - mean).div_(std)


@lru_cache(maxsize=32)
def _constant(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Kept on the device: a copy for each batch would make the host wait for a GPU."""
    import torch

    with torch.inference_mode(False):
        return torch.tensor(values, device=device)
