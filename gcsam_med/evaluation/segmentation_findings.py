"""From a segmentation run to its part of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med.config import EvaluateOptions
from gcsam_med.evaluation.findings import Findings, operating_point
from gcsam_med.evaluation.segmentation import (
    Measured,
    Measuring,
    case_table,
    choose_measuring,
    measure,
)
from gcsam_med.evaluation.setup import Examination
from gcsam_med.metrics.estimate import Estimate
from gcsam_med.metrics.summary import SegmentationCase, segmentation_estimates
from gcsam_med.metrics.table import SEGMENTATION, shown_in
from gcsam_med.progress import Track
from gcsam_med.reporting.report import Operating
from gcsam_med.runs.calibration import DEFAULT_THRESHOLD, THRESHOLDS, nearest_threshold

MIN_SUBGROUP = 10


def examine(exam: Examination, options: EvaluateOptions, track: Track) -> Findings:
    """Measure every case at the model's threshold, and put intervals on the metrics."""
    how = choose_measuring(exam.dataset, exam.selection.rows, options.tolerance)
    operating = operating_point(exam, options)
    measured = measure(
        exam,
        operating.threshold,
        how,
        batch_size=options.batch_size,
        min_area=options.min_area,
        track=track,
    )
    operating, curve = _transfer(exam, operating, measured)

    groups, seeds = exam.groups(measured.rows), np.random.SeedSequence(options.seed)
    figures = _figures(measured.cases, groups, seeds, options)
    labels = exam.dataset.manifest["label"].to_numpy(dtype=str)[measured.rows]
    names = [name for name in exam.dataset.info.classes if (labels == name).any()]
    return Findings(
        metrics=figures,
        per_class={name: _part(measured.cases, groups, labels == name, seeds, options) for name in names},
        cases=case_table(exam, measured, how),
        rows=measured.rows,
        policy=_policy(how, options, operating),
        operating=operating,
        curves={"sweep": curve},
        postprocessing={
            name: _main(_figures(cases, groups, seeds, options)) for name, cases in measured.options.items()
        },
        estimate_part=lambda keep: _main(_part(measured.cases, groups, keep, seeds, options)),
        extra_columns=_size_thirds(measured, how),
    )


def _figures(
    cases: list[SegmentationCase], groups: np.ndarray, seeds: np.random.SeedSequence, options: EvaluateOptions
) -> dict[str, Estimate]:
    # The same seed everywhere: figures of the same cases are resampled alike.
    rng = np.random.default_rng(seeds)
    return segmentation_estimates(cases, groups, rng, n_resamples=options.resamples)


def _part(
    cases: list[SegmentationCase],
    groups: np.ndarray,
    keep: np.ndarray,
    seeds: np.random.SeedSequence,
    options: EvaluateOptions,
) -> dict[str, Estimate]:
    chosen = [case for case, kept in zip(cases, keep, strict=True) if kept]
    return _figures(chosen, groups[keep], seeds, options)


def _main(figures: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {name: figures[name] for name in shown_in("subgroups", "segmentation")}


def _transfer(exam: Examination, operating: Operating, measured: Measured) -> tuple[Operating, pd.DataFrame]:
    """Tell what the threshold gives where it was chosen and where it is used, and the curves behind that."""
    curve = pd.DataFrame({"threshold": THRESHOLDS})
    lesion = ~np.isnan(measured.sweep[:, 0])
    transfer: dict[str, Mapping[str, float | None]] = {}
    half = nearest_threshold(DEFAULT_THRESHOLD)
    fitted = exam.calibration
    if fitted is not None and fitted.dice_curve and exam.split != "val":
        curve["validation"] = fitted.dice_curve
        given = {"dice": fitted.dice_curve[nearest_threshold(operating.threshold)]}
        transfer["validation"] = given if operating.chosen_on == "given" else fitted.at_threshold
    if lesion.any():
        curve[exam.split] = measured.sweep[lesion].mean(axis=0)
        dice = [case.values["dice"] for case in measured.cases if not case.normal]
        transfer[exam.split] = {"dice": float(np.mean(dice))}
        transfer[f"{exam.split} at 0.5"] = {"dice": float(measured.sweep[lesion, half].mean())}
    return Operating(
        operating.threshold, operating.rule, operating.chosen_on, operating.n, operating.reason, transfer
    ), curve


def _size_thirds(measured: Measured, how: Measuring) -> dict[str, np.ndarray]:
    """Subgroups by lesion size: thirds of the true area over lesion images; empty for normals."""
    area = np.array([case.area_truth for case in measured.cases])
    lesion = area > 0
    if lesion.sum() < 3 * MIN_SUBGROUP:
        return {}
    low, high = np.quantile(area[lesion], [1 / 3, 2 / 3])
    unit = "mm²" if how.in_mm else "px²"
    names = np.array(
        [
            f"small, to {low:,.0f} {unit}",
            f"medium, {low:,.0f} to {high:,.0f} {unit}",
            f"large, from {high:,.0f} {unit}",
        ],
        dtype=object,
    )
    part = names[(area > low).astype(int) + (area > high).astype(int)]
    return {"lesion size": np.where(lesion, part, "")}


def _policy(how: Measuring, options: EvaluateOptions, operating: Operating) -> dict[str, Any]:
    return {
        "resolution": "each image's own; probabilities are brought back by bilinear interpolation",
        "distance_unit": how.unit,
        "nsd_tolerance": how.tolerance,
        "threshold": operating.threshold,
        "empty_prediction_on_lesion": "Dice, IoU and NSD 0; distances: the image diagonal; counted as missed",
        "normal_images": "no Dice or distance; they count in detection figures and nowhere else",
        "lesion_found": "a predicted region overlaps it with IoU of at least 0.1, one to one",
        "averaging": "mean over lesion images; lesion_sensitivity over lesions",
        **{name: row.policy for name, row in SEGMENTATION.items() if row.policy},
        "intervals": "95 %, named beside each figure; bootstrap draws whole groups",
        "n_resamples": options.resamples,
        "seed": options.seed,
        "postprocessing": "none",
    }
