"""The training loop: one page, read from top to bottom."""

from __future__ import annotations

import math
import time
from contextlib import closing

import torch

from gcsam_med.config import RunConfig
from gcsam_med.devices import peak_memory_mib
from gcsam_med.errors import InputError, Interrupted
from gcsam_med.optim import rho_factor
from gcsam_med.runs import RunFolder
from gcsam_med.training.averaging import add_to_average, averaging_from, update_statistics
from gcsam_med.training.batches import Batches, StoredCases
from gcsam_med.training.build import Parts
from gcsam_med.training.callbacks import Callback, EpochEnd, Progress
from gcsam_med.training.plan import Plan
from gcsam_med.training.process import StopSignals, any_process, mean_over_processes
from gcsam_med.training.state import TrainingState, draw_curves, save, save_epoch
from gcsam_med.training.steps import Steps
from gcsam_med.training.validation import draw_predictions, validate

_PROGRESS_SECONDS = 0.25
# Where epochs are short, pictures are drawn this seldom, and checkpoints take at most this part of the time.
_PICTURE_SECONDS, _CHECKPOINT_SHARE = 5.0, 0.05
# Losses are read from a GPU every so many steps, since reading one waits for the device.
_STEPS_BETWEEN_READINGS = 50


def train_loop(plan: Plan, parts: Parts, state: TrainingState, run: RunFolder, callback: Callback) -> None:
    """Train until the epochs, the time or the patience are used up, or a signal comes.

    `parts` and `state` are changed in place; checkpoints, history and model go to `run`.

    Raises
    ------
    Interrupted
        After a signal, with a checkpoint saved.
    EnvironmentFault
        If the disk is full.
    InputError
        If gradients stay infinite or NaN.
    """
    config, fabric, device = plan.config, parts.fabric, parts.device
    batches = Batches(plan, fabric.global_rank, fabric.world_size, device)
    val_cases = StoredCases(plan, plan.val_rows, device)
    steps = batches.steps_per_epoch
    limit = float("inf") if config.max_minutes is None else 60 * config.max_minutes
    last_progress = time.monotonic()
    saver, pictures = _Saver(parts, state, run), _Pictures(run)
    take_step = Steps(config, parts, callback.note)
    parts.network.train()
    unread: list[tuple[torch.Tensor, torch.Tensor, float]] = []  # loss, skipped and weight of each step

    upcoming = batches.stream(state.step, config.epochs * steps)
    with StopSignals() as stop, closing(upcoming):
        while not state.reason:
            # --- End of an epoch, or of the time: validate, save the best model, decide whether to stop
            late = any_process(fabric, state.seconds > limit)
            if late:
                _read(unread, state)
            if state.cases and (state.step % steps == 0 or late):
                _end_epoch(plan, parts, batches, val_cases, state, run, callback, late)
                pictures.draw(plan, parts, val_cases, state)
                if any_process(fabric, bool(state.reason) or saver.idle):
                    saver.save()
                continue

            # --- One step
            started = time.monotonic()
            lr = _set_rates(parts, plan, state.step, steps)
            micro_batches = next(upcoming)
            outcome = take_step(micro_batches, _step_seed(config.seed, state.step, fabric.global_rank))
            add_to_average(parts.averaged, parts.network, config, state.step, steps, outcome.skipped)
            cases = sum(len(batch.images) for batch in micro_batches)
            # The same in every process, however the step's cases were dealt out.
            weight = cases / sum(batch.share for batch in micro_batches)
            unread.append((outcome.loss, outcome.skipped, weight))
            at_end = (state.step + 1) % steps == 0
            report = at_end or time.monotonic() - last_progress > _PROGRESS_SECONDS
            if device.type == "cpu" or report or len(unread) >= _STEPS_BETWEEN_READINGS:
                _read(unread, state)
            state.count(cases, time.monotonic() - started)
            if state.skipped_in_row >= config.nonfinite_limit:
                raise _diverged(plan, batches, state)

            # --- Progress and checkpoints within an epoch
            now = time.monotonic()
            if report:
                last_progress = now
                callback.progress(_progress(state, steps, lr, fabric.world_size, device))
            stopping = any_process(fabric, stop.exit_code is not None)
            due = config.checkpoint_steps is not None and state.step % config.checkpoint_steps == 0
            if stopping or any_process(fabric, due or saver.seconds_since > 60 * config.checkpoint_minutes):
                _read(unread, state)
                saver.save()
            if stopping:
                raise Interrupted(
                    f"Stopped by {stop.name or 'a signal'} after step {state.step}; a checkpoint is saved.",
                    f"Resume with: gcsam-med train --resume {run.root}",
                    stop.exit_code or 143,
                )


class _Saver:
    """Saves checkpoints, and knows what they cost."""

    def __init__(self, parts: Parts, state: TrainingState, run: RunFolder) -> None:
        self.parts, self.state, self.run = parts, state, run
        self.last, self.took = time.monotonic(), 0.0

    def save(self) -> None:
        """Save the state as it is."""
        started = time.monotonic()
        save(self.parts.fabric, self.run, self.parts, self.state)
        self.last = time.monotonic()
        self.took = self.last - started

    @property
    def seconds_since(self) -> float:
        """Since the last checkpoint, or since the beginning."""
        return time.monotonic() - self.last

    @property
    def idle(self) -> bool:
        """Whether another checkpoint would keep their part of the time small."""
        return self.seconds_since > self.took / _CHECKPOINT_SHARE


