"""LOSSES: what training minimizes. All are means over cases, so that the parts of a batch add up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from gcsam_med.config import Task
from gcsam_med.errors import InputError, unknown_name


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
    spec = LOSSES[name]
    return spec.build() if spec.task == "segmentation" else spec.build(weights, smoothing)


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


class _CrossEntropy(nn.Module):
    """Weighted cross-entropy, averaged over cases; with `gamma` above 0 the focal loss."""

    weights: torch.Tensor | None

    def __init__(
        self, weights: torch.Tensor | None = None, smoothing: float = 0.0, gamma: float = 0.0
    ) -> None:
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


@dataclass(frozen=True)
class LossSpec:
    """A row of the table."""

    task: Task  #: What it is for.
    title: str  #: What it is, in a few words.
    source: str  #: Where it comes from.
    #: Segmentation: ``build()``; classification: ``build(class weights or None, label smoothing)``.
    build: Callable[..., nn.Module]
    default: bool = False  #: Whether it is taken where none is named.


def _monai(name: str, **options: Any) -> nn.Module:
    import monai.losses

    loss: nn.Module = getattr(monai.losses, name)(sigmoid=True, **options)
    return loss


LOSSES: dict[str, LossSpec] = {
    "dice-ce": LossSpec(
        "segmentation",
        "Dice plus binary cross-entropy",
        "Isensee 2021, doi 10.1038/s41592-020-01008-z (nnU-Net)",
        partial(_monai, "DiceCELoss"),
        default=True,
    ),
    "dice-focal": LossSpec(
        "segmentation",
        "Dice plus focal loss, for small lesions",
        "Lin 2017, arXiv 1708.02002",
        partial(_monai, "DiceFocalLoss", gamma=2.0),
    ),
    "dice": LossSpec(
        "segmentation", "soft Dice", "Milletari 2016, arXiv 1606.04797", partial(_monai, "DiceLoss")
    ),
    "cross-entropy": LossSpec(
        "classification",
        "weighted cross-entropy",
        "King and Zeng 2001, doi 10.1093/oxfordjournals.pan.a004868 (weights by inverse frequency)",
        _CrossEntropy,
        default=True,
    ),
    "focal": LossSpec(
        "classification",
        "weighted focal loss with gamma 2",
        "Lin 2017, arXiv 1708.02002",
        partial(_CrossEntropy, gamma=2.0),
    ),
}


def default_loss(task: Task) -> str:
    """Name of the loss that is taken where none is named."""
    return next(name for name, spec in LOSSES.items() if spec.task == task and spec.default)


def check_loss(name: str, task: Task) -> None:
    """Refuse a loss that is not known or is for the other task.

    Raises
    ------
    InputError
        Lists those that fit.
    """
    fitting = [known for known, spec in LOSSES.items() if spec.task == task]
    if name not in LOSSES:
        raise unknown_name(f"{task} loss", name, fitting)
    if name not in fitting:
        raise InputError(f"Loss '{name}' does not fit {task}.", f"Choose one of: {', '.join(fitting)}.")
