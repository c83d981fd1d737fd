"""What a run costs, in gradient computations: a currency that is the same on any machine."""

from __future__ import annotations

from gcsam_med.config import RunConfig
from gcsam_med.optim import OPTIMIZERS


def passes_per_step(config: RunConfig) -> float:
    """Return how many forward and backward passes over the batch a step makes on average.

    Parameters
    ----------
    config : RunConfig
        Names the optimizer, and how often and on which part of the batch it ascends.

    Returns
    -------
    float
        1 for a plain optimizer and for momentum-SAM, whose ascent needs no gradient; 1 + fraction / every for
        one that ascends on each ``every``-th step by the gradient of a fraction of the batch.
    """
    method = OPTIMIZERS[config.optimizer]
    ascents = float(method.passes) - 1.0
    if ascents and config.every:
        ascents = 1.0 / config.every
    return 1.0 + ascents * config.ascent_fraction
