"""Callbacks: what is told while a run trains, and log.txt, TensorBoard and MLflow, which record it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gcsam_med.errors import InputError, MissingExtra
from gcsam_med.files import NOT_PLAIN, append_line

if TYPE_CHECKING:
    from gcsam_med.config import RunConfig
    from gcsam_med.runs import RunFolder
    from gcsam_med.training.plan import Plan


@dataclass(frozen=True)
class Start:
    """A run begins, or is resumed."""

    plan: Plan  #: What it will do.
    folder: Path  #: Where.
    device: str  #: On what.
    parameters: int  #: Weights that train.
    steps_per_epoch: int  #: Steps of an epoch.
    first_step: int  #: 0, or the step at which it is resumed.
    initial: str  #: Where the first weights come from, e.g. ``"random"``.
    execution: str = ""  #: How it uses a GPU, in a few words; empty on other devices.


@dataclass(frozen=True)
class Progress:
    """A step is done."""

    #: epoch, place, steps: Epoch from 1, step of the epoch from 1, steps of the epoch.
    epoch: int
    place: int
    steps: int
    loss: float  #: Mean training loss of this epoch so far.
    lr: float  #: Learning rate of the step.
    images_per_second: float  #: Of this epoch so far.
    memory_mib: float  #: Peak memory so far.


@dataclass(frozen=True)
class EpochEnd:
    """An epoch is validated."""

    row: dict[str, float | int]  #: Its row of ``history.csv``.
    metric: str  #: Name of the metric that chooses the best epoch.
    best: float  #: Best value so far.
    best_epoch: int  #: Its epoch.
    patience_left: int | None  #: Epochs without a better value until the run stops; None if it never does.


class Callback:
    """Is called while a run trains; this one does nothing. The command line draws, logs write."""

    def start(self, event: Start) -> None:
        """Run when training begins."""

    def progress(self, event: Progress) -> None:
        """Run after a step (a few times a second at the most)."""

    def epoch_end(self, event: EpochEnd) -> None:
        """Run when an epoch is validated."""

    def note(self, text: str) -> None:
        """Take one sentence about something out of the ordinary."""


class CallbackList(Callback):
    """Calls several callbacks, in order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = callbacks

    def start(self, event: Start) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.start(event)

    def progress(self, event: Progress) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.progress(event)

    def epoch_end(self, event: EpochEnd) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.epoch_end(event)

    def note(self, text: str) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.note(text)


def log_callbacks(config: RunConfig, run: RunFolder) -> list[Callback]:
    """Make the callbacks that write logs: log.txt always, trackers where the configuration names them.

    Raises
    ------
    MissingExtra
        If TensorBoard or MLflow is asked for and not installed.
    """
    chosen: list[Callback] = [TextLog(run.log_file)]
    if config.tensorboard:
        chosen.append(TensorBoardLog(run.root / "tensorboard"))
    if config.mlflow:
        chosen.append(MlflowLog(config, run.root.name))
    return chosen


class TextLog(Callback):
    """Appends a line with the time for every epoch and note."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, event: Start) -> None:
        """Write what will be trained."""
        config = event.plan.config
        self._write(
            f"start at step {event.first_step}: {config.task}, {config.model} ({event.initial}), "
            f"{config.optimizer}, {len(event.plan.train_rows)} training and {len(event.plan.val_rows)} "
            f"validation cases, {event.device}" + (f", {event.execution}" if event.execution else "")
        )
        for warning in event.plan.warnings:
            self._write(f"warning: {warning}")

    def epoch_end(self, event: EpochEnd) -> None:
        """Write the epoch's metrics."""
        self._write(" ".join(f"{k}={v:.6g}" for k, v in event.row.items()) + f" best={event.best:.6g}")

    def note(self, text: str) -> None:
        """Write the note."""
        self._write(f"note: {text}")

    def _write(self, text: str) -> None:
        try:
            append_line(self.path, f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}")
        except OSError as error:
            if error.errno not in NOT_PLAIN:
                raise
            raise InputError(
                f"{self.path} is a link or no file; nothing was written through it.",
                "Move it away, and go on with: train --resume RUN",
            ) from None


class TensorBoardLog(Callback):
    """Scalars by epoch for TensorBoard."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("Logging to TensorBoard", "tracking") from error
        self.writer = SummaryWriter(str(folder))

    def epoch_end(self, event: EpochEnd) -> None:
        """Write the epoch's metrics."""
        for name, value in event.row.items():
            self.writer.add_scalar(name, value, event.row["epoch"])
        self.writer.flush()


class MlflowLog(Callback):
    """Settings once and metrics by epoch, to wherever MLFLOW_TRACKING_URI points."""

    def __init__(self, config: RunConfig, name: str) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtra("Logging to MLflow", "tracking") from error
        self.mlflow = mlflow
        self.run = mlflow.start_run(run_name=name)
        # Paths may hold a person's name.
        mlflow.log_params(config.model_dump(mode="json", exclude={"data_root", "weights"}))

    def epoch_end(self, event: EpochEnd) -> None:
        """Log the epoch's metrics."""
        values = {name: float(value) for name, value in event.row.items()}
        self.mlflow.log_metrics(values, step=int(event.row["epoch"]), run_id=self.run.info.run_id)
