"""The header of a source image, cut down to what a derived object has to repeat."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset, dcmread

from gcsam_med.images.dicom import is_dicom, pixel_spacing

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
    """Read the header of an input.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        Its name.

    Returns
    -------
    Source or str
        Why no DICOM object can be made of it, if it cannot.
    """
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
    part = Dataset()
    for keyword in keywords:
        if keyword in full:
            part[keyword] = full[keyword]
    return part
