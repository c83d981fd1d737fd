"""LOSSES: what training makes small. All are means over cases, so that shards of a batch add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def build_loss(name: str, weights: torch.Tensor | None = None, smoothing: float = 0.0) -> nn.Module:
    """Build a loss.

    Parameters
    ----------
    name : str
        A name in `LOSSES`.
    weights : Tensor, shape (classes,), optional
        Classification: weight of each class.
    smoothing : float
        Classification: label smoothing, in [0, 1).

    Returns
    -------
    torch.nn.Module
        (logits, targets) -> scalar. Segmentation: logits and targets (B, 1, S, S); classification: logits
        (B, classes), targets (B,).
    """
    return LOSSES[name](weights, smoothing)


def class_weights(counts: np.ndarray) -> torch.Tensor:
    """Weigh each class by the inverse of its frequency, so that the mean weight over cases is 1.

    Parameters
    ----------
    counts : ndarray of int, shape (classes,)
        Training cases of each class.

    Returns
    -------
    Tensor, shape (classes,)
        A class without a case weighs 0.
    """
    numbers = torch.from_numpy(np.asarray(counts)).float()
    present = numbers > 0
    weights = torch.zeros_like(numbers)
    weights[present] = numbers.sum() / (present.sum() * numbers[present])
    return weights


def _dice_ce(weights: torch.Tensor | None, smoothing: float) -> nn.Module:
    """Dice plus binary cross-entropy (Isensee et al. 2021 use the pair in nnU-Net)."""
    from monai.losses import DiceCELoss

    return DiceCELoss(sigmoid=True)


def _dice_focal(weights: torch.Tensor | None, smoothing: float) -> nn.Module:
    """Dice plus focal loss (Lin et al. 2017), for small lesions."""
    from monai.losses import DiceFocalLoss

    return DiceFocalLoss(sigmoid=True, gamma=2.0)


def _dice(weights: torch.Tensor | None, smoothing: float) -> nn.Module:
    """Soft Dice (Milletari et al. 2016)."""
    from monai.losses import DiceLoss

    return DiceLoss(sigmoid=True)


def _cross_entropy(weights: torch.Tensor | None, smoothing: float) -> nn.Module:
    """Weighted cross-entropy, averaged over cases and not over weights."""
    return _Weighted(weights, smoothing, gamma=0.0)


def _focal(weights: torch.Tensor | None, smoothing: float) -> nn.Module:
    """Weighted focal loss with gamma 2 (Lin et al. 2017)."""
    return _Weighted(weights, smoothing, gamma=2.0)


class _Weighted(nn.Module):
    weights: torch.Tensor | None

    def __init__(self, weights: torch.Tensor | None, smoothing: float, gamma: float) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.smoothing, self.gamma = smoothing, gamma

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        # Torch's own mean divides by the sum of weights in the batch, so that a batch's loss would depend
        # on how it is cut into shards.
        per_case = F.cross_entropy(
            logits, targets, weight=self.weights, label_smoothing=self.smoothing, reduction="none"
        )
        if self.gamma:
            sure = logits.softmax(dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)
            per_case = per_case * (1 - sure) ** self.gamma
        return per_case.mean()


LOSSES: dict[str, Callable[[Any, float], nn.Module]] = {
    "dice-ce": _dice_ce,
    "dice-focal": _dice_focal,
    "dice": _dice,
    "cross-entropy": _cross_entropy,
    "focal": _focal,
}
