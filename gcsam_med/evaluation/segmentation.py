"""Evaluating a segmentation: every case measured at its own resolution, at the model's threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med.config import EvaluateOptions
from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.devices import worker_count
from gcsam_med.errors import EnvironmentFault, InputError
from gcsam_med.evaluation.context import EvaluationContext, TaskResult, operating_point
from gcsam_med.metrics.intervals import Estimate
from gcsam_med.metrics.operating_point import (
    BINS,
    DEFAULT_THRESHOLD,
    THRESHOLDS,
    dice_by_threshold,
    nearest_threshold,
)
from gcsam_med.metrics.segmentation import MaskPair, dice_of_counts
from gcsam_med.metrics.summary import SegmentationCase, measure_case, segmentation_estimates
from gcsam_med.metrics.table import SEGMENTATION, shown_in
from gcsam_med.pools import ahead, processes
from gcsam_med.progress import Track, silent
from gcsam_med.reporting.report import Operating
from gcsam_med.runs import network_outputs
from gcsam_med.runs.postprocessing import Postprocessing, to_mask
from gcsam_med.transforms.letterbox import Letterbox

MIN_SUBGROUP = 10
POOL_FROM = 100  # cases: starting a process takes two seconds of computing, measuring a case 0.05


def evaluate_segmentation(context: EvaluationContext, options: EvaluateOptions, track: Track) -> TaskResult:
    """Measure every case at the model's threshold, and put intervals on the metrics."""
    how = choose_measuring(context.dataset, context.selection.rows, options)
    measured = joined(
        [
            measure(
                model,
                operating_point(model, options).threshold,
                how,
                batch_size=options.batch_size,
                min_area=options.min_area,
                extra=options.metrics,
                track=track,
            )
            for model in context.models
        ]
    )
    operating, curve = _transfer(context, operating_point(context, options), measured)

    groups, seeds = context.groups(measured.rows), np.random.SeedSequence(options.seed)
    metrics = _metrics(measured.cases, groups, seeds, options)
    labels = context.dataset.manifest["label"].to_numpy(dtype=str)[measured.rows]
    names = [name for name in context.dataset.info.classes if (labels == name).any()]
    return TaskResult(
        metrics=metrics,
        per_class={name: _part(measured.cases, groups, labels == name, seeds, options) for name in names},
        cases=case_table(context, measured, how),
        rows=measured.rows,
        policy=_policy(how, options, operating) | _ceiling(measured, context.model.card.size),
        operating=operating,
        curves={} if context.pooled else {"sweep": curve},
        postprocessing={
            name: _main(_metrics(cases, groups, seeds, options)) for name, cases in measured.options.items()
        },
        estimate_part=lambda keep: _main(_part(measured.cases, groups, keep, seeds, options)),
        extra_columns=_size_thirds(measured, how),
    )


def _metrics(
    cases: list[SegmentationCase],
    groups: np.ndarray,
    seeds: np.random.SeedSequence,
    options: EvaluateOptions,
) -> dict[str, Estimate]:
    # The same seed everywhere: metrics of the same cases are resampled alike.
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
    return _metrics(chosen, groups[keep], seeds, options)


def _main(metrics: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {name: metrics[name] for name in shown_in("subgroups", "segmentation")}


def _transfer(
    context: EvaluationContext, operating: Operating, measured: Measured
) -> tuple[Operating, pd.DataFrame]:
    """Tell what the threshold gives where it was chosen and where it is used, and the curves behind that."""
    curve = pd.DataFrame({"threshold": THRESHOLDS})
    if context.pooled:  # each model has its own threshold
        return operating, curve
    lesion = ~np.isnan(measured.sweep[:, 0])
    transfer: dict[str, Mapping[str, float | None]] = {}
    half = nearest_threshold(DEFAULT_THRESHOLD)
    fitted = context.calibration
    if fitted is not None and fitted.dice_curve and context.split != "val":
        curve["validation"] = fitted.dice_curve
        given = {"dice": fitted.dice_curve[nearest_threshold(operating.threshold)]}
        transfer["validation"] = given if operating.chosen_on == "given" else fitted.at_threshold
    if lesion.any():
        curve[context.split] = measured.sweep[lesion].mean(axis=0)
        dice = [case.values["dice"] for case in measured.cases if not case.normal]
        transfer[context.split] = {"dice": float(np.mean(dice))}
        transfer[f"{context.split} at 0.5"] = {"dice": float(measured.sweep[lesion, half].mean())}
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
        "normal_images": "no Dice or distance; they count in detection metrics and nowhere else",
        "lesion_found": "a predicted region overlaps it with IoU of at least 0.1, one to one",
        "smallest_lesion": how.smallest,
        "averaging": "mean over lesion images; lesions found over lesions",
        **{name: row.policy for name, row in SEGMENTATION.items() if row.policy},
        "intervals": "95 %, named beside each metric; bootstrap draws whole groups",
        "n_resamples": options.resamples,
        "seed": options.seed,
        "postprocessing": "none",
    }


