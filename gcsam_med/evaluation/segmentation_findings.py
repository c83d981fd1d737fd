"""From a segmentation run to its part of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med.evaluation.findings import Findings, Options
from gcsam_med.evaluation.segmentation import (
    DEFAULT_THRESHOLD,
    MIN_VALIDATION_CASES,
    THRESHOLDS,
    Measured,
    Measuring,
    case_table,
    choose_measuring,
    choose_threshold,
    measure,
    sweep_validation,
)
from gcsam_med.evaluation.setup import Examination
from gcsam_med.metrics.estimate import Estimate
from gcsam_med.metrics.segmentation import SegmentationCase
from gcsam_med.metrics.summary import segmentation_estimates
from gcsam_med.progress import Track
from gcsam_med.reporting.report import Operating
from gcsam_med.runs.calibration import OperatingFile

SUBGROUP_METRICS = ("dice", "hd95", "nsd", "missed_cases", "lesion_sensitivity")
MIN_SUBGROUP = 10


@dataclass(frozen=True)
class Sweep:
    """Mean Dice at every threshold, on validation and on the examined cases."""

    validation: np.ndarray | None
    examined: np.ndarray | None


def examine(exam: Examination, options: Options, track: Track) -> Findings:
    """Choose the threshold on validation, measure every case, and put intervals on the figures."""
    how = choose_measuring(exam.dataset, exam.selection.rows, options.tolerance)
    val_rows, val_sweep = sweep_validation(exam, batch_size=options.batch_size, track=track)
    operating, saved = _operating(exam, options, val_rows, val_sweep)
    measured = measure(
        exam,
        operating.threshold,
        how,
        batch_size=options.batch_size,
        min_area=options.min_area,
        track=track,
    )
    operating, curve = _transfer(exam, operating, val_sweep, measured)

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
        saved_point=saved,
        curves={"sweep": curve},
        postprocessing={
            name: _main(_figures(cases, groups, seeds, options)) for name, cases in measured.options.items()
        },
        estimate_part=lambda keep: _main(_part(measured.cases, groups, keep, seeds, options)),
        extra_columns=_size_thirds(measured, how),
    )


def _figures(
    cases: list[SegmentationCase], groups: np.ndarray, seeds: np.random.SeedSequence, options: Options
) -> dict[str, Estimate]:
    # The same seed everywhere: figures of the same cases are resampled alike.
    rng = np.random.default_rng(seeds)
    return segmentation_estimates(cases, groups, rng, n_resamples=options.n_resamples)


def _part(
    cases: list[SegmentationCase],
    groups: np.ndarray,
    keep: np.ndarray,
    seeds: np.random.SeedSequence,
    options: Options,
) -> dict[str, Estimate]:
    chosen = [case for case, kept in zip(cases, keep, strict=True) if kept]
    return _figures(chosen, groups[keep], seeds, options)


def _main(figures: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {name: figures[name] for name in SUBGROUP_METRICS}


def _operating(
    exam: Examination, options: Options, val_rows: np.ndarray, val_sweep: np.ndarray
) -> tuple[Operating, OperatingFile | None]:
    n = len(val_rows)
    if options.threshold is not None:
        return Operating(options.threshold, "given on the command line", "given", 0), None
    if n < MIN_VALIDATION_CASES:
        why = exam.home_note or f"validation holds {n} lesion images, fewer than {MIN_VALIDATION_CASES}"
        return Operating(DEFAULT_THRESHOLD, "0.5, not chosen", "default", n, why), None
    rule = "highest mean Dice on validation, of 0.02 to 0.98 in steps of 0.02"
    threshold = choose_threshold(val_sweep)
    saved = OperatingFile(
        threshold=threshold,
        rule=rule,
        n=n,
        weights_sha256=exam.model.card.weights_sha256,
        dataset_sha256=exam.model.card.dataset_sha256,
    )
    return Operating(threshold, rule, "validation", n), saved


def _transfer(
    exam: Examination, operating: Operating, val_sweep: np.ndarray, measured: Measured
) -> tuple[Operating, pd.DataFrame]:
    """Tell what the threshold gives where it was chosen and where it is used, and the curves behind that."""
    curve = pd.DataFrame({"threshold": THRESHOLDS})
    lesion = ~np.isnan(measured.sweep[:, 0])
    transfer: dict[str, Mapping[str, float | None]] = {}
    half = int(np.abs(THRESHOLDS - DEFAULT_THRESHOLD).argmin())
    nearest = int(np.abs(THRESHOLDS - operating.threshold).argmin())
    if len(val_sweep) and exam.split != "val":
        curve["validation"] = val_sweep.mean(axis=0)
        transfer["validation"] = {"dice": float(val_sweep[:, nearest].mean())}
    if lesion.any():
        curve[exam.split] = measured.sweep[lesion].mean(axis=0)
        dice = [case.dice for case in measured.cases if case.dice is not None]
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


def _policy(how: Measuring, options: Options, operating: Operating) -> dict[str, Any]:
    return {
        "resolution": "each image's own; probabilities are brought back by bilinear interpolation",
        "distance_unit": how.unit,
        "nsd_tolerance": how.tolerance,
        "threshold": operating.threshold,
        "empty_prediction_on_lesion": "Dice, IoU and NSD 0; distances: the image diagonal; counted as missed",
        "normal_images": "no Dice or distance; they count in detection figures and nowhere else",
        "lesion_found": "a predicted region overlaps it with IoU of at least 0.1, one to one",
        "averaging": "mean over lesion images; lesion_sensitivity over lesions",
        "hd95": "larger of the two directed 95th percentiles of distances between outlines",
        "intervals": "95 %, named beside each figure; bootstrap draws whole groups",
        "n_resamples": options.n_resamples,
        "seed": options.seed,
        "postprocessing": "none",
    }
