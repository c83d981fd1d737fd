"""LOSSES: what training makes small. All are means over cases, so that shards of a batch add up."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from gcsam_med.training.plan import Plan

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build_loss(plan: Plan, device: torch.device) -> Loss:
    """Build the loss of a run.

    Parameters
    ----------
    plan : Plan
        Names the loss; its class counts give the weights.
    device : torch.device
        Where logits will be.

    Returns
    -------
    callable
        (logits, targets) -> scalar. Segmentation: logits and targets (B, 1, S, S); classification: logits
        (B, classes), targets (B,).
    """
    return LOSSES[str(plan.config.loss)](plan, device)


def class_weights(plan: Plan) -> torch.Tensor | None:
    """Weight of each class, shape (classes,): the inverse of its frequency, 1 on average over cases.

    Returns
    -------
    Tensor or None
        None if the run does not weigh classes. A class without a training case weighs 0.
    """
    if not plan.config.class_weights:
        return None
    counts = torch.from_numpy(plan.class_counts()).float()
    present = counts > 0
    weights = torch.zeros_like(counts)
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights


def _dice_ce(plan: Plan, device: torch.device) -> Loss:
    """Dice plus binary cross-entropy (Isensee et al. 2021 use the pair in nnU-Net)."""
    from monai.losses import DiceCELoss

    return DiceCELoss(sigmoid=True)


def _dice_focal(plan: Plan, device: torch.device) -> Loss:
    """Dice plus focal loss (Lin et al. 2017), for small lesions."""
    from monai.losses import DiceFocalLoss

    return DiceFocalLoss(sigmoid=True, gamma=2.0)


def _dice(plan: Plan, device: torch.device) -> Loss:
    """Soft Dice (Milletari et al. 2016)."""
    from monai.losses import DiceLoss

    return DiceLoss(sigmoid=True)


def _cross_entropy(plan: Plan, device: torch.device) -> Loss:
    """Weighted cross-entropy, averaged over cases and not over weights."""
    weights = class_weights(plan)
    return _Weighted(weights, plan.config.label_smoothing, gamma=0.0).to(device)


def _focal(plan: Plan, device: torch.device) -> Loss:
    """Weighted focal loss with gamma 2 (Lin et al. 2017)."""
    return _Weighted(class_weights(plan), plan.config.label_smoothing, gamma=2.0).to(device)


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


LOSSES: dict[str, Callable[[Plan, torch.device], Loss]] = {
    "dice-ce": _dice_ce,
    "dice-focal": _dice_focal,
    "dice": _dice,
    "cross-entropy": _cross_entropy,
    "focal": _focal,
}
