"""From the rows of one input to DICOM objects beside its masks, which repeat as little of it as they must."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gcsam_med.errors import InputError, MissingExtra
from gcsam_med.files import make_folder, write_durably
from gcsam_med.images import Frames, read_bytes
from gcsam_med.images.dicom import is_dicom, pixel_spacing, quiet_pydicom
from gcsam_med.images.picture import chosen_frames
from gcsam_med.inference.ensemble import Ensemble
from gcsam_med.inference.inputs import Input
from gcsam_med.reading import open_image

if TYPE_CHECKING:
    from pydicom import Dataset

    from gcsam_med.inference.dicom.codes import Maker

SEG, SR = "dicom_seg", "dicom_sr"
Rows = list[dict[str, Any]]

# DICOM demands these of every object of a patient's study (PS3.3 C.7.1.1, C.7.2.1; type 1 and 2), so that an
# archive files it with the images. Age, weight, history, physicians' notes, institution and device stay out.
IDENTITY = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
"""Of these DICOM wants the attribute, if without a value (type 2)."""
# What references and geometry rest on.
IMAGE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PatientOrientation",
    "PixelSpacing",
    "SliceThickness",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns")
# An uncorrected magnification makes these millimetres of the detector, not of the patient (PS3.3 10.7.1).
DETECTOR_ONLY = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True)
class Source:
    """A DICOM image that was predicted."""

    header: Dataset  #: Only the attributes of ``IMAGE``, as of an image of one frame of nobody.
    identity: Dataset  #: Only the attributes of ``IDENTITY``.
    n_frames: int  #: How many frames the file has.
    #: Height and width of a pixel in mm of the patient; None where they are not known.
    spacing: tuple[float, float] | None
    body_part: str  #: Body Part Examined, or empty.


def read_source(data: bytes, name: str) -> Source | str:
    """Read the header of an input, or say why no DICOM object can be made of it."""
    from pydicom import dcmread

    if not is_dicom(data, name):
        return "the input is not DICOM"
    full = dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
    missing = [keyword for keyword in NEEDED if not full.get(keyword)]
    if missing:
        return f"its header has no {missing[0]}"
    n_frames = int(full.get("NumberOfFrames") or 1)
    if n_frames > 1 and "FrameOfReferenceUID" in full:
        return "it has several frames in a frame of reference"
    header, identity = _only(full, IMAGE), _only(full, IDENTITY)
    header.file_meta = full.file_meta
    for keyword in MAY_BE_EMPTY:
        setattr(header, keyword, None)
        if keyword not in identity:
            setattr(identity, keyword, None)
    spacing = pixel_spacing(full)
    if "PixelSpacing" not in full and any(keyword in full for keyword in DETECTOR_ONLY):
        spacing = None
    return Source(header, identity, n_frames, spacing, str(full.get("BodyPartExamined") or ""))


def _only(full: Dataset, keywords: Sequence[str]) -> Dataset:
    from pydicom import Dataset

    part = Dataset()
    for keyword in keywords:
        if keyword in full:
            part[keyword] = full[keyword]
    return part


def dicom_output(
    ensemble: Ensemble, output: Path, threshold: float, steps: str, frames: Frames, *, seg: bool, sr: bool
) -> Callable[[Input, Rows], Rows]:
    """Prepare to write DICOM objects into ``dicom_seg/`` and ``dicom_sr/`` of the output folder.

    The function returned takes an input and its rows once its masks are written, and returns the rows with
    their DICOM columns. With neither `seg` nor `sr` it returns the rows as they are.

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
        from gcsam_med.inference.dicom.codes import Maker
    except ImportError as error:
        raise MissingExtra("Writing DICOM objects", "dicom") from error
    weights = tuple(model.card.weights_sha256 for model in ensemble.models)
    maker = Maker(ensemble.card, weights, threshold, steps)
    # A report refers to a segmentation, so that one is written with it.
    for kind in [SEG] * (ensemble.card.task == "segmentation") + [SR] * sr:
        make_folder(output, kind)
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
        import pydicom

        good = [row for row in rows if row["status"] == "ok"]
        if not good:
            return rows
        with pydicom.config.disable_value_validation(), quiet_pydicom():
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


def _read(path: Path) -> np.ndarray:
    with open_image(io.BytesIO(read_bytes(path))) as image:
        return np.asarray(image) > 0


def _with_note(row: Mapping[str, Any], note: str) -> dict[str, Any]:
    return {**row, "notes": "; ".join(filter(None, (row.get("notes"), note)))}
