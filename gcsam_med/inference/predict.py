"""`predict`: decode, ask the network, write; in order, with bounded memory, and resumable after a stop."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gcsam_med import __version__
from gcsam_med.config import Frames, PathLike, PredictOptions
from gcsam_med.devices import usable_cores
from gcsam_med.errors import EnvironmentFault, Fault, InputError
from gcsam_med.fields import chosen
from gcsam_med.files import (
    append_line,
    check_among,
    locked,
    make_folder,
    replacing,
    write_durably,
    write_json,
)
from gcsam_med.images import ImageFault, read_bytes
from gcsam_med.inference.dicom import dicom_output
from gcsam_med.inference.ensemble import Ensemble
from gcsam_med.inference.inputs import MASKS, OVERLAYS, PREDICTIONS, DecodedImage, Input, decode, find_inputs
from gcsam_med.inference.model import BATCH, Model, batches, load
from gcsam_med.inference.results import (
    Classification,
    Segmentation,
    classification_row,
    failed_row,
    segmentation_row,
)
from gcsam_med.pools import ahead
from gcsam_med.progress import Track, silent
from gcsam_med.reading import is_ours, open_image, read_json_lines, validate
from gcsam_med.reporting.page import predictions_html, rows_shown, thumbnail
from gcsam_med.reporting.tables import to_csv

SETTINGS, JOURNAL = "predictions.json", "predictions.jsonl"
PAGE = "predictions.html"
# More lanes would only cost memory: each holds a batch and the network's activations for it.
MOST_LANES = 4

_FILES = ("mask", "overlay", "dicom_seg", "dicom_sr")
_OUTPUT = r"^(masks|overlays|dicom_seg|dicom_sr)/[^/\\]+$"
OutputFile = Annotated[str, Field(pattern=f"^$|{_OUTPUT}")]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Predicted:
    """What `predict` did."""

    folder: Path  #: Where everything is.
    rows: list[dict[str, Any]]  #: One for each image, as in ``predictions.csv``.
    faults: tuple[Fault, ...]  #: Inputs that could not be used.
    renamed: int  #: Inputs whose stem others share too.
    resumed: int  #: Inputs that had been done before.
    threshold: float  #: What was used, for two classes or a segmentation.
    threshold_from: str  #: Where it comes from.


def predict(
    runs: PathLike | Sequence[PathLike],
    inputs: PathLike | Sequence[PathLike],
    output: PathLike,
    options: PredictOptions | None = None,
    *,
    track: Track = silent,
    **fields: Any,
) -> Predicted:
    """Predict images, and write masks, overlays and a table.

    Parameters
    ----------
    runs : str, path, or sequence of them
        One run, or several as an ensemble; a folder of runs stands for all of them.
    inputs : str, path, or sequence of them
        Files, folders, patterns, .zip archives.
    output : str or path
        Folder for ``predictions.csv``, ``masks/`` and ``overlays/``. If it holds part of the same
        predictions, they are completed.
    options : PredictOptions, optional
        How; `fields` change it.
    track : Track
        Shows progress.
    **fields
        Fields of `PredictOptions`, such as ``tta="flip"``.

    Returns
    -------
    Predicted
        ``predicted.rows`` in the order of the inputs; bad files are among them with status ``failed``.

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
    options, output = chosen(PredictOptions, options, **fields), Path(output)
    found = find_inputs([os.fspath(path) for path in several(inputs)], output)
    model = load(*several(runs), options=options)
    settings = _settings(model, options)
    try:
        _check_output(output)
        with locked(output / ".lock", f"predicting into {output}"):
            if model.card.task == "segmentation":
                for name in (MASKS, *([OVERLAYS] if options.overlays else [])):
                    make_folder(output, name)
            journal = Journal(output, settings, overwrite=options.overwrite)
            todo = [item for item in found.items if item.key not in journal.done]
            resumed = len(found.items) - len(todo)
            stream = Stream(model, output, options)
            to_dicom = dicom_output(
                model.ensemble, output, model.threshold, model.steps.name, options.frames,
                seg=options.dicom_seg, sr=options.dicom_sr,
            )  # fmt: skip
            inputs_by_key = {item.key: item for item in todo}
            for key, rows in track(stream.rows(todo), "Predicting", total=len(todo)):
                journal.add(key, to_dicom(inputs_by_key[key], rows))
            rows = [row for item in found.items for row in journal.done[item.key]]
            page = _page(output, rows, settings, found.items, model.ensemble, options.frames)
            doing = f"writing the tables of {output}"
            with replacing(output, lambda _: False, doing, among_others=lambda _: True) as fresh:
                _write_tables(fresh, rows, settings)
                write_durably(fresh / PAGE, page.encode())
    except OSError as error:
        raise EnvironmentFault(
            f"Predictions cannot be written to {output}: {error.strerror}.", "Give another --output."
        ) from error
    faults = tuple(
        Fault(row["input"], *str(row["reason"]).split(": ", 1)) for row in rows if row["status"] == "failed"
    )
    return Predicted(output, rows, faults, found.renamed, resumed, model.threshold, model.threshold_from)


