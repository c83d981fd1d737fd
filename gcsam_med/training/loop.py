"""The training loop: one page, read from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gcsam_med.errors import EnvironmentFault, InputError, Interrupted
from gcsam_med.optim import rho_factor, training_step
from gcsam_med.runs import RunFolder
from gcsam_med.training.batches import Batches, stream
from gcsam_med.training.build import Session
from gcsam_med.training.callbacks import EpochEnd, Observer, Progress
from gcsam_med.training.environment import peak_memory_mib
from gcsam_med.training.plan import Plan
from gcsam_med.training.schedule import lr_factor
from gcsam_med.training.signals import StopSignals
from gcsam_med.training.state import Diary, keep, save
from gcsam_med.training.validation import validate

_SECONDS_BETWEEN_LOOKS = 0.25


def train_loop(plan: Plan, session: Session, diary: Diary, run: RunFolder, observer: Observer) -> None:
    """Train until the epochs, the time or the patience are used up, or a signal comes.

    Parameters
    ----------
    plan : Plan
        What to do.
    session : Session
        What learns; changed in place.
    diary : Diary
        Where the run stands; changed in place.
    run : RunFolder
        Where to write.
    observer : Observer
        Whom to tell.

    Raises
    ------
    Interrupted
        After a signal, with a checkpoint saved.
    EnvironmentFault
        If memory or disk run out, or a loader worker dies.
    InputError
        If gradients stay infinite or NaN.
    """
    config, fabric, device = plan.config, session.fabric, session.device
    batches = Batches(plan, fabric.global_rank, fabric.world_size)
    steps = batches.steps_per_epoch
    limit = float("inf") if config.max_minutes is None else 60 * config.max_minutes
    last_look = last_save = time.monotonic()
    session.network.train()

    with StopSignals() as stop, _worker_advice():
        upcoming = stream(batches, diary.step, config.epochs * steps, pin=device.type == "cuda")
        while not diary.reason:
            # --- The epoch is over, or the time is: validate, keep the best, decide whether to go on
            late = _agreed(fabric, diary.seconds > limit)
            if diary.cases and (diary.step % steps == 0 or late):
                _end_epoch(plan, session, diary, run, observer, late, steps)
                save(fabric, run, session, diary)
                last_save = time.monotonic()
                continue

            # --- One step
            started = time.monotonic()
            lr = _set_rates(session, plan, diary.step, steps)
            micro_batches = [batch.to(device) for batch in next(upcoming)]
            torch.manual_seed(_step_seed(config.seed, diary.step, fabric.global_rank))
            with _MemoryAdvice(plan):
                outcome = training_step(
                    session.model,
                    session.optimizer,
                    session.sharpness,
                    micro_batches,
                    session.loss_of,
                    scaler=session.scaler if session.scaler.is_enabled() else None,
                    max_norm=config.clip_norm or None,
                    no_sync=lambda: fabric.no_backward_sync(session.model),
                )
            if session.averaged is not None and not outcome.skipped:
                session.averaged.update_parameters(session.network)
            cases = sum(len(batch.images) for batch in micro_batches)
            # The same in every process, however the step's cases were dealt out.
            weight = cases / sum(batch.share for batch in micro_batches)
            diary.count(float(outcome.loss), weight, cases, outcome.skipped, time.monotonic() - started)
            if diary.skipped_in_row >= config.nonfinite_limit:
                raise _diverged(plan, batches, diary)

            # --- What is told and kept in between
            now = time.monotonic()
            if now - last_look > _SECONDS_BETWEEN_LOOKS or diary.step % steps == 0:
                last_look = now
                observer.progress(_progress(diary, steps, lr, fabric.world_size, device))
            stopping = _agreed(fabric, stop.exit_code is not None)
            due = config.checkpoint_steps is not None and diary.step % config.checkpoint_steps == 0
            if stopping or _agreed(fabric, due or now - last_save > 60 * config.checkpoint_minutes):
                save(fabric, run, session, diary)
                last_save = time.monotonic()
            if stopping:
                raise Interrupted(
                    f"Stopped by {stop.name or 'a signal'} after step {diary.step}; a checkpoint is saved.",
                    f"Go on with: gcsam-med train --resume {run.root}",
                    stop.exit_code or 143,
                )


def _set_rates(session: Session, plan: Plan, step: int, steps_per_epoch: int) -> float:
    """Set learning rate and rho of a step, which depend on nothing but its number."""
    config = plan.config
    lr = float(config.lr or 0) * lr_factor(config, step, steps_per_epoch)
    for group in session.optimizer.param_groups:
        group["lr"] = lr
    if session.sharpness is not None:
        done = step / (config.epochs * steps_per_epoch)
        session.sharpness.rho_factor = rho_factor(config.rho_schedule, done, config.rho_end)
    return lr


def _end_epoch(
    plan: Plan,
    session: Session,
    diary: Diary,
    run: RunFolder,
    observer: Observer,
    late: bool,
    steps_per_epoch: int,
) -> None:
    fabric, config = session.fabric, plan.config
    measured = validate(
        plan,
        session.to_save,
        session.loss,
        session.device,
        session.autocast,
        fabric.global_rank,
        fabric.world_size,
    )
    row: dict[str, float | int] = {
        "epoch": len(diary.history) + 1,
        "train_loss": _mean_over_processes(fabric, diary.train_loss),
        **measured,
        "lr": session.optimizer.param_groups[0]["lr"],
        "seconds": diary.epoch_seconds,
        "images_per_second": diary.images_per_second * fabric.world_size,
        "skipped_steps": diary.skipped,
    }
    better = diary.end_epoch(row, plan.metric)
    if fabric.is_global_zero:
        keep(plan, session, diary, run, better)
    since = len(diary.history) - diary.best_epoch
    left = config.patience - since if config.patience else None
    observer.epoch_end(EpochEnd(row, plan.metric, diary.best, diary.best_epoch, left))
    if diary.step >= config.epochs * steps_per_epoch:
        diary.reason = "epochs"
    elif late:
        diary.reason = "max_minutes"
    elif left is not None and left <= 0:
        diary.reason = "patience"


def _progress(diary: Diary, steps: int, lr: float, world: int, device: torch.device) -> Progress:
    return Progress(
        epoch=len(diary.history) + 1,
        place=(diary.step - 1) % steps + 1,
        steps=steps,
        loss=diary.train_loss,
        lr=lr,
        images_per_second=diary.images_per_second * world,
        memory_mib=peak_memory_mib(device),
    )


@contextmanager
def _worker_advice() -> Iterator[None]:
    """Turns the end of a loader worker into advice.

    PyTorch learns of it by a signal and raises wherever the main thread happens to be.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader" not in str(error):
            raise
        raise EnvironmentFault(
            "A loader worker died.",
            "Most often memory or shared memory ran out: use fewer --workers (0 works everywhere), or give a "
            "container more with --shm-size; then --resume.",
        ) from error


