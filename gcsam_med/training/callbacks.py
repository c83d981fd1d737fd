"""What a run tells while it goes, and to whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gcsam_med.training.plan import Plan


@dataclass(frozen=True)
class Start:
    """A run begins or goes on."""

    plan: Plan  #: What it will do.
    folder: Path  #: Where.
    device: str  #: On what.
    parameters: int  #: Weights that train.
    steps_per_epoch: int  #: Steps of an epoch.
    first_step: int  #: 0, or where a resume goes on.
    initial: str  #: Where the first weights come from, e.g. ``"random"``.


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


class Observer(Protocol):
    """Hears of a run; the command line draws, tests record, tracking logs."""

    def start(self, event: Start) -> None:
        """Hear that the run begins."""

    def progress(self, event: Progress) -> None:
        """Hear that a step is done (a few times a second at the most)."""

    def epoch_end(self, event: EpochEnd) -> None:
        """Hear that an epoch is validated."""

    def note(self, text: str) -> None:
        """Hear one sentence about something out of the ordinary."""


class Silent:
    """An observer that does nothing."""

    def start(self, event: Start) -> None:
        """Do nothing."""

    def progress(self, event: Progress) -> None:
        """Do nothing."""

    def epoch_end(self, event: EpochEnd) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


class Several:
    """Passes what it hears on to several observers, in order."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def start(self, event: Start) -> None:
        """Pass on."""
        for observer in self.observers:
            observer.start(event)

    def progress(self, event: Progress) -> None:
        """Pass on."""
        for observer in self.observers:
            observer.progress(event)

    def epoch_end(self, event: EpochEnd) -> None:
        """Pass on."""
        for observer in self.observers:
            observer.epoch_end(event)

    def note(self, text: str) -> None:
        """Pass on."""
        for observer in self.observers:
            observer.note(text)