def _ceiling(measured: Measured, size: int) -> dict[str, Any]:
    """Say how well the truth itself survives the size at which images are stored."""
    known = measured.ceiling[~np.isnan(measured.ceiling)]
    if not len(known):
        return {}
    return {
        "dice_ceiling": f"{known.mean():.3f}: mean Dice of the truth itself, stored at {size} x {size} "
        "pixels and brought back"
    }


def offered(min_area: int) -> list[Postprocessing]:
    """Post-processing of `predict` whose effect is measured; dropping small regions if an area is given."""
    steps = [Postprocessing(largest_component=True), Postprocessing(fill_holes=True)]
    return [*steps, Postprocessing(min_area=min_area)] if min_area else steps


@dataclass(frozen=True)
class Measuring:
    """How masks are compared."""

    in_mm: bool  #: Distances in mm; else in original pixels.
    tolerance: float  #: Of NSD, in that unit.
    min_share: float = 0  #: Smallest lesion, as a share of its image.
    min_mm2: float | None = None  #: Smallest lesion in mm², instead of a share.

    @property
    def unit(self) -> str:
        """``"mm"`` or ``"px"``."""
        return "mm" if self.in_mm else "px"

    @property
    def smallest(self) -> str:
        """The smallest lesion in words."""
        size = f"{100 * self.min_share:g} % of the image" if self.min_mm2 is None else f"{self.min_mm2:g} mm²"
        return (
            f"{size}; smaller regions of truth and prediction count neither as lesions nor as false marks, "
            "their pixels count in Dice"
        )

    def pair(self, pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, float]) -> MaskPair:
        """Put prediction and truth of a case together, to be measured; `spacing` in `unit`."""
        if self.min_mm2 is None:
            least = self.min_share * truth.size
        else:
            least = self.min_mm2 / (spacing[0] * spacing[1])
        return MaskPair(pred, truth, tolerance=self.tolerance, spacing=spacing, min_pixels=least)

    def spacing(self, dataset: PreparedDataset, row: int) -> tuple[float, float]:
        """Distance between pixels of a case, in `unit`."""
        known = dataset.spacing(row) if self.in_mm else None
        return known or (1.0, 1.0)


def choose_measuring(dataset: PreparedDataset, rows: np.ndarray, options: EvaluateOptions) -> Measuring:
    """Measure in mm where the spacing of every case is known, else in pixels: units are never mixed.

    The tolerance of NSD is 1 mm or 2 pixels where none is given.

    Raises
    ------
    InputError
        If a smallest lesion is given in mm² and the spacing is not known.
    """
    in_mm = bool((dataset.manifest["pixel_spacing"].to_numpy(dtype=str)[rows] != "").all())
    if options.min_lesion_mm2 is not None and not in_mm:
        raise InputError(
            f"--min-lesion-mm2 needs every image's pixel spacing; '{dataset.info.name}' does not have it.",
            "Give the smallest lesion as a share of the image with --min-lesion.",
        )
    tolerance = options.tolerance if options.tolerance is not None else (1.0 if in_mm else 2.0)
    return Measuring(in_mm, tolerance, options.min_lesion, options.min_lesion_mm2)


@dataclass(frozen=True)
class Measured:
    """Every case of the split, measured."""

    rows: np.ndarray  #: ndarray of int64, shape (n,): In the order of `cases`.
    cases: list[SegmentationCase]  #: At the chosen threshold.
    #: ndarray of float, shape (n, BINS - 1): Dice at each threshold; NaN for a case without lesion.
    sweep: np.ndarray
    #: ndarray of float, shape (n,): Dice of the truth itself, stored at the model's size and brought back;
    #: NaN for a case without lesion.
    ceiling: np.ndarray
    #: The same cases after each step that is `offered`, by its name.
    options: dict[str, list[SegmentationCase]]


