"""The fixed part of the way from stored squares to a network's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gcsam_med.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch


def to_channels(squares: np.ndarray, in_channels: int) -> torch.Tensor:
    """Turn stored squares into planes of the number of channels a network has.

    Parameters
    ----------
    squares : ndarray of uint8, shape (B, S, S) or (B, S, S, 3)
        Grey or RGB.
    in_channels : int
        1 or 3. Grey is repeated to three channels; colour becomes grey by ITU-R BT.601 luma, as Pillow's "L".

    Returns
    -------
    Tensor of float32, shape (B, in_channels, S, S)
        Values in 0..1, contiguous.

    Raises
    ------
    InputError
        If the shapes or the number of channels are others.
    """
    import torch

    if (
        squares.dtype.name != "uint8"
        or squares.ndim not in (3, 4)
        or (squares.ndim == 4 and squares.shape[3] != 3)
    ):
        raise InputError(
            "Squares should be uint8 of shape (B, S, S) or (B, S, S, 3), "
            f"but are {squares.dtype} {squares.shape}."
        )
    if in_channels not in (1, 3):
        raise InputError(f"A network takes 1 or 3 channels, not {in_channels}.")
    planes = torch.from_numpy(squares).to(torch.float32).div_(255)
    if squares.ndim == 3:
        return planes[:, None].repeat(1, in_channels, 1, 1)
    if in_channels == 3:
        return planes.permute(0, 3, 1, 2).contiguous()
    return (planes @ planes.new_tensor([0.299, 0.587, 0.114]))[:, None].clamp_(max=1)


def standardize(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Subtract the mean and divide by the standard deviation of each channel.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
        Values in 0..1.
    mean, std : sequence of float, length C
        Over the training split; every ``std`` above 0.

    Returns
    -------
    Tensor, shape (B, C, H, W)
        A new tensor of the same dtype, on the same device.

    Raises
    ------
    InputError
        If the lengths do not fit or a deviation is not above 0.
    """
    if not len(mean) == len(std) == images.shape[1] or min(std) <= 0:
        raise InputError(
            f"Mean and std should be {images.shape[1]} numbers each, std above 0, but are {mean} and {std}."
        )
    shape = (1, -1, 1, 1)
    return (images - images.new_tensor(mean).view(shape)).div_(images.new_tensor(std).view(shape))
