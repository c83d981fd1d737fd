"""Train a run from its start, or from its last checkpoint, to its result."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gcsam_med.config import PathLike, RunConfig, dump_config, load_config, with_overrides
from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.devices import pick_device, pick_precision
from gcsam_med.errors import CheckpointError, ConfigError, EnvironmentFault, InputError, out_of_memory
from gcsam_med.files import (
    check_place,
    is_leftover,
    locked,
    make_folder,
    remove_leftovers,
    write_durably,
    write_json,
)
from gcsam_med.optim import OPTIMIZERS
from gcsam_med.runs import RunFolder, load_card, load_model
from gcsam_med.runs.calibration import load_calibration
from gcsam_med.runs.folder import changed_settings
from gcsam_med.training.batches import Batches
from gcsam_med.training.build import build_parts
from gcsam_med.training.calibration import calibrate
from gcsam_med.training.callbacks import Callback, CallbackList, Start, log_callbacks
from gcsam_med.training.checkpoint import Checkpoint, load_checkpoint
from gcsam_med.training.loop import train_loop
from gcsam_med.training.plan import Plan, make_plan
from gcsam_med.training.process import check_same_step, process_count
from gcsam_med.training.resume import (
    check_same_data,
    check_settings,
    differences,
    environment,
    read_environment,
    restore,
)
from gcsam_med.training.state import TrainingState
from gcsam_med.training.steps import how_it_runs

__all__ = ["TrainingResult", "resume", "train", "train_folds"]


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


def train(
    dataset: str | RunConfig | None = None,
    output: PathLike | None = None,
    callback: Callback | None = None,
    *,
    config: PathLike | None = None,
    sets: Sequence[str] = (),
    again: bool = False,
    **settings: Any,
) -> TrainingResult:
    """Train a network on a prepared data set.

    Parameters
    ----------
    dataset : str or RunConfig, optional
        Name of a prepared data set, or all settings; may also stand in `config`.
    output : str or path, optional
        Run folder, which must be new or empty. Default: ``runs/`` and a name made of the settings.
    callback : Callback, optional
        Is called while it trains.
    config : str or path, optional
        YAML file of settings.
    sets : sequence of str
        ``key=value`` texts; they beat the file.
    again : bool
        Train although there is a finished run of the same settings and data.
    **settings
        Fields of `RunConfig`, such as ``optimizer="gcsam"`` or ``epochs=20``; they beat all others.

    Returns
    -------
    TrainingResult
        How it ended; ``result.folder`` is the run.

    Raises
    ------
    GcsamMedError
        See `gcsam_med.errors`.
    """
    return _from_start(_settings(dataset, config, sets, settings), output, callback, again=again)


def _settings(
    dataset: str | RunConfig | None, config: PathLike | None, sets: Sequence[str], settings: dict[str, Any]
) -> RunConfig:
    if isinstance(dataset, RunConfig):
        return with_overrides(dataset, settings, sets)
    given = settings | ({} if dataset is None else {"dataset": dataset})
    return load_config(None if config is None else Path(config), given, sets)


def train_folds(
    dataset: str | RunConfig | None = None,
    output: PathLike | None = None,
    callback: Callback | None = None,
    *,
    config: PathLike | None = None,
    sets: Sequence[str] = (),
    **settings: Any,
) -> list[TrainingResult]:
    """Train a run for every test fold, so that each image is tested once by a model that did not see it.

    The run of the test split comes first, then one for each fold of the data set. A finished run is kept, an
    unfinished one is resumed. ``evaluate(run, folds="all")`` pools them.

    Parameters
    ----------
    dataset, callback, config, sets, **settings
        As for `train`.
    output : str or path, optional
        Folder in which the runs lie side by side. Default: ``runs``.

    Returns
    -------
    list of TrainingResult
        One a run.
    """
    wanted = _settings(dataset, config, sets, settings)
    if wanted.rho == "auto" or any(part is not None for part in wanted.folds):
        raise ConfigError(
            "Training all test folds chooses the folds itself, and takes a fixed rho.",
            "Drop --fold, --test-fold and --leave-out; find rho once with --rho auto, then give it.",
        )
    prepared = open_prepared(wanted.data_root, wanted.dataset)
    results = []
    for test_fold in (None, *range(prepared.info.folds)):
        one = wanted.model_copy(update={"test_fold": test_fold})
        folder = Path(output or "runs") / run_name(make_plan(one, prepared).config)
        results.append(_begun_or_resumed(one, folder, callback))
    return results


def _begun_or_resumed(config: RunConfig, folder: Path, callback: Callback | None) -> TrainingResult:
    run = RunFolder(folder)
    if not run.config_file.is_file():
        return _from_start(config, folder, callback, again=False)
    if _same_settings(run, config):
        return resume(folder, callback)
    raise InputError(f"{folder} was made with other settings.", "Move it away, or choose another --output.")


def _from_start(
    config: RunConfig, output: PathLike | None, callback: Callback | None, *, again: bool
) -> TrainingResult:
    output = None if output is None else Path(output)
    dataset = open_prepared(config.data_root, config.dataset)
    if config.rho == "auto":
        config = _with_rho_found(config, output, callback or Callback())
    precision = pick_precision(config.precision, pick_device(config.device))
    plan = make_plan(config.model_copy(update={"precision": precision}), dataset)
    # The first process alone chooses the folder: the others might find it taken already.
    run = RunFolder(
        _new_folder(plan, output, again=again) if int(os.environ.get("RANK", "0")) == 0 else Path()
    )
    with _memory_advice(plan.config):
        return _train(plan, run, None, callback or Callback())


def resume(
    run: PathLike,
    callback: Callback | None = None,
    *,
    extend: bool = False,
    sets: Sequence[str] = (),
    **settings: Any,
) -> TrainingResult:
    """Continue a run from its newest whole checkpoint.

    Parameters
    ----------
    run : str or path
        The run folder.
    callback : Callback, optional
        Is called while it trains.
    extend : bool
        Allow more epochs and another patience as well. The learning rate follows the new schedule from here.
    sets : sequence of str
        ``key=value`` texts of settings that differ from the run's own.
    **settings
        The same, by name; see `gcsam_med.training.resume` for those that may differ.

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
    folder = RunFolder(Path(run))
    if not folder.config_file.is_file():
        raise InputError(f"{run} is not a run: it has no config.yaml.", "Give a folder made by train.")
    try:
        card = load_card(folder.model)
    except CheckpointError:  # there is no model yet, or a damaged one, which training makes anew
        former = folder.config()
    else:
        former = folder.config_of(card)
    config = with_overrides(former, settings, sets)
    made_with = read_environment(folder)
    check_settings(former, config, extend, made_with["cases_per_step"], process_count())
    dataset = open_prepared(config.data_root, config.dataset)
    check_same_data(made_with, dataset)
    checkpoint = load_checkpoint(folder.checkpoints)
    with _memory_advice(config):
        return _train(
            make_plan(config, dataset), folder, checkpoint, callback or Callback(), made_with, extended=extend
        )