class _Pictures:
    """Draws ``curves.png`` and ``val_predictions.png`` after an epoch, if the last ones are not new."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self.last = run, float("-inf")

    def draw(self, plan: Plan, parts: Parts, cases: StoredCases, state: TrainingState) -> None:
        """Draw, at the end of the run in any case; the first process alone does."""
        if not parts.fabric.is_global_zero:
            return
        if state.reason or time.monotonic() - self.last > _PICTURE_SECONDS:
            draw_curves(self.run.curves_file, state.history, plan.metric)
            draw_predictions(self.run.predictions_file, plan, parts.to_save, cases, parts.autocast)
            self.last = time.monotonic()


def _read(unread: list[tuple[torch.Tensor, torch.Tensor, float]], state: TrainingState) -> None:
    """Read the steps of which only the device knows so far what became of them."""
    if not unread:
        return
    losses = torch.stack([loss for loss, _, _ in unread]).tolist()
    skipped = torch.stack([skip for _, skip, _ in unread]).tolist()
    for loss, skip, (_, _, weight) in zip(losses, skipped, unread, strict=True):
        state.record(loss, weight, skip)
    unread.clear()


def lr_factor(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """Part of the peak learning rate that applies in a step (from 0), in (0, 1].

    It rises linearly over the warm-up, then stays (``constant``) or falls along half a cosine to nearly 0 in
    the last step (``cosine``; Loshchilov and Hutter 2017, eq. 5, without restarts). With ``swa`` it stays
    from the first averaged epoch on.
    """
    total = config.epochs * steps_per_epoch
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total)
    if config.swa:
        step = min(step, averaging_from(config, steps_per_epoch))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _set_rates(parts: Parts, plan: Plan, step: int, steps_per_epoch: int) -> float:
    """Set learning rate and rho of a step, which depend on nothing but its number."""
    config = plan.config
    lr = float(config.lr or 0) * lr_factor(config, step, steps_per_epoch)
    for group in parts.optimizer.param_groups:
        group["lr"] = lr
    if parts.sharpness is not None:
        done = step / (config.epochs * steps_per_epoch)
        parts.sharpness.rho_factor = rho_factor(config.rho_schedule, done, config.rho_end)
    return lr


def _end_epoch(
    plan: Plan,
    parts: Parts,
    batches: Batches,
    val_cases: StoredCases,
    state: TrainingState,
    run: RunFolder,
    callback: Callback,
    late: bool,
) -> None:
    fabric, config, steps_per_epoch = parts.fabric, plan.config, batches.steps_per_epoch
    if config.swa and parts.averaged is not None:
        update_statistics(parts.averaged, config, batches.cases, parts.autocast)
    measured = validate(
        plan,
        parts.to_save,
        parts.loss,
        val_cases,
        parts.autocast,
        fabric.global_rank,
        fabric.world_size,
    )
    row: dict[str, float | int] = {
        "epoch": len(state.history) + 1,
        "train_loss": mean_over_processes(fabric, state.train_loss),
        **measured,
        "lr": float(parts.optimizer.param_groups[0]["lr"]),
        "seconds": state.epoch_seconds,
        "images_per_second": state.images_per_second * fabric.world_size,
        "skipped_steps": state.skipped,
    }
    first_average = averaging_from(config, steps_per_epoch) if config.swa else 0
    if config.swa and state.step > first_average >= state.best_epoch * steps_per_epoch:
        state.best_epoch = 0  # the run is to give an average, however good single epochs were before
    better = state.end_epoch(row, plan.metric, whole=state.step % steps_per_epoch == 0)
    if fabric.is_global_zero:
        save_epoch(plan, parts, state, run, better)
    since = len(state.history) - state.best_epoch
    left = config.patience - since if config.patience and state.step > first_average else None
    callback.epoch_end(EpochEnd(row, plan.metric, state.best, state.best_epoch, left))
    if state.step >= config.epochs * steps_per_epoch:
        state.reason = "epochs"
    elif late:
        state.reason = "max_minutes"
    elif left is not None and left <= 0:
        state.reason = "patience"


def _progress(state: TrainingState, steps: int, lr: float, world: int, device: torch.device) -> Progress:
    return Progress(
        epoch=len(state.history) + 1,
        place=(state.step - 1) % steps + 1,
        steps=steps,
        loss=state.train_loss,
        lr=lr,
        images_per_second=state.images_per_second * world,
        memory_mib=peak_memory_mib(device),
    )


def _diverged(plan: Plan, batches: Batches, state: TrainingState) -> InputError:
    rows = batches.rows(state.step - 1)
    cases = ", ".join(plan.dataset.manifest["case_id"].iloc[rows].head(8))
    return InputError(
        f"The gradient was infinite or NaN in {state.skipped_in_row} steps in a row, up to step {state.step} "
        f"(its cases: {cases}{', ...' if len(rows) > 8 else ''}).",
        "Weights are as before those steps. Try a lower --lr, a lower --rho, or --precision fp32.",
    )


def _step_seed(seed: int, step: int, rank: int) -> int:
    import numpy as np

    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)
