"""The live view of a training run: bars and a table of epochs on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
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
# From so many steps on, their mean tells how long a run takes.
_STEPS_TO_JUDGE = 3
_BARS = "▁▂▃▄▅▆▇█"


class StudyView:
    """How far a study is whose runs are made one after another; gives each run its view.

    Parameters
    ----------
    costs : list of float
        What each run costs, in any unit.
    """

    def __init__(self, costs: list[float]) -> None:
        self.costs, self.number, self.since = costs, 0, time.monotonic()

    def next_run(self) -> LiveView:
        """View of the next run."""
        if self.number and not console.voice.err.is_terminal:
            console.say(self.left(0.0, self.number))
        self.number += 1
        return LiveView(self)

    def done(self, share: float, number: int) -> float:
        """Cost of the runs before run `number` (from 0) and of its own part that is done."""
        return sum(self.costs[:number]) + share * sum(self.costs[number : number + 1])

    def left(self, share: float, number: int) -> str:
        """Say how long the rest takes at most, at the pace so far."""
        done = self.done(share, number)
        left = (time.monotonic() - self.since) * (sum(self.costs) - done) / done if done else 0.0
        return f"about {console.duration(left)} left for all runs" if left else ""


class LiveView(Callback):
    """Draws a run while it trains, and how far the study is that it belongs to."""

    def __init__(self, study: StudyView | None = None) -> None:
        self.study = study
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
        self.task_runs: TaskID | None = None
        self.begin: Start | None = None
        self.since = 0.0  #: When it began here.
        self.judged = False  #: Whether a slow machine was looked for.

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
        self.begin, self.since, self.judged = event, time.monotonic(), False
        self.epochs.clear()
        if console.voice.quiet or not console.voice.err.is_terminal:
            return
        config = event.plan.config
        done = event.first_step // event.steps_per_epoch
        if self.study is not None:
            name = f"run {self.study.number} of {len(self.study.costs)}"
            self.task_runs = self.bars.add_task(name, total=sum(self.study.costs), facts="")
        self.task_epochs = self.bars.add_task("epochs", total=config.epochs, completed=done, facts="")
        self.task_steps = self.bars.add_task("steps", total=event.steps_per_epoch, facts="")
        self.live = Live(self._drawing(), console=console.voice.err, refresh_per_second=4)
        self.live.start()

    def progress(self, event: StepDone) -> None:
        """Move the bars; early in a run, say if it will take long."""
        if not self.judged and event.place >= _STEPS_TO_JUDGE and self.begin is not None:
            self.judged = True
            _warn_if_slow(self.begin, event)
        if self.live is None or self.task_steps is None or self.task_epochs is None:
            return
        facts = (
            f"{event.images_per_second:.1f} images/s  loss {event.loss:.4f}  lr {event.lr:.2e}  "
            f"{event.memory_mib:,.0f} MiB"
        )
        self.bars.update(self.task_steps, completed=event.place, total=event.steps, facts=facts)
        epochs = event.epoch - 1 + event.place / event.steps
        self.bars.update(self.task_epochs, completed=epochs)
        if self.study is not None and self.task_runs is not None and self.begin is not None:
            at = epochs / self.begin.plan.config.epochs, self.study.number - 1
            self.bars.update(self.task_runs, completed=self.study.done(*at), facts=self.study.left(*at))

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
        left += f"  {self._time_left(event)}"
        console.say(
            f"epoch {row['epoch']:>3}  train loss {row['train_loss']:.4f}  val loss {row['val_loss']:.4f}  "
            f"val {metric} {value:.4f}{mark}  lr {row['lr']:.2e}  {row['images_per_second']:.1f} images/s"
            f"{left}"
        )

    def note(self, text: str) -> None:
        """Say something out of the ordinary."""
        console.warn(text)

    def _time_left(self, event: EpochEnd) -> str:
        """How long the rest takes at most, at the pace so far."""
        if self.begin is None:
            return ""
        config, here = self.begin.plan.config, time.monotonic() - self.since
        done = event.row["epoch"] - self.begin.first_step / self.begin.steps_per_epoch
        if done <= 0:  # resumed between an epoch's last step and its validation
            return ""
        left = here / done * (config.epochs - event.row["epoch"])
        if config.max_minutes is not None:
            left = min(left, max(0.0, 60 * config.max_minutes - here))
        return f"{console.duration(left)} left" if left else ""

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
        curve = sparkline([float(event.row[f"val_{metric}"]) for event in self.epochs])
        summary = f"{curve}  best {metric} {last.best:.4f} in epoch {last.best_epoch}{left}"
        return Group(table, console.plain(summary), self.bars)


def sparkline(values: list[float], width: int = 40) -> str:
    """Draw numbers as a line of bars between their lowest and highest; of many, the last `width`."""
    shown = values[-width:]
    if not console.voice.err.encoding.lower().startswith("utf"):
        return ""
    low, high = min(shown), max(shown)
    steps = [(value - low) / (high - low) if high > low else 0.0 for value in shown]
    return "".join(_BARS[round(step * (len(_BARS) - 1))] for step in steps)


def _warn_if_slow(begin: Start, event: StepDone) -> None:
    """Say what would take less time, if a run without a GPU will take more than an hour."""
    from gcsam_med.training.cost import AN_HOUR, SMALL, dice_ceiling

    plan, config = begin.plan, begin.plan.config
    seconds = config.epochs * len(plan.train_rows) / max(event.images_per_second, 1e-9)
    if config.max_minutes is not None:
        seconds = min(seconds, 60 * config.max_minutes)
    if begin.device != "cpu" or begin.first_step or seconds < AN_HOUR:
        return
    ways = []
    half = plan.dataset.info.size // 2
    if half >= SMALL:
        # Measured from 256 to 128 on two cores: 3.6 times for the U-Net, 3.3 times for ResNet-18.
        ceiling = dice_ceiling(plan.dataset, half) if plan.task == "segmentation" else None
        bound = "" if ceiling is None else f" (a perfect answer there scores Dice {ceiling:.3f})"
        ways.append(f"prepare --size {half} makes it 3 to 4 times as fast{bound}")
    ways.append(f"--epochs {max(1, int(config.epochs * AN_HOUR / seconds))} fits in an hour")
    console.warn(f"No GPU: this takes about {console.duration(seconds)} at most. {'; '.join(ways)}.")


def _say_plan(event: Start) -> None:
    plan, config = event.plan, event.plan.config
    facts = [
        f"{config.task} on {plan.dataset.info.name}: {len(plan.train_rows)} training and "
        f"{len(plan.val_rows)} validation cases, {plan.dataset.info.size}x{plan.dataset.info.size}",
        f"{config.model} ({event.parameters / 1e6:.1f} M weights, {event.initial}) with {config.optimizer}, "
        f"lr {config.lr:g}"
        + (f", rho {config.rho}" if config.optimizer not in {"adam", "adamw", "sgd", "gc"} else "")
        + f", batch {config.batch_size}, {config.loss} loss, {config.precision} on {event.device}"
        + (f", {event.execution}" if event.execution else ""),
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
