"""The first guess of a segmentation network: how much of a training image is foreground.

A network that begins at probability one half everywhere spends its first epochs learning that most pixels are
background: an adaptive optimizer moves the bias of the output by no more than the learning rate in a step.
Lin et al., "Focal Loss for Dense Object Detection" (2017), section 4.1, set that bias to the prior instead.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from gcsam_med.training.plan import Plan

# Enough for a fraction; a large data set need not be read twice for it.
MOST_MASKS = 512


def foreground_fraction(plan: Plan) -> float:
    """Fraction of the training masks' pixels that is foreground, kept away from 0 and 1."""
    chosen = plan.train_rows[:: math.ceil(len(plan.train_rows) / MOST_MASKS)]
    parts = [plan.dataset.masks(rows).mean() for rows in np.array_split(chosen, math.ceil(len(chosen) / 64))]
    return min(max(float(np.mean(parts)), 0.001), 0.999)


@torch.no_grad()
def start_from_prior(network: nn.Module, prior: float) -> None:
    """Set the bias of the output layer so that a network that knows nothing answers `prior`.

    Parameters
    ----------
    network : nn.Module
        With one output channel; the last bias of one element belongs to the layer that makes it.
    prior : float
        Probability of foreground, in (0, 1).
    """
    biases = [
        b for m in network.modules() if isinstance(b := getattr(m, "bias", None), Tensor) and b.shape == (1,)
    ]
    biases[-1].fill_(math.log(prior / (1 - prior)))