def _train(
    plan: Plan,
    run: RunFolder,
    checkpoint: Checkpoint | None,
    callback: Callback,
    before: dict[str, Any] | None = None,
    *,
    extended: bool = False,
) -> TrainingResult:
    parts = build_parts(plan)
    first = parts.fabric.is_global_zero
    if parts.fabric.world_size > 1:
        run = RunFolder(Path(parts.fabric.broadcast(str(run.root))))
    state = TrainingState()
    steps_per_epoch = Batches(plan, 0, parts.fabric.world_size).steps_per_epoch
    with locked(run.lock_file, f"training in {run.root}") if first else nullcontext():
        if first:
            _check_unchanged(run, checkpoint, resumed=before is not None)
            for folder in (run.root, run.checkpoints, run.model):
                remove_leftovers(folder)
            # The configuration last: a folder that has one is a run, and can be resumed from then on.
            facts = environment(plan.config, plan.dataset, parts.device, parts.fabric.world_size)
            write_json(run.environment_file, facts)
            write_durably(run.config_file, dump_config(plan.config).encode())
            make_folder(run.root, run.checkpoints.name)
            make_folder(run.root, run.model.name)
            callback = CallbackList([*log_callbacks(plan.config, run), callback])
        else:
            callback = Callback()
        if checkpoint is not None:
            state = restore(parts, checkpoint)
            check_same_step(parts.fabric, state.step)
            for text in checkpoint.skipped:
                callback.note(f"{text}; resuming from the checkpoint of step {checkpoint.step} instead")
            limit = plan.config.max_minutes
            more_time = state.reason == "max_minutes" and (limit is None or state.seconds < 60 * limit)
            if extended or more_time:
                state.reopen(steps_per_epoch, plan.config.epochs)
        if first and not state.reason:
            run.result_file.unlink(missing_ok=True)  # of a finished run that is resumed: unfinished from here
        if first and before is not None:
            for text in differences(before, facts):
                callback.note(text)
        callback.start(
            Start(
                plan=plan,
                folder=run.root,
                device=str(parts.device),
                execution=how_it_runs(plan, parts.device, parts.fabric.world_size),
                parameters=sum(p.numel() for p in parts.network.parameters() if p.requires_grad),
                steps_per_epoch=steps_per_epoch,
                first_step=state.step,
                initial=parts.initial,
            )
        )
        train_loop(plan, parts, state, run, callback)
        if state.skipped:
            callback.note(f"{state.skipped} of {state.step} steps were skipped: a gradient was not finite")
        result = _result(plan, state, run)
        if first:
            _finish(plan, run, result, parts.device)
    return result


