"""`prepare`, `train`, `evaluate` and `predict` as functions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gcsam_med.api.loading import PathLike
from gcsam_med.config import RunConfig, load_config, with_overrides
from gcsam_med.errors import InputError
from gcsam_med.evaluation import evaluate_run, evaluation_folder
from gcsam_med.inference import Predicted, PredictOptions
from gcsam_med.inference import predict as _predict
from gcsam_med.preparation import Outcome, PrepareOptions
from gcsam_med.preparation import prepare as _prepare
from gcsam_med.progress import Track, silent
from gcsam_med.reporting import Report, write_report
from gcsam_med.training import Callback, TrainingResult, resume_training, start_training


def prepare(
    dataset: str,
    source: PathLike | None = None,
    *,
    demo_cases: int | None = None,
    data_root: PathLike = "data",
    name: str = "",
    options: PrepareOptions | None = None,
    images: PathLike | None = None,
    splits: PathLike | None = None,
    force: bool = False,
    workers: int | None = None,
    track: Track = silent,
) -> Outcome:
    """Read, check and split a data set, and store it for training.

    Parameters
    ----------
    dataset : str
        As `gcsam-med list datasets` names it.
    source : str or path, optional
        Folder, archive or CSV file with the images.
    demo_cases : int, optional
        Instead of `source`: generate so many synthetic images (``dataset="busi"``).
    data_root : str or path
        The result goes to ``data_root/prepared/NAME``.
    name : str
        Default: `dataset`.
    options : PrepareOptions, optional
        What determines the result: size, seed, folds, ...
    images : str or path, optional
        Folder that the paths of a table are relative to.
    splits : str or path, optional
        A ``splits.json`` to apply instead of drawing a split.
    force : bool
        Prepare anew even if nothing changed.
    workers : int, optional
        Reading processes.
    track : Track
        Shows progress.

    Returns
    -------
    Outcome
        ``outcome.dataset`` is open for reading, ``outcome.audit`` says what was found.

    Raises
    ------
    InputError
        If the source is not as expected; `DataFaults` lists bad files.
    EnvironmentFault
        If the result cannot be written.
    """
    root, chosen = Path(data_root), options or PrepareOptions()
    if (source is None) == (demo_cases is None):
        raise InputError("prepare needs to know where the images are.", "Give source, or demo_cases.")
    if demo_cases is not None:
        from gcsam_med.datasets.demo import demo_folder

        source = demo_folder(dataset, root, demo_cases, chosen.seed, track=track)
    return _prepare(
        dataset,
        Path(str(source)),
        root,
        name=name,
        options=chosen,
        images=None if images is None else Path(images),
        splits=None if splits is None else Path(splits),
        force=force,
        workers=workers,
        track=track,
    )


def train(
    dataset: str | None = None,
    *,
    config: RunConfig | PathLike | None = None,
    output: PathLike | None = None,
    callback: Callback | None = None,
    **settings: Any,
) -> TrainingResult:
    """Train a network on a prepared data set.

    Parameters
    ----------
    dataset : str, optional
        Name of a prepared data set; may also stand in `config`.
    config : RunConfig or path, optional
        Settings, or a YAML file of them.
    output : str or path, optional
        Run folder, which must be new or empty. Default: ``runs/`` and a name made of the settings.
    callback : Callback, optional
        Whom to tell.
    **settings
        Fields of `RunConfig`, such as ``optimizer="gcsam"`` or ``epochs=20``; they beat `config`.

    Returns
    -------
    TrainingResult
        How it ended; ``result.folder`` is the run.

    Raises
    ------
    GcsamMedError
        See `gcsam_med.errors`.
    """
    given = settings | ({"dataset": dataset} if dataset is not None else {})
    if isinstance(config, RunConfig):
        chosen = with_overrides(config, given)
    else:
        chosen = load_config(None if config is None else Path(config), given)
    return start_training(chosen, None if output is None else Path(output), callback)


def resume(
    run: PathLike, *, extend: bool = False, callback: Callback | None = None, **settings: Any
) -> TrainingResult:
    """Go on with a run from its newest whole checkpoint.

    Parameters
    ----------
    run : str or path
        The run folder.
    extend : bool
        Allow more epochs than before.
    callback : Callback, optional
        Whom to tell.
    **settings
        Fields of `RunConfig` that may change: the machine's, and with `extend` the number of epochs.

    Returns
    -------
    TrainingResult
        How it ended.

    Raises
    ------
    GcsamMedError
        See `gcsam_med.errors`.
    """
    return resume_training(Path(run), settings, extend=extend, callback=callback)


def evaluate(
    run: PathLike,
    split: str = "test",
    *,
    dataset: str | None = None,
    data_root: PathLike | None = None,
    output: PathLike | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
    threshold: float | None = None,
    tolerance: float | None = None,
    prevalence: float | None = None,
    min_area: int = 0,
    unfinished: bool = False,
    track: Track = silent,
) -> Report:
    """Examine a trained run on a split, and write its report.

    Parameters
    ----------
    run : str or path
        ``runs/NAME``.
    split : str
        ``train``, ``val`` or ``test``.
    dataset : str, optional
        Another prepared data set, for external validation.
    data_root : str or path, optional
        Folder of prepared data sets. Default: the one the run was trained from.
    output : str or path, optional
        Folder of the report. Default: ``RUN/evaluation/SPLIT``.
    device, batch_size, seed, n_resamples, threshold, tolerance, prevalence, min_area, unfinished
        See `gcsam_med.evaluation.evaluate_run`.
    track : Track
        Shows progress.

    Returns
    -------
    Report
        ``report.metrics["dice"].value`` and ``.ci95``, ``report.cases`` (a data frame), ...

    Raises
    ------
    InputError
        If the run, the data or the split does not fit.
    CheckpointError
        If the model is damaged.
    """
    report = evaluate_run(
        Path(run),
        split,
        dataset=dataset,
        data_root=None if data_root is None else Path(data_root),
        device=device,
        batch_size=batch_size,
        seed=seed,
        n_resamples=n_resamples,
        threshold=threshold,
        tolerance=tolerance,
        prevalence=prevalence,
        min_area=min_area,
        unfinished=unfinished,
        track=track,
    )
    write_report(report, evaluation_folder(report, Path(run)) if output is None else Path(output))
    return report


def predict(
    runs: PathLike | Sequence[PathLike],
    inputs: PathLike | Sequence[PathLike],
    output: PathLike,
    options: PredictOptions | None = None,
    *,
    track: Track = silent,
) -> Predicted:
    """Predict image files, and write masks, overlays and a table.

    Parameters
    ----------
    runs : str, path, or sequence of them
        One run, or several as an ensemble; a folder of runs stands for all of them.
    inputs : str, path, or sequence of them
        Files, folders, patterns, .zip archives.
    output : str or path
        Folder to write to. If it holds part of the same predictions, they are completed.
    options : PredictOptions, optional
        Threshold, flips, frames, post-processing, ...
    track : Track
        Shows progress.

    Returns
    -------
    Predicted
        ``predicted.rows`` in the order of the inputs; bad files are among them with status ``failed``.

    Raises
    ------
    InputError
        If nothing is found, or the output folder holds other predictions.
    CheckpointError
        If a model is damaged.
    EnvironmentFault
        If the output folder cannot be written to.
    """
    return _predict(
        [Path(run) for run in _several(runs)],
        [os.fspath(path) for path in _several(inputs)],
        Path(output),
        options,
        track=track,
    )


def _several(paths: PathLike | Sequence[PathLike]) -> Sequence[PathLike]:
    return [paths] if isinstance(paths, (str, os.PathLike)) else paths