def _check_output(output: Path) -> None:
    """Refuse a folder that holds others' files under the names of ours: masks of the truth, for one."""

    def ours(there: Path) -> bool:
        return bool(read_json_lines(there / JOURNAL, _Settings)) or is_ours(there / SETTINGS)

    folders = (MASKS, OVERLAYS, "dicom_seg", "dicom_sr")
    filled = [name for name in folders if any((output / name).glob("[!.]*"))]
    check_among(output, ours, [*filled, JOURNAL, PREDICTIONS, SETTINGS, PAGE], "Give another --output.")


def several(paths: PathLike | Sequence[PathLike]) -> Sequence[PathLike]:
    """One path, or a sequence of them, as a sequence."""
    return [paths] if isinstance(paths, (str, os.PathLike)) else paths


def _settings(model: Model, options: PredictOptions) -> dict[str, Any]:
    return {
        "schema": 1,
        "tool_version": __version__,
        "task": model.card.task,
        "classes": model.card.classes,
        "weights_sha256": [one.card.weights_sha256 for one in model.ensemble.models],
        "synthetic": model.card.synthetic,
        "threshold": model.threshold,
        "threshold_from": model.threshold_from,
        "temperatures": [None if p is None else p.temperature for p in model.ensemble.points],
        "flip": options.tta == "flip",
        "mc_dropout": options.mc_dropout,
        "frames": options.frames,
        "force": options.force,
        "postprocessing": model.steps.name,
        "overlays": options.overlays,
        "dicom": [kind for kind in ("seg", "sr") if getattr(options, f"dicom_{kind}")],
        "use": "research only, not for clinical use",
    }


