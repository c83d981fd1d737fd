"""From the rows of one input to DICOM objects beside its masks."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from gcsam_med.errors import InputError, MissingExtra
from gcsam_med.files import write_durably
from gcsam_med.images import Frames
from gcsam_med.images.picture import chosen_frames
from gcsam_med.inference.ensemble import Ensemble
from gcsam_med.inference.inputs import Input

if TYPE_CHECKING:
    from pydicom import Dataset

    from gcsam_med.inference.dicom.equipment import Maker
    from gcsam_med.inference.dicom.source import Source

SEG, SR = "dicom_seg", "dicom_sr"
Rows = list[dict[str, Any]]


def dicom_output(
    ensemble: Ensemble, output: Path, threshold: float, steps: str, frames: Frames, *, seg: bool, sr: bool
) -> Callable[[Input, Rows], Rows]:
    """Prepare to write DICOM objects.

    Parameters
    ----------
    ensemble : Ensemble
        Who predicts.
    output : Path
        Output folder; objects go to ``dicom_seg/`` and ``dicom_sr/`` in it.
    threshold : float
        The operating point.
    steps : str
        Post-processing, in words.
    frames : {"first", "middle", "all"} or int
        Which frames are predicted.
    seg, sr : bool
        Which objects are wanted.

    Returns
    -------
    callable
        Takes an input and its rows once its masks are written, returns the rows with their DICOM columns.
        Without a wish for objects, it gives the rows back.

    Raises
    ------
    MissingExtra
        If highdicom is not installed.
    InputError
        If segmentations are asked of a classification.
    """
    if not (seg or sr):
        return lambda _, rows: rows
    if seg and ensemble.card.task != "segmentation":
        raise InputError(
            "--dicom-seg needs a segmentation; this run classifies.", "--dicom-sr reports its probabilities."
        )
    try:
        from gcsam_med.inference.dicom.equipment import Maker
    except ImportError as error:
        raise MissingExtra("Writing DICOM objects", "dicom") from error
    weights = tuple(model.card.weights_sha256 for model in ensemble.models)
    maker = Maker(ensemble.card, weights, threshold, steps)
    # A report refers to a segmentation, so that one is written with it.
    for kind in [SEG] * (ensemble.card.task == "segmentation") + [SR] * sr:
        (output / kind).mkdir(parents=True, exist_ok=True)
    return DicomOutput(output, maker, frames, sr)


@dataclass(frozen=True)
class DicomOutput:
    """Writes the objects of one input after the other."""

    folder: Path  #: Output folder.
    maker: Maker  #: The algorithm.
    frames: Frames  #: {"first", "middle", "all"}: Which frames are predicted.
    report: bool  #: Whether structured reports are written.

    def __call__(self, item: Input, rows: Rows) -> Rows:
        """Write the objects of an input; one that allows none gets a note."""
        from gcsam_med.inference.dicom.source import read_source

        good = [row for row in rows if row["status"] == "ok"]
        if not good:
            return rows
        with _silence():
            source = read_source(item.load(), Path(item.label).name)
            if isinstance(source, str):
                return [_with_note(row, f"no DICOM object: {source}") for row in rows]
            # A bad frame ends a file, so the good ones are the first of those asked for.
            frames = list(chosen_frames(self.frames, source.n_frames, item.name))[: len(good)]
            try:
                made = self._make(source, good, frames)
            except Exception as error:
                # highdicom raises nearly anything on odd headers, and its texts may quote tags.
                kind = type(error).__name__
                return [_with_note(row, f"no DICOM object: its header is odd ({kind})") for row in rows]
        columns = {kind: self._save(kind, item, dataset) for kind, dataset in made.items()}
        return [row | columns if row["status"] == "ok" else row for row in rows]

    def _make(self, source: Source, rows: Rows, frames: list[int]) -> dict[str, Dataset]:
        from gcsam_med.inference.dicom import codes, seg, sr

        words = codes.terms(self.maker.card, source.body_part)
        if self.maker.card.task != "segmentation":
            return {SR: sr.classes_report(source, rows, frames, self.maker, words)}
        masks = np.stack([_read(self.folder / row["mask"]) for row in rows])
        made = {SEG: seg.segmentation(source, masks, frames, self.maker, words)}
        if self.report:
            made[SR] = sr.measurements_report(source, masks, frames, made[SEG], self.maker, words)
        return made

    def _save(self, kind: str, item: Input, made: Dataset) -> str:
        data = io.BytesIO()
        made.save_as(data)
        name = f"{kind}/{item.name}.dcm"
        write_durably(self.folder / name, data.getvalue())
        return name


@contextmanager
def _silence() -> Iterator[None]:
    """Keep pydicom and highdicom from printing values of tags that they find odd."""
    import pydicom

    logger = logging.getLogger("pydicom")
    former, logger.disabled = logger.disabled, True
    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = former


def _read(path: Path) -> np.ndarray:
    with Image.open(path, formats=["PNG"]) as image:
        return np.asarray(image) > 0


def _with_note(row: Mapping[str, Any], note: str) -> dict[str, Any]:
    return {**row, "notes": "; ".join(filter(None, (row.get("notes"), note)))}
