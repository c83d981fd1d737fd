"""The live view of a training run: bars and a table of epochs on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gcsam_med.cli import console
from gcsam_med.training.callbacks import Callback, EpochEnd, Start
from gcsam_med.training.callbacks import Progress as StepDone

if TYPE_CHECKING:
    from rich.progress import TaskID


_SHOWN_EPOCHS = 8


class LiveView(Callback):
    """Draws a run while it trains."""

    def __init__(self) -> None:
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            console=console.voice.err,
        )
        self.epochs: list[EpochEnd] = []
        self.live: Live | None = None
        self.task_epochs: TaskID | None = None
        self.task_steps: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def start(self, event: Start) -> None:
        """Say what will be done."""
        _say_plan(event)
        if console.voice.quiet or not console.voice.err.is_terminal:
            return
        config = event.plan.config
        done = event.first_step // event.steps_per_epoch
        self.task_epochs = self.bars.add_task("epochs", total=config.epochs, completed=done, facts="")
        self.task_steps = self.bars.add_task("steps", total=event.steps_per_epoch, facts="")
        self.live = Live(self._drawing(), console=console.voice.err, refresh_per_second=4)
        self.live.start()

    def progress(self, event: StepDone) -> None:
        """Move the bars."""
        if self.live is None or self.task_steps is None or self.task_epochs is None:
            return
        facts = (
            f"{event.images_per_second:.1f} images/s  loss {event.loss:.4f}  lr {event.lr:.2e}  "
            f"{event.memory_mib:,.0f} MiB"
        )
        self.bars.update(self.task_steps, completed=event.place, total=event.steps, facts=facts)
        self.bars.update(self.task_epochs, completed=event.epoch - 1 + event.place / event.steps)

    def epoch_end(self, event: EpochEnd) -> None:
        """Show the epoch's row."""
        self.epochs.append(event)
        if self.live is not None:
            self.live.update(self._drawing())
            return
        row, metric = event.row, event.metric
        value = row[f"val_{metric}"]
        mark = " *" if row["epoch"] == event.best_epoch else f" (best {event.best:.4f})"
        left = "" if event.patience_left is None else f"  patience {event.patience_left}"
        console.say(
            f"epoch {row['epoch']:>3}  train loss {row['train_loss']:.4f}  val loss {row['val_loss']:.4f}  "
            f"val {metric} {value:.4f}{mark}  lr {row['lr']:.2e}  {row['images_per_second']:.1f} images/s"
            f"{left}"
        )

    def note(self, text: str) -> None:
        """Say something out of the ordinary."""
        console.warn(text)

    def _drawing(self) -> Group:
        if not self.epochs:
            return Group(self.bars)
        metric, last = self.epochs[-1].metric, self.epochs[-1]
        table = Table(box=None, pad_edge=False)
        for name in ("epoch", "train loss", "val loss", f"val {metric}", "lr", "images/s"):
            table.add_column(name, justify="right")
        for event in self.epochs[-_SHOWN_EPOCHS:]:
            row = event.row
            style = "bold green" if row["epoch"] == last.best_epoch else ""
            table.add_row(
                str(row["epoch"]),
                f"{row['train_loss']:.4f}",
                f"{row['val_loss']:.4f}",
                f"{row[f'val_{metric}']:.4f}",
                f"{row['lr']:.2e}",
                f"{row['images_per_second']:.1f}",
                style=style,
            )
        left = "" if last.patience_left is None else f", patience left {last.patience_left}"
        summary = f"best {metric} {last.best:.4f} in epoch {last.best_epoch}{left}"
        return Group(table, console.plain(summary), self.bars)


def _say_plan(event: Start) -> None:
    plan, config = event.plan, event.plan.config
    facts = [
        f"{config.task} on {plan.dataset.info.name}: {len(plan.train_rows)} training and "
        f"{len(plan.val_rows)} validation cases, {plan.dataset.info.size}x{plan.dataset.info.size}",
        f"{config.model} ({event.parameters / 1e6:.1f} M weights, {event.initial}) with {config.optimizer}, "
        f"lr {config.lr:g}"
        + (f", rho {config.rho}" if config.optimizer not in {"adam", "adamw", "sgd"} else "")
        + f", batch {config.batch_size}, {config.loss} loss, {config.precision} on {event.device}",
    ]
    if config.task == "classification":
        counts = ", ".join(f"{name} {n}" for name, n in zip(plan.classes, plan.class_counts(), strict=True))
        weights = "weighted by inverse frequency in the loss" if config.class_weights else "not weighted"
        facts.append(f"training cases by class: {counts}; {weights}")
    if event.first_step:
        epoch, place = divmod(event.first_step, event.steps_per_epoch)
        facts.append(f"resumed in epoch {epoch + 1} after step {place} of {event.steps_per_epoch}")
    facts.append(f"run folder: {event.folder}")
    for fact in facts:
        console.say(fact)
    for warning in plan.warnings:
        console.warn(warning)