def _write_tables(output: Path, rows: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = to_csv(columns, ([row.get(column) for column in columns] for row in rows))
    write_durably(output / PREDICTIONS, table.encode())
    write_json(output / SETTINGS, settings)


def _page(
    output: Path,
    rows: list[dict[str, Any]],
    settings: dict[str, Any],
    items: Sequence[Input],
    ensemble: Ensemble,
    frames: Frames,
) -> str:
    """Return ``predictions.html``: the overlays, or the images where there is none, as thumbnails."""
    names = {row["name"] for row in rows_shown(rows) if row["status"] == "ok"}
    thumbnails = {}
    for row in rows:
        if row["name"] in names and row.get("overlay"):
            data = io.BytesIO(read_bytes(output / row["overlay"]))
            with open_image(data) as overlay:
                thumbnails[row["name"]] = thumbnail(np.asarray(overlay.convert("RGB")))
    drawn = set(thumbnails)
    for item in items:
        # Frames of one file are named after it.
        if any(name == item.name or name.startswith(f"{item.name}_f") for name in names - drawn):
            for part in decode(item, ensemble, frames, force=True):
                if isinstance(part, DecodedImage) and part.item.name in names:
                    thumbnails[part.item.name] = thumbnail(part.pixels)
    return predictions_html(rows, settings, thumbnails)


class Stream:
    """Predicts inputs in order, with memory that does not grow with their number.

    Each of a few threads (lanes) takes a batch through everything: decode, ask the network, write. On a CPU
    the lanes share the cores, so that one decodes while another multiplies. One lane with the network's own
    threads is slower: its threads wait for one another at the end of every layer.
    """

    def __init__(self, model: Model, output: Path, options: PredictOptions) -> None:
        self.model, self.output, self.options = model, output, options
        self.batch = options.batch_size or BATCH

    def rows(self, items: Sequence[Input]) -> Iterator[tuple[str, Rows]]:
        """Yield each input's key and rows, in order."""
        with lanes(len(items), self.batch, device=self.model.ensemble.device.type) as (pool, count):
            # One batch more than there are lanes is queued, so that none is idle while rows are noted.
            for done in ahead(pool, self._batch, batches(items, self.batch), depth=count + 1):
                yield from done

    def _batch(self, items: Sequence[Input]) -> list[tuple[str, Rows]]:
        """Take a batch through everything. Several frames a file make several forward passes."""
        ensemble = self.model.ensemble
        rows: dict[str, Rows] = {item.key: [] for item in items}
        decoded = partial(decode, ensemble=ensemble, frames=self.options.frames, force=self.options.force)
        parts = ((item, part) for item in items for part in decoded(item))
        for group in batches(parts, self.batch):
            images = [part.letterboxed for _, part in group if isinstance(part, DecodedImage)]
            answer = ensemble(np.stack(images)) if images else None
            place = 0
            for item, part in group:
                if isinstance(part, ImageFault):
                    rows[item.key].append(failed_row(item, part.reason, part.detail))
                elif answer is not None:
                    found = self.model.result(part, answer.of(place))
                    rows[item.key].append(self._row(part.item, found))
                    place += 1
        return list(rows.items())

    def _row(self, item: Input, found: Segmentation | Classification) -> dict[str, Any]:
        if isinstance(found, Segmentation):
            return segmentation_row(item, found, self.output, overlays=self.options.overlays)
        return classification_row(item, found)


@contextmanager
def lanes(n_inputs: int, batch: int, *, device: str) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Open a pool of lanes that share the cores; yield it and their number, and give the cores back."""
    import torch

    threads = torch.get_num_threads()
    # Apple's devices cannot be used by several threads at once.
    most = {"cpu": threads, "mps": 1}.get(device, usable_cores())
    count = min(MOST_LANES, most, max(1, -(-n_inputs // batch)))
    share = partial(torch.set_num_threads, max(1, threads // count)) if device == "cpu" else None
    try:
        with ThreadPoolExecutor(count, "lane", initializer=share) as pool:
            yield pool, count
    finally:
        if device == "cpu":
            torch.set_num_threads(threads)


class Journal:
    """What was predicted so far, so that a stopped prediction can be resumed.

    A first JSON line holds the settings that determine the results, then one line for each input, with the
    hashes of its files. An input whose files are not what its line says (deleted, cut by a power loss,
    written anew for another input of the same name) is done again.

    Raises
    ------
    InputError
        If the folder holds predictions made with other settings and `overwrite` is off.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder, self.path = folder, folder / JOURNAL
        first = read_json_lines(self.path, _Settings)
        same = bool(first) and first[0].settings == dict(settings)
        if first and not same and not overwrite:
            raise InputError(
                f"{folder} holds predictions made with another model or other options.",
                "Give another --output, or replace them with --overwrite.",
            )
        entries = [line for line in read_json_lines(self.path, dict[str, Any]) if _is_entry(line)]
        kept = {} if overwrite else {e["key"]: e for e in entries if self._is_whole(e)}
        self.done: dict[str, list[dict[str, Any]]] = {key: entry["rows"] for key, entry in kept.items()}
        if not kept:
            # What these predictions were made with no longer holds: a stop leaves no table of half of them.
            (folder / PREDICTIONS).unlink(missing_ok=True)
        if overwrite:
            for name in {name for entry in entries for name in entry["files"]}:
                (folder / name).unlink(missing_ok=True)
        # Written anew: a line that a crash cut short would spoil the one after it.
        lines = [{"settings": dict(settings)}, *kept.values()]
        write_durably(self.path, "".join(f"{_line(line)}\n" for line in lines).encode())

    def add(self, key: str, rows: list[dict[str, Any]]) -> None:
        """Note an input as done, now that its files are written."""
        names = [row[kind] for row in rows for kind in _FILES if row.get(kind)]
        files = {name: self._digest(name) for name in names}
        self.done[key] = rows
        append_line(self.path, _line({"key": key, "rows": rows, "files": files}))

    def _is_whole(self, entry: Mapping[str, Any]) -> bool:
        return all(self._digest(name) == digest for name, digest in entry["files"].items())

    def _digest(self, name: str) -> str:
        try:
            return hashlib.sha256(read_bytes(self.folder / name)).hexdigest()
        except ImageFault:
            return ""


class _Settings(BaseModel):
    """The journal's first line."""

    settings: dict[str, Any]


class _Row(BaseModel):
    """A row of ``predictions.csv``; names of files stay in the output folder."""

    model_config = ConfigDict(extra="allow")

    input: str
    name: str
    status: Literal["ok", "failed"]
    reason: str
    flags: str
    mask: OutputFile = ""
    overlay: OutputFile = ""
    dicom_seg: OutputFile = ""
    dicom_sr: OutputFile = ""


class _Entry(BaseModel):
    """A line of the journal: one input, its rows, and the SHA-256 of its files."""

    key: str
    rows: list[_Row]
    files: dict[Annotated[str, Field(pattern=_OUTPUT)], Annotated[str, Field(min_length=64)]]

    @model_validator(mode="after")
    def _all_files(self) -> Self:
        if {getattr(row, kind) for row in self.rows for kind in _FILES} - {""} != set(self.files):
            raise ValueError("its rows name other files")
        return self


def _is_entry(line: dict[str, Any]) -> bool:
    try:
        validate(line, _Entry)
    except ValueError:
        return False
    return True


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)