@contextmanager
def _memory_advice(config: RunConfig) -> Iterator[None]:
    """Turn running out of memory into advice with the numbers."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        size, parts = config.batch_size, config.accumulate
        advice = (
            f"The same step in less memory: --batch-size {max(1, size // 2)} --accumulate {parts * 2}."
            if size > 1
            else "Prepare the data set with a smaller --size, or choose a smaller --model."
        )
        raise EnvironmentFault(
            f"Out of memory with batch size {size} and {config.model}; saved checkpoints are unharmed.",
            advice,
        ) from error


def _check_unchanged(run: RunFolder, checkpoint: Checkpoint | None, *, resumed: bool) -> None:
    """Look again, now that the lock is held: a process that started beside may have trained meanwhile."""
    if not resumed and run.config_file.exists():
        raise InputError(
            f"{run.root} holds another run meanwhile, which is not overwritten.",
            "Choose another --output.",
        )
    newest = load_checkpoint(run.checkpoints) if resumed else None
    if (newest.step if newest else None) != (checkpoint.step if checkpoint else None):
        raise InputError(
            f"Another process continued the training of {run.root} meanwhile.", "Resume it again."
        )


def _finish(plan: Plan, run: RunFolder, result: TrainingResult, device: torch.device) -> None:
    """Calibrate the model that was kept, then write the result: a run that has one is whole."""
    model = load_model(run.model, device)
    if not run.finished or load_calibration(run.model, model.card.weights_sha256, finished=False) is None:
        calibrate(run, model, plan.config, plan.dataset)
    write_json(run.result_file, result.to_json())


def _result(plan: Plan, state: TrainingState, run: RunFolder) -> TrainingResult:
    cases = sum(float(row["seconds"]) * float(row["images_per_second"]) for row in state.history)
    return TrainingResult(
        folder=run.root,
        metric=plan.metric,
        best=state.best,
        best_epoch=state.best_epoch,
        epochs=len(state.history),
        steps=state.step,
        skipped=state.skipped,
        seconds=state.seconds,
        images_per_second=cases / state.seconds if state.seconds else 0.0,
        reason=state.reason,
    )


def run_name(config: RunConfig) -> str:
    """Name of a run's folder."""
    parts = {"fold": config.fold, "test": config.test_fold, "without-": config.leave_out}
    folds = "".join(f"-{name}{number}" for name, number in parts.items() if number is not None)
    return f"{config.dataset}-{config.model}-{config.optimizer}-seed{config.seed}{folds}"


