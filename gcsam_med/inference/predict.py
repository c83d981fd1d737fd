"""The whole of `predict`: decode, ask, write; streaming, in order, and able to go on after a stop."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gcsam_med import __version__
from gcsam_med.errors import EnvironmentFault, Fault, InputError
from gcsam_med.files import write_durably
from gcsam_med.geometry import Geometry
from gcsam_med.images import Frames, ImageFault, decode_frames
from gcsam_med.images.picture import to_grey
from gcsam_med.inference.ensemble import Answer, Ensemble, load_ensemble
from gcsam_med.inference.inputs import Input, find_inputs, with_frame
from gcsam_med.inference.journal import Journal
from gcsam_med.inference.outputs import (
    MASKS,
    OVERLAYS,
    Drawing,
    Ready,
    base_row,
    failed_row,
    segment,
)
from gcsam_med.inference.pipeline import ahead, batches
from gcsam_med.metrics.calibration import apply_temperature
from gcsam_med.progress import Track, silent
from gcsam_med.reporting.tables import to_csv
from gcsam_med.runs.masks import Postprocessing
from gcsam_med.runs.reference import image_features

BATCH = 8
# Grey images hold a few coloured pixels of overlays and marks; above this share an image is flagged.
COLOURED = 0.2
PREDICTIONS, SETTINGS = "predictions.csv", "predictions.json"


@dataclass(frozen=True)
class Predicted:
    """What `predict` did.

    Parameters
    ----------
    folder : Path
        Where everything is.
    rows : list of dict
        One an image, as in ``predictions.csv``.
    faults : tuple of Fault
        Inputs that could not be used.
    renamed : int
        Inputs whose stem others share too.
    resumed : int
        Inputs that had been done before.
    threshold : float
        What was used, for two classes or a segmentation.
    threshold_from : str
        Where it comes from.
    """

    folder: Path
    rows: list[dict[str, Any]]
    faults: tuple[Fault, ...]
    renamed: int
    resumed: int
    threshold: float
    threshold_from: str


@dataclass(frozen=True)
class PredictOptions:
    """How predictions are made.

    Parameters
    ----------
    threshold : float or None
        Default: the one evaluation chose on validation, else the model's own.
    batch_size : int or None
        Images a forward pass.
    device : str
        See `pick_device`.
    flip : bool
        Also ask about the mirrored image and average.
    frames : {"first", "middle", "all"} or int
        Which frames of a file that holds several.
    overlays : bool
        Whether overlays are drawn.
    steps : Postprocessing
        What is done to masks.
    overwrite : bool
        Replace predictions of other settings.
    """

    threshold: float | None = None
    batch_size: int | None = None
    device: str = "auto"
    flip: bool = False
    frames: Frames = "first"
    overlays: bool = True
    steps: Postprocessing = field(default_factory=Postprocessing)
    overwrite: bool = False


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
        One run, or several as an ensemble.
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
    """
    options = options or PredictOptions()
    found = find_inputs(inputs)
    ensemble = load_ensemble(runs, device=options.device, flip=options.flip)
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
            work = _Work(ensemble, options, threshold, output)
            for key, rows in track(work.stream(todo), "Predicting", total=len(todo)):
                journal.add(key, rows)
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
        "frames": options.frames,
        "postprocessing": options.steps.name,
        "overlays": options.overlays,
        "use": "research only, not for clinical use",
    }


def _forget_lost(journal: Journal, output: Path) -> None:
    """An input whose mask or overlay was deleted is done again."""
    for key, rows in list(journal.done.items()):
        files = [row[kind] for row in rows for kind in ("mask", "overlay") if row.get(kind)]
        if not all((output / file).is_file() for file in files):
            journal.forget(key)


