"""DICOM structured report by TID 1500 (PS3.16): what was measured, and the probabilities of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes

from gcsam_med import __version__
from gcsam_med.inference.dicom.codes import (
    LARGEST_REGION,
    NAME,
    PIXELS,
    PREDICTED,
    Maker,
    Terms,
    class_code,
    probability_code,
)
from gcsam_med.inference.dicom.write import Source
from gcsam_med.metrics.regions import diameters

SERIES = 9102


def measurements_report(
    source: Source, masks: np.ndarray, frames: list[int], seg: Dataset, maker: Maker, terms: Terms
) -> Dataset:
    """Report area and diameters of a segmentation's masks (see `seg.segmentation`), which `seg` holds.

    In mm where the image tells the size of its pixels in the patient, else in pixels. A frame with an empty
    mask has an area of 0 and no diameters.
    """
    groups = [
        _mask_group(source, mask, frame, place, seg, maker, terms)
        if mask.any()
        else _image_group(source, frame, maker, terms, [_area(source, 0)])
        for place, (mask, frame) in enumerate(zip(masks, frames, strict=True), 1)
    ]
    return _report(source, groups, [source.header, seg], maker, terms)


def classes_report(
    source: Source, rows: Sequence[Mapping[str, Any]], frames: list[int], maker: Maker, terms: Terms
) -> Dataset:
    """Report the probability of each class from rows of ``predictions.csv``, one for each of `frames`."""
    groups = []
    for row, frame in zip(rows, frames, strict=True):
        measured = [
            hd.sr.Measurement(probability_code(name, kind == "calibrated"), float(value), codes.UCUM.NoUnits)
            for kind in ("prob", "calibrated")
            for name in maker.card.classes
            if (value := row.get(f"{kind}_{name}")) is not None
        ]
        predicted = hd.sr.QualitativeEvaluation(PREDICTED, class_code(str(row["predicted"])))
        groups.append(_image_group(source, frame, maker, terms, measured, [predicted]))
    return _report(source, groups, [source.header], maker, terms)


def _mask_group(
    source: Source, mask: np.ndarray, frame: int, place: int, seg: Dataset, maker: Maker, terms: Terms
) -> Any:
    number = [frame + 1] if source.n_frames > 1 else None
    referenced = hd.sr.ReferencedSegmentationFrame(
        seg.SOPClassUID,
        seg.SOPInstanceUID,
        frame_number=place,
        segment_number=1,
        source_image=hd.sr.SourceImageForSegmentation(
            source.header.SOPClassUID, source.header.SOPInstanceUID, number
        ),
    )
    # By PS3.3 table 10-3 a reference to a frame names no segment as well; highdicom writes both.
    del referenced[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    unit = PIXELS if source.spacing is None else codes.UCUM.Millimeter
    long_axis, short_axis = diameters(mask, source.spacing or (1.0, 1.0))
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(maker),
        referenced_segment=referenced,
        finding_type=terms.kind,
        finding_sites=_sites(terms),
        algorithm_id=_algorithm(maker),
        measurements=[
            _area(source, int(np.count_nonzero(mask))),
            hd.sr.Measurement(codes.SCT.LongAxis, _decimal_string(long_axis), unit, method=LARGEST_REGION),
            hd.sr.Measurement(codes.SCT.ShortAxis, _decimal_string(short_axis), unit, method=LARGEST_REGION),
        ],
    )


def _image_group(
    source: Source, frame: int, maker: Maker, terms: Terms, measured: list[Any], evaluations: Any = None
) -> Any:
    """Return measurements of a whole image or frame."""
    number = [frame + 1] if source.n_frames > 1 else None
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(maker),
        source_images=[
            hd.sr.SourceImageForMeasurementGroup(
                source.header.SOPClassUID, source.header.SOPInstanceUID, number
            )
        ],
        finding_type=terms.kind,
        finding_sites=_sites(terms),
        algorithm_id=_algorithm(maker),
        measurements=measured,
        qualitative_evaluations=evaluations,
    )


def _area(source: Source, pixels: int) -> Any:
    if source.spacing is None:
        return hd.sr.Measurement(codes.SCT.Area, pixels, PIXELS)
    down, across = source.spacing
    return hd.sr.Measurement(
        codes.SCT.Area, _decimal_string(pixels * down * across), codes.UCUM.SquareMillimeter
    )


def _decimal_string(value: float) -> float:
    """Round to what a decimal string of 16 characters holds."""
    return float(f"{value:.6g}")


def _sites(terms: Terms) -> list[Any] | None:
    return None if terms.site is None else [hd.sr.FindingSite(terms.site)]


def _tracking(maker: Maker) -> Any:
    return hd.sr.TrackingIdentifier(
        hd.UID(), maker.card.classes[0] if maker.card.task == "segmentation" else "image"
    )


def _algorithm(maker: Maker) -> Any:
    parameters = [f"{name}: {value}" for name, value in maker.parameters.items()]
    return hd.sr.AlgorithmIdentification(
        maker.name, __version__, parameters, family=codes.DCM.ArtificialIntelligence, manufacturer=NAME
    )


def _report(
    source: Source, groups: list[Any], evidence: list[Dataset], maker: Maker, terms: Terms
) -> Dataset:
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=maker.device_uid,
            name=NAME,
            manufacturer_name=NAME,
            model_name=maker.name,
            serial_number=maker.serial,
        ),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=terms.procedure,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    about = maker.series(SERIES)
    # Of an SR's equipment highdicom takes no more than the manufacturer.
    model = {
        key: about.pop(key)
        for key in ("manufacturer_model_name", "software_versions", "device_serial_number")
    }
    made = hd.sr.ComprehensiveSR(
        evidence=evidence, content=content, is_complete=True, is_final=False, **about
    )
    made.ManufacturerModelName = model["manufacturer_model_name"]
    made.SoftwareVersions = model["software_versions"]
    made.DeviceSerialNumber = model["device_serial_number"]
    what = "Measurements" if len(evidence) > 1 else "Class probabilities"
    return maker.finish(made, what, source.identity)
