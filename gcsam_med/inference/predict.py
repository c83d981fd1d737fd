"""The whole of `predict`: decode, ask, write; streaming, in order, and able to go on after a stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gcsam_med import __version__
from gcsam_med.errors import EnvironmentFault, Fault, InputError
from gcsam_med.files import write_durably
from gcsam_med.images import Frames
from gcsam_med.inference.dicom import dicom_output
from gcsam_med.inference.ensemble import Ensemble, load_ensemble
from gcsam_med.inference.inputs import find_inputs
from gcsam_med.inference.journal import Journal
from gcsam_med.inference.outputs import MASKS, OVERLAYS, Drawing
from gcsam_med.inference.stream import Stream
from gcsam_med.progress import Track, silent
from gcsam_med.reporting.tables import to_csv
from gcsam_med.runs.postprocessing import Postprocessing

PREDICTIONS, SETTINGS = "predictions.csv", "predictions.json"


@dataclass(frozen=True)
class Predicted:
    """What `predict` did."""

    folder: Path  #: Where everything is.
    rows: list[dict[str, Any]]  #: One an image, as in ``predictions.csv``.
    faults: tuple[Fault, ...]  #: Inputs that could not be used.
    renamed: int  #: Inputs whose stem others share too.
    resumed: int  #: Inputs that had been done before.
    threshold: float  #: What was used, for two classes or a segmentation.
    threshold_from: str  #: Where it comes from.


@dataclass(frozen=True)
class PredictOptions:
    """How predictions are made."""

    threshold: float | None = None  #: Default: the one evaluation chose on validation, else the model's own.
    batch_size: int | None = None  #: Images a forward pass.
    device: str = "auto"
    flip: bool = False  #: Also ask about the mirrored image and average.
    #: Samples of each network with dropout on, to average and to tell how unsure it is; 0: none.
    mc_dropout: int = 0
    frames: Frames = "first"  #: {"first", "middle", "all"}: Which frames of a file that holds several.
    overlays: bool = True  #: Whether overlays are drawn.
    steps: Postprocessing = field(default_factory=Postprocessing)  #: What is done to masks.
    dicom_seg: bool = False  #: Also write a DICOM segmentation for each DICOM input.
    #: Also write a DICOM structured report for each, and the segmentation it refers to.
    dicom_sr: bool = False
    overwrite: bool = False  #: Replace predictions of other settings.


def predict(
    runs: Sequence[Path],
    inputs: Sequence[str | Path],
    output: Path,
    options: PredictOptions | None = None,
    *,
    track: Track = silent,
) -> Predicted:
    """Predict images.

    Parameters
    ----------
    runs : sequence of Path
        One run, or several as an ensemble; a folder of runs stands for all of them.
    inputs : sequence of str or Path
        Files, folders, patterns, .zip archives.
    output : Path
        Folder for ``predictions.csv``, ``masks/`` and ``overlays/``. If it holds part of the same
        predictions, they are completed.
    options : PredictOptions, optional
        How.
    track : Track
        Shows progress.

    Returns
    -------
    Predicted
        Rows in the order of the inputs; bad files are among them with status ``failed``.

    Raises
    ------
    InputError
        If nothing is found, the runs do not fit together, or the output folder holds other predictions.
    CheckpointError
        If a model is damaged.
    EnvironmentFault
        If the output folder cannot be written to.
    MissingExtra
        If DICOM objects are wanted and highdicom is not installed.
    """
    options = options or PredictOptions()
    if options.mc_dropout == 1 or options.mc_dropout < 0:
        raise InputError("--mc-dropout takes at least 2 samples.", "20 are usual.")
    found = find_inputs(inputs)
    ensemble = load_ensemble(runs, device=options.device, flip=options.flip, mc_dropout=options.mc_dropout)
    threshold, threshold_from = ensemble.threshold
    if options.threshold is not None:
        threshold, threshold_from = options.threshold, "given"
    settings = _settings(ensemble, options, threshold, threshold_from)
    try:
        output.mkdir(parents=True, exist_ok=True)
        if ensemble.card.task == "segmentation":
            (output / MASKS).mkdir(exist_ok=True)
            if options.overlays:
                (output / OVERLAYS).mkdir(exist_ok=True)
        with Journal(output, settings, overwrite=options.overwrite) as journal:
            _forget_lost(journal, output)
            todo = [item for item in found.items if item.key not in journal.done]
            resumed = len(found.items) - len(todo)
            drawing = Drawing(output, options.steps, options.overlays)
            stream = Stream(
                ensemble, threshold, drawing, frames=options.frames, batch_size=options.batch_size
            )
            to_dicom = dicom_output(
                ensemble, output, threshold, options.steps.name, options.frames,
                seg=options.dicom_seg, sr=options.dicom_sr,
            )  # fmt: skip
            inputs_by_key = {item.key: item for item in todo}
            for key, rows in track(stream.rows(todo), "Predicting", total=len(todo)):
                journal.add(key, to_dicom(inputs_by_key[key], rows))
            rows = [row for item in found.items for row in journal.done[item.key]]
        _write_tables(output, rows, settings)
    except OSError as error:
        raise EnvironmentFault(
            f"Predictions cannot be written to {output}: {error.strerror}.", "Give another --output."
        ) from error
    faults = tuple(
        Fault(row["input"], *str(row["reason"]).split(": ", 1)) for row in rows if row["status"] == "failed"
    )
    return Predicted(output, rows, faults, found.renamed, resumed, threshold, threshold_from)


def _settings(
    ensemble: Ensemble, options: PredictOptions, threshold: float, threshold_from: str
) -> dict[str, Any]:
    return {
        "schema": 1,
        "tool_version": __version__,
        "task": ensemble.card.task,
        "classes": ensemble.card.classes,
        "weights_sha256": [model.card.weights_sha256 for model in ensemble.models],
        "synthetic": ensemble.card.synthetic,
        "threshold": threshold,
        "threshold_from": threshold_from,
        "temperatures": [None if p is None else p.temperature for p in ensemble.points],
        "flip": options.flip,
        "mc_dropout": options.mc_dropout,
        "frames": options.frames,
        "postprocessing": options.steps.name,
        "overlays": options.overlays,
        "dicom": [kind for kind in ("seg", "sr") if getattr(options, f"dicom_{kind}")],
        "use": "research only, not for clinical use",
    }


def _forget_lost(journal: Journal, output: Path) -> None:
    """An input with a file that was deleted is done again."""
    for key, rows in list(journal.done.items()):
        kinds = ("mask", "overlay", "dicom_seg", "dicom_sr")
        files = [row[kind] for row in rows for kind in kinds if row.get(kind)]
        if not all((output / file).is_file() for file in files):
            journal.forget(key)


def _write_tables(output: Path, rows: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = to_csv(columns, ([row.get(column) for column in columns] for row in rows))
    write_durably(output / PREDICTIONS, table.encode())
    write_durably(output / SETTINGS, (json.dumps(settings, indent=2) + "\n").encode())