def _write_tables(output: Path, rows: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = to_csv(columns, ([row.get(column) for column in columns] for row in rows))
    write_durably(output / PREDICTIONS, table.encode())
    write_durably(output / SETTINGS, (json.dumps(settings, indent=2) + "\n").encode())


def _coloured_share(pixels: np.ndarray) -> float:
    """Share of clearly coloured pixels (channels more than 24 of 255 apart), on a sample."""
    if pixels.ndim == 2:
        return 0.0
    sample = pixels[::4, ::4].astype(np.int16)
    return float((np.ptp(sample, axis=2) > 24).mean())


class _Work:
    """The stream from inputs to rows.

    Threads decode ahead of the network and write behind it; what waits between them is at most a few
    batches, so memory does not grow with the number of inputs.
    """

    def __init__(self, ensemble: Ensemble, options: PredictOptions, threshold: float, output: Path) -> None:
        self.ensemble, self.options, self.threshold = ensemble, options, threshold
        self.batch = options.batch_size or BATCH
        self.drawing = Drawing(output, threshold, options.steps, options.overlays)

    def stream(self, items: Sequence[Input]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield each input's key and rows, in order."""
        workers = min(4, os.cpu_count() or 1)
        with (
            ThreadPoolExecutor(workers, "decode") as readers,
            ThreadPoolExecutor(workers, "write") as writers,
        ):
            decoded = ahead(readers, self._decode, items, depth=2 * self.batch)
            asked = self._ask(decoded)
            current: str | None = None
            rows: list[dict[str, Any]] = []
            for key, row in ahead(writers, self._finish, asked, depth=2 * self.batch):
                if current is not None and key != current:
                    yield current, rows
                    rows = []
                current = key
                rows.append(row)
            if current is not None:
                yield current, rows

    def _decode(self, item: Input) -> tuple[Input, list[Ready | ImageFault]]:
        """Read one file. A fault in a later frame leaves the earlier ones."""
        ready: list[Ready | ImageFault] = []
        try:
            for picture in decode_frames(item.load(), Path(item.label).name, self.options.frames):
                colour = self.ensemble.card.modality == "photo"
                pixels = picture.pixels if colour else to_grey(picture.pixels)
                if colour and pixels.ndim == 2:
                    pixels = np.repeat(pixels[..., None], 3, axis=2)
                geometry = Geometry(pixels.shape[0], pixels.shape[1], self.ensemble.card.size)
                named = (
                    with_frame(item, picture.frame, picture.n_frames)
                    if self._several(picture.n_frames)
                    else item
                )
                square = geometry.place_image(pixels)
                flags, unlikeness = self._compare(picture.pixels, square, geometry)
                ready.append(
                    Ready(
                        named,
                        picture.pixels,
                        square,
                        geometry,
                        picture.spacing,
                        picture.notes,
                        flags,
                        unlikeness,
                    )
                )
        except ImageFault as fault:
            ready.append(fault)
        return item, ready

    def _compare(
        self, pixels: np.ndarray, square: np.ndarray, geometry: Geometry
    ) -> tuple[tuple[str, ...], float | None]:
        """Tell in which way an image is unlike the training images."""
        coloured = self.ensemble.card.modality != "photo" and _coloured_share(pixels) > COLOURED
        flags = ["coloured"] if coloured else []
        reference = self.ensemble.reference
        if reference is None:
            return tuple(flags), None
        distance = float(reference.distance(image_features(square, geometry)[None])[0]) / reference.limit
        flags += ["unlike the training images"] if distance > 1 else []
        return tuple(flags), round(distance, 4)

    def _several(self, n_frames: int) -> bool:
        return self.options.frames == "all" and n_frames > 1

    def _ask(
        self, decoded: Iterator[tuple[Input, list[Ready | ImageFault]]]
    ) -> Iterator[tuple[Input, Ready | ImageFault, Answer | None, int]]:
        """Ask the network a batch at a time; faults keep their place in the order."""
        flat = ((item, part) for item, parts in decoded for part in parts)
        for group in batches(flat, self.batch):
            images = [part.square for _, part in group if isinstance(part, Ready)]
            answer = self.ensemble(np.stack(images)) if images else None
            place = 0
            for item, part in group:
                if isinstance(part, Ready):
                    yield item, part, answer, place
                    place += 1
                else:
                    yield item, part, None, 0

    def _finish(
        self, asked: tuple[Input, Ready | ImageFault, Answer | None, int]
    ) -> tuple[str, dict[str, Any]]:
        item, part, answer, place = asked
        if isinstance(part, ImageFault):
            return item.key, failed_row(item, part.reason, part.detail)
        if answer is None:
            raise RuntimeError("an image without an answer")
        probability = answer.probability[place]
        if not np.isfinite(probability).all():
            raise InputError("The network answers with NaN or infinity: it has diverged.", "Train it again.")
        unsure = None if answer.disagreement is None else answer.disagreement[place]
        if self.ensemble.card.task == "segmentation":
            return item.key, segment(part, probability, unsure, self.drawing)
        return item.key, self._classify(part, probability, unsure)

    def _classify(self, ready: Ready, probability: np.ndarray, unsure: Any) -> dict[str, Any]:
        """Return the row of one image of a classification."""
        classes, positive = self.ensemble.card.classes, self.ensemble.positive
        if positive is None:
            called = int(probability.argmax())
        else:
            called = positive if probability[positive] >= self.threshold else 1 - positive
        row = base_row(ready.item) | {
            "height": ready.geometry.height,
            "width": ready.geometry.width,
            "predicted": classes[called],
        }
        row |= {f"prob_{name}": round(float(p), 6) for name, p in zip(classes, probability, strict=True)}
        temperatures = [p.temperature for p in self.ensemble.points if p is not None and p.temperature]
        if len(temperatures) == len(self.ensemble.models) == 1:
            calibrated = apply_temperature(probability[None].astype(np.float64), temperatures[0])[0]
            row |= {f"calibrated_{n}": round(float(p), 6) for n, p in zip(classes, calibrated, strict=True)}
        row["unlikeness"] = ready.unlikeness
        flags = list(ready.flags)
        if unsure is not None:
            row["disagreement"] = round(float(unsure), 6)
            flags += ["models disagree"] if float(unsure) > 0.05 else []
        return row | {"flags": "; ".join(flags), "notes": "; ".join(ready.notes)}