class _MemoryAdvice:
    """Turns running out of memory into advice with the numbers."""

    def __init__(self, plan: Plan) -> None:
        self.config = plan.config

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        # torch's allocator for the CPU has no class of its own for it.
        on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
        if not (on_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)):
            return
        size, parts = self.config.batch_size, self.config.accumulate
        advice = (
            f"The same step in less memory: --batch-size {max(1, size // 2)} --accumulate {parts * 2}."
            if size > 1
            else "Prepare the data set with a smaller --size, or choose a smaller --model."
        )
        raise EnvironmentFault(
            f"Out of memory with batch size {size} and {self.config.model}; saved checkpoints are unharmed.",
            advice,
        ) from error


def _diverged(plan: Plan, batches: Batches, diary: Diary) -> InputError:
    rows = batches.rows(diary.step - 1)
    cases = ", ".join(plan.dataset.manifest["case_id"].iloc[rows].head(8))
    return InputError(
        f"The gradient was infinite or NaN in {diary.skipped_in_row} steps in a row, up to step {diary.step} "
        f"(its cases: {cases}{', ...' if len(rows) > 8 else ''}).",
        "Weights are as before those steps. Try a lower --lr, a lower --rho, or --precision fp32.",
    )


def _step_seed(seed: int, step: int, rank: int) -> int:
    import numpy as np

    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)


def _agreed(fabric: Any, wish: bool) -> bool:
    """Whether any process wishes it; all must do the same, or the others would wait for ever."""
    if fabric.world_size == 1:
        return wish
    return bool(fabric.all_reduce(torch.tensor(float(wish), device=fabric.device), reduce_op="max"))


def _mean_over_processes(fabric: Any, value: float) -> float:
    if fabric.world_size == 1:
        return value
    return float(fabric.all_reduce(torch.tensor(value, device=fabric.device), reduce_op="mean"))
