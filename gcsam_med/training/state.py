"""The training state: how far a run is and how it went; history.csv, its curves and the saved model."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcsam_med import __version__
from gcsam_med.files import write_durably
from gcsam_med.reporting.style import look, to_png
from gcsam_med.runs import ModelCard, RunFolder, save_model
from gcsam_med.runs.folder import settings_sha256
from gcsam_med.training.checkpoint import save_checkpoint
from gcsam_med.training.process import gathered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gcsam_med.training.build import Parts
    from gcsam_med.training.plan import Plan


Row = Mapping[str, float | int]


@dataclass
class TrainingState:
    """The plain numbers of a checkpoint."""

    step: int = 0  #: Steps done.
    history: list[dict[str, float | int]] = field(default_factory=list)  #: Rows of ``history.csv``.
    #: best, best_epoch: Best value of `Plan.metric`, and its epoch (0: none yet).
    best: float = float("-inf")
    best_epoch: int = 0
    #: loss_sum, weight: Losses of the steps of the current epoch, each times its cases, and the
    #: sum of those.
    loss_sum: float = 0.0
    weight: float = 0.0
    cases: int = 0  #: Cases that this process saw in it.
    #: epoch_seconds, seconds: Time spent in steps, in the current epoch and in all.
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    #: skipped, skipped_in_row: Steps skipped because a gradient was not finite, in all and last in a row.
    skipped: int = 0
    skipped_in_row: int = 0
    #: Why the run ended: ``epochs``, ``max_minutes`` or ``patience``; empty while it has not.
    reason: str = ""

    @property
    def train_loss(self) -> float:
        """Mean loss of this epoch's cases so far, without skipped steps."""
        return self.loss_sum / self.weight if self.weight else 0.0

    @property
    def images_per_second(self) -> float:
        """Of this process, in this epoch so far."""
        return self.cases / self.epoch_seconds if self.epoch_seconds else 0.0

    def count(self, cases: int, seconds: float) -> None:
        """Count a step."""
        self.step += 1
        self.cases += cases
        self.epoch_seconds += seconds
        self.seconds += seconds

    def record(self, loss: float, weight: float, skipped: bool) -> None:
        """Record what became of a step, as soon as it is read from the device."""
        if skipped:
            self.skipped += 1
            self.skipped_in_row += 1
        else:
            self.skipped_in_row = 0
            self.loss_sum += loss * weight
            self.weight += weight

    def end_epoch(self, row: dict[str, float | int], metric: str, *, whole: bool = True) -> bool:
        """Add the row of an epoch, or of one that was cut short; True if it is the best so far."""
        self.history.append(row)
        if whole:
            self.loss_sum, self.weight, self.cases, self.epoch_seconds = 0.0, 0.0, 0, 0.0
        value = float(row[f"val_{metric}"])
        if not self.best_epoch or is_better(metric, value, self.best):
            self.best, self.best_epoch = value, len(self.history)
            return True
        return False

    def reopen(self, steps_per_epoch: int, epochs: int) -> None:
        """Go on after an end; an epoch that was cut short loses its row, and gets it when it is whole.

        Where the time was up with the very last step, nothing is left to do: the run ends by its epochs.
        """
        if self.step >= epochs * steps_per_epoch:
            self.reason = "epochs"
            return
        if self.reason == "max_minutes" and self.step % steps_per_epoch:
            self.history.pop()
        self.reason = ""


def is_better(metric: str, value: float, best: float) -> bool:
    """Whether a value of a validation metric is better than another: of a loss the lower one."""
    return value < best or math.isnan(best) if metric == "loss" else value > best


def own_share(shares: Sequence[Sequence[float]], rank: int, world: int) -> tuple[float, float, int]:
    """What a process goes on with of the current epoch: its loss_sum, weight and cases.

    `shares` are those of each process when the checkpoint was written. With as many processes as then each
    gets its own, to the last bit, else an even part of all.
    """
    if len(shares) == world:
        loss_sum, weight, cases = shares[rank]
        return float(loss_sum), float(weight), int(cases)
    loss_sum, weight, cases = (sum(float(share[i]) for share in shares) / world for i in range(3))
    return loss_sum, weight, math.ceil(cases)


def save_epoch(plan: Plan, parts: Parts, state: TrainingState, run: RunFolder, better: bool) -> None:
    """Write the history, and the model if it is the best so far."""
    if better:
        save_model(run.model, parts.to_save, _card(plan, state))
    write_history(run.history_file, state.history)


def save(fabric: Any, run: RunFolder, parts: Parts, state: TrainingState) -> None:
    """Write a checkpoint from the first process; the others wait for it."""
    shares = gathered([state.loss_sum, state.weight, state.cases], fabric.world_size)
    if fabric.is_global_zero:
        content = {"parts": parts.state_dict(), "state": asdict(state), "shares": shares}
        save_checkpoint(run.checkpoints, state.step, content)
    fabric.barrier()


def _card(plan: Plan, state: TrainingState) -> ModelCard:
    config, info = plan.config, plan.dataset.info
    return ModelCard(
        task=plan.task,
        model=str(config.model),
        dropout=config.dropout,
        classes=list(plan.classes),
        modality=info.modality,
        in_channels=plan.preprocessing.channels,  # type: ignore[arg-type]
        size=plan.preprocessing.size,
        mean=list(plan.preprocessing.mean),
        std=list(plan.preprocessing.std),
        dataset=info.name,
        dataset_sha256=info.content_sha256,
        synthetic=info.synthetic,
        optimizer=config.optimizer,
        settings_sha256=settings_sha256(config),
        epoch=len(state.history),
        tool_version=__version__,
    )


def write_history(path: Path, rows: Sequence[Row]) -> None:
    """Write one row for each epoch; the file is whole at any time."""
    if not rows:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        )
    write_durably(path, text.getvalue().encode())


def draw_curves(path: Path, rows: Sequence[Row], metric: str) -> None:
    """Draw the losses and the validation metric of a history (at least one row) as a PNG."""
    with look():
        write_durably(path, to_png(_curves(rows, metric), dpi=120))


def _curves(rows: Sequence[Row], metric: str) -> Figure:
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in rows]
    values = [row[f"val_{metric}"] for row in rows]
    figure = Figure(figsize=(9, 3.4))
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.15, top=0.96, wspace=0.22)
    left.plot(epochs, [row["train_loss"] for row in rows], color="#0072B2", label="training")
    left.plot(epochs, [row["val_loss"] for row in rows], color="#D55E00", label="validation")
    left.set(xlabel="epoch", ylabel="loss")
    left.legend()
    right.plot(epochs, values, color="#D55E00")
    best = (min if metric == "loss" else max)(range(len(values)), key=values.__getitem__)
    right.plot(epochs[best], values[best], "o", color="#D55E00")
    right.annotate(
        f"best {values[best]:.3f}", (epochs[best], values[best]), xytext=(4, -12), textcoords="offset points"
    )
    right.set(xlabel="epoch", ylabel=f"validation {metric}")
    return figure
