"""log.txt, TensorBoard and MLflow: observers that write down what a run tells."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from gcsam_med.errors import MissingExtra
from gcsam_med.training.callbacks import EpochEnd, Observer, Progress, Silent, Start

if TYPE_CHECKING:
    from gcsam_med.config import RunConfig
    from gcsam_med.runs import RunFolder


def observers_for(config: RunConfig, run: RunFolder) -> list[Observer]:
    """Make the observers that a configuration asks for; log.txt always.

    Raises
    ------
    MissingExtra
        If TensorBoard or MLflow is asked for and not installed.
    """
    found: list[Observer] = [TextLog(run.log_file)]
    if config.tensorboard:
        found.append(TensorBoardLog(run.root / "tensorboard"))
    if config.mlflow:
        found.append(MlflowLog(config, run.root.name))
    return found


class TextLog(Silent):
    """Appends a line with the time for every epoch and note."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, event: Start) -> None:
        """Write what will be done."""
        config = event.plan.config
        self._write(
            f"start at step {event.first_step}: {config.task}, {config.model} ({event.initial}), "
            f"{config.optimizer}, {len(event.plan.train_rows)} training and {len(event.plan.val_rows)} "
            f"validation cases, {event.device}"
        )
        for warning in event.plan.warnings:
            self._write(f"warning: {warning}")

    def epoch_end(self, event: EpochEnd) -> None:
        """Write the epoch's figures."""
        self._write(" ".join(f"{k}={v:.6g}" for k, v in event.row.items()) + f" best={event.best:.6g}")

    def note(self, text: str) -> None:
        """Write the note."""
        self._write(f"note: {text}")

    def _write(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n")


class TensorBoardLog(Silent):
    """Scalars by epoch for TensorBoard."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("Logging to TensorBoard", "tracking") from error
        self.writer = SummaryWriter(str(folder))

    def progress(self, event: Progress) -> None:
        """Ignore single steps."""

    def epoch_end(self, event: EpochEnd) -> None:
        """Write the epoch's figures."""
        for name, value in event.row.items():
            self.writer.add_scalar(name, value, event.row["epoch"])
        self.writer.flush()


class MlflowLog(Silent):
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
        """Log the epoch's figures."""
        values = {name: float(value) for name, value in event.row.items()}
        self.mlflow.log_metrics(values, step=int(event.row["epoch"]), run_id=self.run.info.run_id)
