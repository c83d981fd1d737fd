"""How far a run is and how it went, and what is written of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from gcsam_med import __version__
from gcsam_med.runs import ModelCard, RunFolder, save_model
from gcsam_med.training.checkpoint import save_checkpoint
from gcsam_med.training.distributed import gathered
from gcsam_med.training.history import draw_curves, write_history

if TYPE_CHECKING:
    from gcsam_med.training.build import Session
    from gcsam_med.training.plan import Plan


@dataclass
class Diary:
    """The part of a checkpoint that is plain numbers."""

    step: int = 0  #: Steps done.
    history: list[dict[str, float | int]] = field(default_factory=list)  #: Rows of ``history.csv``.
    #: best, best_epoch: Best validation metric and its epoch (0: none yet).
    best: float = float("-inf")
    best_epoch: int = 0
    #: loss_sum, weight: Losses of the steps of the epoch under way, each times its cases, and the sum of
    #: those.
    loss_sum: float = 0.0
    weight: float = 0.0
    cases: int = 0  #: Cases that this process saw in it.
    #: epoch_seconds, seconds: Time spent in steps, in the epoch under way and in all.
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

    def count(self, loss: float, weight: float, cases: int, skipped: bool, seconds: float) -> None:
        """Enter a step."""
        self.step += 1
        self.cases += cases
        self.epoch_seconds += seconds
        self.seconds += seconds
        if skipped:
            self.skipped += 1
            self.skipped_in_row += 1
        else:
            self.skipped_in_row = 0
            self.loss_sum += loss * weight
            self.weight += weight

    def end_epoch(self, row: dict[str, float | int], metric: str) -> bool:
        """Enter an epoch's row; True if it is the best so far."""
        self.history.append(row)
        self.loss_sum, self.weight, self.cases, self.epoch_seconds = 0.0, 0.0, 0, 0.0
        value = float(row[f"val_{metric}"])
        if value > self.best:
            self.best, self.best_epoch = value, len(self.history)
            return True
        return False


def own_share(shares: Sequence[Sequence[float]], rank: int, world: int) -> tuple[float, float, int]:
    """What a process goes on with of the epoch under way.

    Parameters
    ----------
    shares : sequence of (loss_sum, weight, cases)
        Those of each process when the checkpoint was written.
    rank, world : int
        This process and how many there are now.

    Returns
    -------
    loss_sum, weight, cases : float, float, int
        Its own, to the last bit, if there are as many processes as then; else an even part of all.
    """
    if len(shares) == world:
        loss_sum, weight, cases = shares[rank]
        return float(loss_sum), float(weight), int(cases)
    loss_sum, weight, cases = (sum(float(share[i]) for share in shares) / world for i in range(3))
    return loss_sum, weight, math.ceil(cases)


def keep(plan: Plan, session: Session, diary: Diary, run: RunFolder, better: bool) -> None:
    """Write history and curves, and the model if it is the best so far."""
    if better:
        save_model(run.model, session.to_save, _card(plan, diary))
    write_history(run.history_file, diary.history)
    draw_curves(run.curves_file, diary.history, plan.metric)


def save(fabric: Any, run: RunFolder, session: Session, diary: Diary) -> None:
    """Write a checkpoint from the first process; the others wait for it."""
    shares = gathered([diary.loss_sum, diary.weight, diary.cases], fabric.world_size)
    if fabric.is_global_zero:
        state = {"session": session.state_dict(), "diary": asdict(diary), "shares": shares}
        save_checkpoint(run.checkpoints, diary.step, state)
    fabric.barrier()


def _card(plan: Plan, diary: Diary) -> ModelCard:
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
        epoch=len(diary.history),
        tool_version=__version__,
    )
