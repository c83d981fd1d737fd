"""The learning rate as a function of the step, so that a resume needs no state."""

from __future__ import annotations

import math

from gcsam_med.config import RunConfig


def lr_factor(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """Part of the peak learning rate that applies in a step.

    Parameters
    ----------
    config : RunConfig
        Names schedule, warm-up and epochs.
    step : int
        From 0.
    steps_per_epoch : int
        At least 1.

    Returns
    -------
    float
        In (0, 1]: rises linearly over the warm-up, then stays (``constant``) or falls along half a cosine
        to nearly 0 in the last step (``cosine``; Loshchilov and Hutter 2017, eq. 5, without restarts).
    """
    total = config.epochs * steps_per_epoch
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