def _new_folder(plan: Plan, output: Path | None, *, again: bool) -> Path:
    """A folder that holds no run yet; an unfinished one of the same settings is offered for resuming."""
    name = run_name(plan.config)
    wanted = output or Path("runs") / name
    for number in range(1, 10_000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        run = RunFolder(folder)
        if not run.config_file.is_file():
            check_place(folder, "Choose another --output.")
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
        if not again and _same_run(run, plan):
            raise InputError(
                f"{folder} is a finished run of the same settings and data.",
                f"Look at it: gcsam-med evaluate {folder} - or train it once more with --again.",
            )
    raise InputError(f"There are 9,999 runs named {name}.", "Choose an --output.")


def _same_run(run: RunFolder, plan: Plan) -> bool:
    """Whether a finished run has the settings and the data of a plan."""
    try:
        former, facts = run.config(), read_environment(run)
    except InputError:
        return False
    same_data = facts["dataset"]["content_sha256"] == plan.dataset.info.content_sha256
    return same_data and not changed_settings(former, plan.config)


def _before_a_run(path: Path, run: RunFolder) -> bool:
    """Whether a run that was killed before it had begun leaves this file."""
    return path in (run.lock_file, run.environment_file) or is_leftover(path)


# --- --rho auto: choose the radius of the ascent on the validation split, by short runs

FACTORS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Radii that are tried, in units of the method's own."""

SHARE = 0.2
"""Part of the epochs that each of them trains for."""


@dataclass(frozen=True)
class RhoSearch:
    """What the short runs showed."""

    metric: str  #: Validation metric that chose; higher is better, but for ``loss``.
    values: dict[float, float]  #: Best value of the metric for each radius.

    @property
    def chosen(self) -> float:
        """The radius with the best value; the smallest of equals."""
        sign = 1 if self.metric == "loss" else -1
        return min(self.values, key=lambda rho: (sign * self.values[rho], rho))


def find_rho(
    config: RunConfig, folder: Path, train: Callable[[RunConfig, Path], tuple[str, float]]
) -> RhoSearch:
    """Train shortly with several radii by `train`; what is finished in `folder` is used again.

    All runs start from the same weights and see the same batches. The differences between neighbouring radii
    are often within the noise of the seed: the choice is a sensible radius, not evidence for it.

    Raises
    ------
    InputError
        If the optimizer does not ascend, or `folder` holds runs of other settings.
    """
    method = OPTIMIZERS[config.optimizer]
    if not method.ascends:
        raise InputError(f"'{config.optimizer}' does not ascend, so it has no rho.", "Leave --rho out.")
    epochs = max(1, round(SHARE * config.epochs))
    metric, values = "", {}
    for factor in FACTORS:
        rho = round(factor * method.rho, 6)
        short = config.model_copy(update={"rho": rho, "epochs": epochs, "patience": 0})
        metric, values[rho] = train(short, folder / f"rho-{rho:g}")
    search = RhoSearch(metric, values)
    content = {"metric": metric, "values": {f"{r:g}": v for r, v in values.items()}, "chosen": search.chosen}
    write_json(folder / "search.json", content)
    return search


def _same_settings(run: RunFolder, config: RunConfig) -> bool:
    """Whether a run was made with these settings, as far as they were given."""
    given = config.model_dump(exclude={"data_root", "device"})
    made = run.config().model_dump()
    return all(made[name] == value for name, value in given.items() if value not in (None, "auto"))


def _with_rho_found(config: RunConfig, output: Path | None, callback: Callback) -> RunConfig:
    if process_count() > 1:
        raise InputError(
            "--rho auto works in one process only.", "Find rho with one process, then give it to all."
        )
    base = output or Path("runs") / f"{config.dataset}-{config.optimizer}-seed{config.seed}"

    def short_run(short: RunConfig, folder: Path) -> tuple[str, float]:
        result = _begun_or_resumed(short, folder, callback)
        return result.metric, result.best

    search = find_rho(config, base.with_name(f"{base.name}-rho-search"), short_run)
    listing = ", ".join(f"{rho:g}: {value:.4f}" for rho, value in search.values.items())
    callback.note(f"rho {search.chosen:g} was chosen by validation {search.metric} ({listing})")
    return config.model_copy(update={"rho": search.chosen})