def measure(
    context: EvaluationContext,
    threshold: float,
    how: Measuring,
    *,
    batch_size: int | None,
    min_area: int = 0,
    extra: Sequence[str] = (),
    track: Track = silent,
    workers: int | None = None,
) -> Measured:
    """Measure every selected case at its original resolution.

    From `POOL_FROM` cases on, `workers` processes (default: `worker_count`) measure beside the network; the
    numbers are the same with any number of them.

    Raises
    ------
    EnvironmentFault
        If such a process ended, as where memory runs out.
    """
    data, rows = context.dataset, context.selection.rows
    stream = network_outputs(context.model, data.images, rows, batch_size=batch_size, track=track)
    cases = (_as_stored(data, row, square, how.spacing(data, row)) for row, square in stream)
    work = partial(_measure_one, threshold=threshold, how=how, steps=offered(min_area), extra=tuple(extra))
    count = workers if workers is not None else worker_count() if len(rows) >= POOL_FROM else 1
    if count == 1:
        found = [work(case) for case in cases]
    else:
        try:
            # Less urgent than the network: torch's threads wait for each other in every operation.
            with processes(count, niceness=10) as pool:
                found = list(ahead(pool, work, cases, depth=2 * count))
        except BrokenProcessPool:
            raise EnvironmentFault(
                f"One of {count} processes that compute the metrics ended, probably because memory ran out.",
                "Give the command more memory, or one core: taskset -c 0 gcsam-med evaluate ...",
            ) from None
    return Measured(
        rows,
        [one.plain for one in found],
        np.array([one.sweep for one in found]).reshape(len(rows), BINS - 1),
        np.array([one.ceiling for one in found]),
        {steps.name: [one.options[i] for one in found] for i, steps in enumerate(offered(min_area))},
    )


@dataclass(frozen=True)
class _StoredCase:
    """A case as it was read and as the network answered it."""

    probability: np.ndarray  #: ndarray of float32, shape (size, size).
    truth: np.ndarray  #: ndarray of bool, shape (height, width).
    stored: np.ndarray  #: ndarray of uint8, shape (size, size): The truth at the model's size.
    geometry: Letterbox
    spacing: tuple[float, float]  #: Row and column, in the unit of `Measuring`.


@dataclass(frozen=True)
class _MeasuredCase:
    """Every metric of a case; the fields are those of `Measured`."""

    plain: SegmentationCase
    options: list[SegmentationCase]
    sweep: np.ndarray
    ceiling: float


def _as_stored(
    data: PreparedDataset, row: int, probability: np.ndarray, spacing: tuple[float, float]
) -> _StoredCase:
    truth, stored = data.original_mask(row), data.masks([row])[0]
    return _StoredCase(probability, truth, stored, data.geometry(row), spacing)


def _measure_one(
    case: _StoredCase,
    threshold: float,
    how: Measuring,
    steps: Sequence[Postprocessing],
    extra: Sequence[str],
) -> _MeasuredCase:
    truth = case.truth
    probability = case.geometry.restore(case.probability)
    plain = to_mask(probability, threshold)
    measured = measure_case(how.pair(plain, truth, case.spacing), extra)
    options = []
    for step in steps:
        mask = to_mask(probability, threshold, step)
        same = np.array_equal(mask, plain)
        options.append(measured if same else measure_case(how.pair(mask, truth, case.spacing), extra))
    if not truth.any():
        return _MeasuredCase(measured, options, np.full(BINS - 1, np.nan), np.nan)
    stored = case.geometry.restore(case.stored.astype(np.float32)) >= DEFAULT_THRESHOLD
    both, marked = np.count_nonzero(stored & truth), np.count_nonzero(stored)
    ceiling = dice_of_counts(both, marked, np.count_nonzero(truth))
    return _MeasuredCase(measured, options, dice_by_threshold(probability, truth), ceiling)


def joined(parts: Sequence[Measured]) -> Measured:
    """Join the cases of several models, in manifest order."""
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows, kind="stable")
    cases = [case for part in parts for case in part.cases]
    options = {name: [case for part in parts for case in part.options[name]] for name in parts[0].options}
    return Measured(
        rows[order],
        [cases[i] for i in order],
        np.concatenate([part.sweep for part in parts])[order],
        np.concatenate([part.ceiling for part in parts])[order],
        {name: [those[i] for i in order] for name, those in options.items()},
    )


def case_table(context: EvaluationContext, measured: Measured, how: Measuring) -> pd.DataFrame:
    """Return ``cases.csv``: one row for each case, in manifest order."""
    manifest = context.dataset.manifest.iloc[measured.rows]
    table = pd.DataFrame(
        {
            name: pd.Series([c.values.get(name) for c in measured.cases], dtype="float64")
            for name in shown_in("cases", "segmentation")
            if not measured.cases or name in measured.cases[0].values
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
