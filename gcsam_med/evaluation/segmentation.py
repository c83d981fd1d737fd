"""Examining a segmentation: every case measured at its own resolution, the threshold chosen on validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.evaluation.setup import Examination
from gcsam_med.metrics.segmentation import MaskPair
from gcsam_med.metrics.summary import SegmentationCase, measure_case
from gcsam_med.metrics.table import shown_in
from gcsam_med.progress import Track, silent
from gcsam_med.runs import network_outputs
from gcsam_med.runs.calibration import BINS, dice_by_threshold
from gcsam_med.runs.postprocessing import Postprocessing, to_mask


def offered(min_area: int) -> list[Postprocessing]:
    """Post-processing of `predict` whose effect is measured; dropping small regions if an area is given."""
    steps = [Postprocessing(largest_component=True), Postprocessing(fill_holes=True)]
    return [*steps, Postprocessing(min_area=min_area)] if min_area else steps


@dataclass(frozen=True)
class Measuring:
    """How masks are compared."""

    in_mm: bool  #: Distances in mm; else in original pixels.
    tolerance: float  #: Of NSD, in that unit.

    @property
    def unit(self) -> str:
        """``"mm"`` or ``"px"``."""
        return "mm" if self.in_mm else "px"

    def spacing(self, dataset: PreparedDataset, row: int) -> tuple[float, float]:
        """Distance between pixels of a case, in `unit`."""
        known = dataset.spacing(row) if self.in_mm else None
        return known or (1.0, 1.0)


def choose_measuring(dataset: PreparedDataset, rows: np.ndarray, tolerance: float | None) -> Measuring:
    """Measure in mm where the spacing of every case is known, else in pixels: units are never mixed.

    The tolerance of NSD is 1 mm or 2 pixels where none is given.
    """
    in_mm = bool((dataset.manifest["pixel_spacing"].to_numpy(dtype=str)[rows] != "").all())
    return Measuring(in_mm, tolerance if tolerance is not None else (1.0 if in_mm else 2.0))


@dataclass(frozen=True)
class Measured:
    """Every case of the split, measured."""

    rows: np.ndarray  #: ndarray of int64, shape (n,): In the order of `cases`.
    cases: list[SegmentationCase]  #: At the chosen threshold.
    #: ndarray of float, shape (n, BINS - 1): Dice at each threshold; NaN for a case without lesion.
    sweep: np.ndarray
    #: The same cases after each step that is `offered`, by its name.
    options: dict[str, list[SegmentationCase]]


def measure(
    exam: Examination,
    threshold: float,
    how: Measuring,
    *,
    batch_size: int | None,
    min_area: int = 0,
    track: Track = silent,
) -> Measured:
    """Measure every selected case at its original resolution."""
    data, rows = exam.dataset, exam.selection.rows
    cases: list[SegmentationCase] = []
    options: dict[str, list[SegmentationCase]] = {steps.name: [] for steps in offered(min_area)}
    sweep = np.full((len(rows), BINS - 1), np.nan)
    stream = network_outputs(
        exam.model, data.images, rows, batch_size=batch_size, track=track, what="Evaluating"
    )
    for i, (row, square) in enumerate(stream):
        truth, geometry = data.original_mask(row), data.geometry(row)
        probability = geometry.restore(square)
        spacing = how.spacing(data, row)
        plain = to_mask(probability, threshold)
        cases.append(measure_case(MaskPair(plain, truth, tolerance=how.tolerance, spacing=spacing)))
        for steps in offered(min_area):
            mask = to_mask(probability, threshold, steps)
            same = np.array_equal(mask, plain)
            pair = MaskPair(mask, truth, tolerance=how.tolerance, spacing=spacing)
            options[steps.name].append(cases[-1] if same else measure_case(pair))
        if truth.any():
            sweep[i] = dice_by_threshold(probability, truth)
    return Measured(rows, cases, sweep, options)


def case_table(exam: Examination, measured: Measured, how: Measuring) -> pd.DataFrame:
    """Return ``cases.csv``: one row a case, in manifest order."""
    manifest = exam.dataset.manifest.iloc[measured.rows]
    table = pd.DataFrame(
        {
            name: pd.Series([c.values.get(name) for c in measured.cases], dtype="float64")
            for name in shown_in("cases", "segmentation")
        }
    )
    for column, key in (("area_truth", "area_truth"), ("area_predicted", "area_pred")):
        table[column] = [getattr(c, key) for c in measured.cases]
    table["area_unit"] = "mm2" if how.in_mm else "px2"
    table["distance_unit"] = how.unit
    table["lesions"] = [c.detection.lesions for c in measured.cases]
    table["lesions_found"] = [c.detection.found for c in measured.cases]
    table["false_positives"] = [c.detection.false_positives for c in measured.cases]
    table["missed"] = [int(c.empty and not c.normal) for c in measured.cases]
    for place, column in enumerate(("case_id", "group_id", "label")):
        table.insert(place, column, manifest[column].to_numpy(dtype=str))
    return table
