"""DICOM Segmentation (PS3.3 A.51): the mask of one file, on the grid of its own pixels."""

from __future__ import annotations

import copy
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.pixels.utils import pack_bits
from pydicom.tag import Tag
from pydicom.uid import SecondaryCaptureImageStorage

from gcsam_med.inference.dicom.codes import Maker, Terms
from gcsam_med.inference.dicom.write import Source

SERIES = 9101
TEMPORAL_POSITION, FRAME_CONTENT = Tag(0x0020, 0x9128), Tag(0x0020, 0x9111)


def segmentation(source: Source, masks: np.ndarray, frames: list[int], maker: Maker, terms: Terms) -> Dataset:
    """Make a binary segmentation of one segment.

    `masks` is bool, (n, H, W), rows and columns as the image stores them; `frames` says which frames of the
    image (from 0, ascending) they are. Empty masks get a frame too: no frame means not looked at.
    """
    # highdicom refuses several frames without a frame of reference, which ultrasound has not. So it makes the
    # object of the first, as if it were an image of its own, and the others are added as the standard has it.
    stand_in = copy.deepcopy(source.header)
    if "FrameOfReferenceUID" not in stand_in:
        stand_in.SOPClassUID = SecondaryCaptureImageStorage
        # Pixel Measures may be left out where the image is referenced (PS3.3 table A.51-2), and highdicom
        # does not read them back without a slice's thickness, which a projection has not.
        if "PixelSpacing" in stand_in:
            del stand_in.PixelSpacing
    made = hd.seg.Segmentation(
        source_images=[stand_in],
        pixel_array=masks[0],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(maker, terms)],
        omit_empty_frames=False,
        content_label=_label(maker),
        content_description=maker.use,
        **maker.series(SERIES),
    )
    # Type 2C where there is no Image Orientation (Patient) (PS3.3 C.7.6.1); the mask lies as the image does.
    if "ImageOrientationPatient" not in source.header:
        made.PatientOrientation = source.header.get("PatientOrientation") or ""
    _name_class(made, source.header)
    if source.n_frames > 1:
        _add_frames(made, masks, frames)
    return maker.finish(made, "Segmentation", source.identity)


def _segment(maker: Maker, terms: Terms) -> Any:
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=maker.card.classes[0][:64],
        segmented_property_category=terms.category,
        segmented_property_type=terms.kind,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=maker.identification(),
        anatomic_regions=None if terms.site is None else [terms.site],
        tracking_uid=hd.UID(),
        tracking_id=maker.card.classes[0][:64],
    )


def _label(maker: Maker) -> str:
    """Return a content label: CS, so capitals, digits, blanks and underscores only."""
    text = "".join(c if c.isascii() and c.isalnum() else "_" for c in maker.card.classes[0].upper())
    return text[:16]


def _name_class(made: Dataset, header: Dataset) -> None:
    """Write the image's own class into every reference to it."""
    for element in made.iterall():
        if element.keyword in ("SourceImageSequence", "ReferencedInstanceSequence"):
            for item in element.value:
                item.ReferencedSOPClassUID = header.SOPClassUID


def _add_frames(made: Dataset, masks: np.ndarray, frames: list[int]) -> None:
    """Make an object of one frame one of several, each with the frame of the image it belongs to."""
    made.NumberOfFrames = len(frames)
    made.PixelData = pack_bits(masks.astype(np.uint8))
    index = copy.deepcopy(made.DimensionIndexSequence[0])
    index.DimensionIndexPointer, index.FunctionalGroupPointer = TEMPORAL_POSITION, FRAME_CONTENT
    index.DimensionDescriptionLabel = "Temporal Position Index"
    made.DimensionIndexSequence.append(index)
    groups = []
    for place, frame in enumerate(frames, 1):
        group = copy.deepcopy(made.PerFrameFunctionalGroupsSequence[0])
        group.FrameContentSequence[0].DimensionIndexValues = [1, place]
        group.FrameContentSequence[0].TemporalPositionIndex = place
        for derivation in group.DerivationImageSequence:
            for image in derivation.SourceImageSequence:
                image.ReferencedFrameNumber = frame + 1
        groups.append(group)
    made.PerFrameFunctionalGroupsSequence = groups
