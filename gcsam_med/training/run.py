"""A run from its start, or from its last checkpoint, to its result."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcsam_med.config import RunConfig, dump_config, load_config, with_overrides
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.errors import InputError
from gcsam_med.files import is_leftover, remove_leftovers, write_durably
from gcsam_med.runs import RunFolder, load_model
from gcsam_med.runs.calibration import load_calibration
from gcsam_med.training.batches import Batches
from gcsam_med.training.build import build_session
from gcsam_med.training.calibration import calibrate
from gcsam_med.training.callbacks import Observer, Several, Silent, Start
from gcsam_med.training.checkpoint import Checkpoint, load_checkpoint
from gcsam_med.training.distributed import check_same_step
from gcsam_med.training.environment import environment
from gcsam_med.training.lock import locked
from gcsam_med.training.logs import observers_for
from gcsam_med.training.loop import train_loop
from gcsam_med.training.plan import Plan, make_plan
from gcsam_med.training.resume import (
    MACHINE_FIELDS,
    cases_per_step,
    check_same_data,
    check_settings,
    differences,
    read_facts,
    take_up,
)
from gcsam_med.training.rho_search import find_rho, same_settings
from gcsam_med.training.state import Diary

if TYPE_CHECKING:
    import torch

__all__ = ["MACHINE_FIELDS", "TrainingResult", "resume_training", "start_training"]


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    folder: Path  #: The run folder.
    metric: str  #: The validation metric that chose the best epoch.
    #: best, best_epoch: Its best value, and when.
    best: float
    best_epoch: int
    epochs: int  #: Epochs trained.
    steps: int  #: Steps done, of which `skipped` had a gradient that was not finite.
    skipped: int
    seconds: float  #: Time spent training, without validation.
    images_per_second: float  #: Over all epochs.
    reason: str  #: ``epochs``, ``max_minutes`` or ``patience``.

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "run": str(self.folder),
            "metric": self.metric,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "steps": self.steps,
            "skipped_steps": self.skipped,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "stopped_by": self.reason,
        }


def start_training(
    config: RunConfig, output: Path | None = None, observer: Observer | None = None
) -> TrainingResult:
    """Train from the beginning.

    Parameters
    ----------
    config : RunConfig
        What to do.
    output : Path, optional
        Run folder, which must be new or empty; left open: ``runs/`` and a name made of the settings.
    observer : Observer, optional
        Whom to tell.

    Returns
    -------
    TrainingResult
        How it ended.

    Raises
    ------
    GcsamMedError
        See `gcsam_med.errors`.
    """
    dataset = open_prepared(config.data_root, config.dataset)
    if config.rho == "auto":
        config = _with_found_rho(config, output, observer or Silent())
    plan = make_plan(config, dataset)
    # The first process alone chooses the folder: the others might find it taken already.
    run = RunFolder(_new_folder(plan, output) if int(os.environ.get("RANK", "0")) == 0 else Path())
    return _go(plan, run, None, observer or Silent())


def resume_training(
    folder: Path,
    overrides: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    *,
    extend: bool = False,
    observer: Observer | None = None,
) -> TrainingResult:
    """Go on with a run from its newest whole checkpoint.

    Parameters
    ----------
    folder : Path
        The run folder.
    overrides, sets
        Settings that differ from the run's own; see `gcsam_med.training.resume` for those that may.
    extend : bool
        Allow more epochs and another patience as well. The learning rate follows the new schedule from here.
    observer : Observer, optional
        Whom to tell.

    Returns
    -------
    TrainingResult
        How it ended; at once if the run was complete.

    Raises
    ------
    ConfigError
        If a setting differs that would change what is computed.
    InputError
        If there is nothing to resume, or the data set is another one.
    """
    run = RunFolder(Path(folder))
    if not run.config_file.is_file():
        raise InputError(f"{folder} is not a run: it has no config.yaml.", "Give a folder made by train.")
    former = load_config(run.config_file, {})
    config = with_overrides(former, overrides or {}, sets)
    facts = read_facts(run)
    check_settings(former, config, extend, cases_per_step(facts, former), _processes())
    dataset = open_prepared(config.data_root, config.dataset)
    check_same_data(facts, dataset)
    checkpoint = load_checkpoint(run.checkpoints)
    return _go(make_plan(config, dataset), run, checkpoint, observer or Silent(), facts, extended=extend)


def _with_found_rho(config: RunConfig, output: Path | None, observer: Observer) -> RunConfig:
    if _processes() > 1:
        raise InputError(
            "--rho auto works in one process only.", "Find rho with one process, then give it to all."
        )
    base = output or Path("runs") / f"{config.dataset}-{config.optimizer}-seed{config.seed}"

    def train(short: RunConfig, folder: Path) -> tuple[str, float]:
        run = RunFolder(folder)
        if not run.config_file.is_file():
            result = start_training(short, folder, observer)
        elif same_settings(run, short):
            result = resume_training(folder, observer=observer)
        else:
            raise InputError(
                f"{folder} was made with other settings.", "Remove it, or choose another --output."
            )
        return result.metric, result.best

    search = find_rho(config, base.with_name(f"{base.name}-rho-search"), train)
    listing = ", ".join(f"{rho:g}: {value:.4f}" for rho, value in search.values.items())
    observer.note(f"rho {search.chosen:g} was chosen by validation {search.metric} ({listing})")
    return config.model_copy(update={"rho": search.chosen})


def _go(
    plan: Plan,
    run: RunFolder,
    checkpoint: Checkpoint | None,
    observer: Observer,
    before: dict[str, Any] | None = None,
    *,
    extended: bool = False,
) -> TrainingResult:
    session = build_session(plan)
    first = session.fabric.is_global_zero
    if session.fabric.world_size > 1:
        run = RunFolder(Path(session.fabric.broadcast(str(run.root))))
    diary = Diary()
    with locked(run.root) if first else nullcontext():
        if first:
            for folder in (run.root, run.checkpoints, run.model):
                remove_leftovers(folder)
            # The configuration last: a folder that has one is a run, and can be resumed from then on.
            facts = environment(plan.config, plan.dataset, session.device, session.fabric.world_size)
            write_durably(run.environment_file, (json.dumps(facts, indent=2) + "\n").encode())
            write_durably(run.config_file, dump_config(plan.config).encode())
            observer = Several(*observers_for(plan.config, run), observer)
        else:
            observer = Silent()
        if checkpoint is not None:
            diary = take_up(session, checkpoint)
            check_same_step(session.fabric, diary.step)
            for text in checkpoint.skipped:
                observer.note(f"{text}; going on from the checkpoint of step {checkpoint.step} instead")
            if extended:
                diary.reason = ""
        if first and not diary.reason:
            run.result_file.unlink(missing_ok=True)  # of a finished run that goes on: unfinished from here
        if first and before is not None:
            for text in differences(before, facts):
                observer.note(text)
        observer.start(
            Start(
                plan=plan,
                folder=run.root,
                device=str(session.device),
                parameters=sum(p.numel() for p in session.network.parameters() if p.requires_grad),
                steps_per_epoch=Batches(plan, 0, session.fabric.world_size).steps_per_epoch,
                first_step=diary.step,
                initial=session.initial,
            )
        )
        train_loop(plan, session, diary, run, observer)
        if diary.skipped:
            observer.note(f"{diary.skipped} of {diary.step} steps were skipped: a gradient was not finite")
        result = _result(plan, diary, run)
        if first:
            _finish(plan, run, result, session.device)
    return result


def _finish(plan: Plan, run: RunFolder, result: TrainingResult, device: torch.device) -> None:
    """Calibrate the model that was kept, then write the result: a run that has one is whole."""
    model = load_model(run.model, device)
    if not run.finished or load_calibration(run.model, model.card.weights_sha256) is None:
        calibrate(run, model, plan.config, plan.dataset)
    write_durably(run.result_file, (json.dumps(result.to_json(), indent=2) + "\n").encode())


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _result(plan: Plan, diary: Diary, run: RunFolder) -> TrainingResult:
    cases = sum(float(row["seconds"]) * float(row["images_per_second"]) for row in diary.history)
    return TrainingResult(
        folder=run.root,
        metric=plan.metric,
        best=diary.best,
        best_epoch=diary.best_epoch,
        epochs=len(diary.history),
        steps=diary.step,
        skipped=diary.skipped,
        seconds=diary.seconds,
        images_per_second=cases / diary.seconds if diary.seconds else 0.0,
        reason=diary.reason,
    )


def _new_folder(plan: Plan, output: Path | None) -> Path:
    """A folder that holds no run yet; an unfinished one of the same settings is offered for resuming."""
    config = plan.config
    fold = "" if config.fold is None else f"-fold{config.fold}"
    name = f"{config.dataset}-{config.model}-{config.optimizer}-seed{config.seed}{fold}"
    wanted = output or Path("runs") / name
    for number in range(1, 10_000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        run = RunFolder(folder)
        if not run.config_file.is_file():
            if folder.is_dir() and not all(_before_a_run(p, run) for p in folder.iterdir()):
                raise InputError(f"{folder} is not empty and not a run.", "Choose another --output.")
            return folder
        if not run.result_file.is_file():
            raise InputError(
                f"{folder} holds an unfinished run.",
                f"Go on with: gcsam-med train --resume {folder} - or choose another --output.",
            )
        if output is not None:
            raise InputError(
                f"{folder} holds a finished run, which is not overwritten.",
                f"Choose another --output, or train on with --resume {folder} --extend --epochs N.",
            )
    raise InputError(f"There are 9,999 runs named {name}.", "Choose an --output.")


def _before_a_run(path: Path, run: RunFolder) -> bool:
    """Whether a run that was killed before it had begun leaves this file."""
    return path.name == ".lock" or path == run.environment_file or is_leftover(path)
