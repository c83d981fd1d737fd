"""How a run takes its steps: from CUDA graphs where it can, else one operation after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gcsam_med.config import RunConfig
from gcsam_med.optim import StepResult, training_step
from gcsam_med.optim.capture import CapturedSteps, CaptureError
from gcsam_med.training.batches import MicroBatch, fits_on
from gcsam_med.training.build import Parts
from gcsam_med.training.plan import Plan


def why_not_captured(config: RunConfig, device: torch.device, processes: int) -> str:
    """Why the steps of a run are not captured in CUDA graphs; empty if they are."""
    if device.type != "cuda":
        return f"the run is on {device.type}"
    if not config.capture:
        return "capture is off"
    if processes > 1:
        return "several processes exchange gradients"
    if config.accumulate > 1:
        return "a step has several batches (--accumulate)"
    if config.precision == "fp16":
        return "fp16 scales the loss"
    return ""


def how_it_runs(plan: Plan, device: torch.device, processes: int) -> str:
    """How a run uses a GPU, in a few words; empty on other devices."""
    if device.type != "cuda":
        return ""
    why_not = why_not_captured(plan.config, device, processes)
    steps = f"steps not captured: {why_not}" if why_not else "steps captured in CUDA graphs"
    place = "on the device" if fits_on(device, plan, plan.train_rows) else "read ahead from disk"
    return f"{steps}, images {place}"


class Steps:
    """Takes the steps of a run; `note` is told if its network turns out not to be capturable.

    The configuration's precision is as picked, not ``auto``.
    """

    def __init__(self, config: RunConfig, parts: Parts, note: Callable[[str], None]) -> None:
        self.config, self.parts, self.note = config, parts, note
        self.captured: CapturedSteps | None = None
        if not why_not_captured(config, parts.device, parts.fabric.world_size):
            self.captured = CapturedSteps(
                parts.model,
                parts.optimizer,
                parts.sharpness,
                parts.loss_of,
                max_norm=config.clip_norm or None,
            )

    def __call__(self, batches: Sequence[MicroBatch], seed: int) -> StepResult:
        """Take a step by its micro-batches, with the random numbers of a seed."""
        if self.captured is not None:
            try:
                return self.captured(batches[0], seed)
            except CaptureError as error:
                self.captured = None
                self.note(f"steps are slower, since this network cannot be captured in a CUDA graph: {error}")
        parts = self.parts
        torch.manual_seed(seed)
        return training_step(
            parts.model,
            parts.optimizer,
            parts.sharpness,
            batches,
            parts.loss_of,
            scaler=parts.scaler if parts.scaler.is_enabled() else None,
            max_norm=self.config.clip_norm or None,
            no_sync=lambda: parts.fabric.no_backward_sync(parts.model),
        )
