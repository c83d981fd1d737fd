"""What a study costs: gradient computations, which are the same on any machine, and time on this one."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from gcsam_med.config import RunConfig
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.optim import OPTIMIZERS

if TYPE_CHECKING:
    from gcsam_med.compare.plan import StudyPlan

_WARM_UP, _TIMED = 2, 3
# A forward pass alone, in units of forward and backward.
_FORWARD = 1 / 3


def passes_per_step(config: RunConfig) -> float:
    """Forward and backward passes over the batch that a step makes on average; the method's row tells."""
    return OPTIMIZERS[config.optimizer].passes(config.every, config.ascent_fraction)


def estimate_seconds(plan: StudyPlan, device: str | None = None) -> dict[str, float]:
    """Estimate the training time of every run of a study, were it made from its beginning.

    Parameters
    ----------
    plan : StudyPlan
        The study.
    device : str, optional
        Instead of the configurations'.

    Returns
    -------
    dict of str to float
        Seconds by the run's name, validation included; early stopping may make it less.
    """
    pace: dict[str, float] = {}
    seconds = {}
    for run in plan.runs:
        config = run.config if device is None else run.config.model_copy(update={"device": device})
        model = str(config.model)
        if model not in pace:
            pace[model] = seconds_per_pass(config)
        steps, validation = _batches(config)
        passes = steps * passes_per_step(config) + validation * _FORWARD
        seconds[run.name] = config.epochs * passes * pace[model]
    return seconds


def seconds_per_pass(config: RunConfig) -> float:
    """Time a step without an ascent: one batch forward and backward, loading and update included."""
    from gcsam_med.optim import training_step
    from gcsam_med.training import make_plan
    from gcsam_med.training.batches import Batches
    from gcsam_med.training.build import build_parts

    plain = config.model_copy(update={"optimizer": config.base, "weights": None, "pretrained": False})
    plan = make_plan(plain.model_copy(update={"rho": None}), open_prepared(config.data_root, config.dataset))
    parts = build_parts(plan)
    batches = Batches(plan, device=parts.device)
    parts.network.train()

    started = 0.0
    for step in range(_WARM_UP + _TIMED):
        if step == _WARM_UP:
            started = time.monotonic()
        micro = batches[step % batches.steps_per_epoch]
        # Reading the loss waits for the device.
        float(training_step(parts.model, parts.optimizer, None, micro, parts.loss_of).loss)
    return (time.monotonic() - started) / _TIMED


def _batches(config: RunConfig) -> tuple[int, int]:
    """Steps and validation batches of an epoch."""
    from gcsam_med.training import make_plan

    plan = make_plan(config, open_prepared(config.data_root, config.dataset))
    steps = math.ceil(len(plan.train_rows) / (config.batch_size * config.accumulate))
    return steps, math.ceil(len(plan.val_rows) / config.batch_size)
