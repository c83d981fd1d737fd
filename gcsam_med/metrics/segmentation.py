"""How well a mask agrees with the truth, case by case.

Policy for empty masks, the same in every function: both empty, the figure is ``None`` (nothing to compare);
one of them empty, overlap scores 0 and distances score the image diagonal (see `surface`). `measure_case`
adds the policy for normals: a case whose truth is empty has no overlap or distance figure at all, whatever
was predicted (a mean Dice over lesions and normals together says nothing); what was marked on it is counted
in the detection figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.detection import MIN_IOU, Detection, detect
from gcsam_med.metrics.surface import (
    Spacing,
    average_surface_distance,
    check_masks,
    check_spacing,
    hausdorff,
    normalised_surface_dice,
    surface_distances,
)


@dataclass(frozen=True, slots=True)
class SegmentationCase:
    """Every figure of one case."""

    #: dice, iou: Overlap in [0, 1]; 0 for a missed lesion; ``None`` for a normal.
    dice: float | None
    iou: float | None
    #: hd, hd95, assd: Surface distances in the unit of the spacing; the image diagonal for a missed lesion;
    #: ``None`` for a normal.
    hd: float | None
    hd95: float | None
    assd: float | None
    #: Normalised surface Dice in [0, 1] at the tolerance asked for; 0 for a missed lesion; ``None`` for a
    #: normal.
    nsd: float | None
    #: sensitivity, specificity, precision: Of pixels, in [0, 1]. Specificity is given for normals too.
    #: Sensitivity and precision are 0 for a missed lesion and ``None`` for a normal.
    sensitivity: float | None
    specificity: float | None
    precision: float | None
    #: area_truth, area_pred: In square units of the spacing.
    area_truth: float
    area_pred: float
    area_error: float  #: ``area_pred - area_truth``.
    area_error_relative: float | None  #: ``area_error / area_truth``; ``None`` for a normal.
    detection: Detection  #: Lesions, found, false positives.
    normal: bool  #: The truth is empty.
    empty: bool  #: The prediction is empty. On a lesion: the whole case is missed.


def pixel_counts(pred: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[int, int, int, int]:
    """Count true positive, false positive, false negative and true negative pixels.

    Parameters
    ----------
    pred, truth : array_like of bool, shape [H, W]
        The masks.

    Returns
    -------
    tuple of int
        ``tp, fp, fn, tn``.

    Raises
    ------
    ValueError
        If the masks are malformed.
    """
    pred, truth = check_masks(pred, truth)
    tp = int(np.count_nonzero(pred & truth))
    n_pred, n_truth = int(np.count_nonzero(pred)), int(np.count_nonzero(truth))
    return tp, n_pred - tp, n_truth - tp, pred.size - n_pred - n_truth + tp


def dice(pred: npt.ArrayLike, truth: npt.ArrayLike) -> float | None:
    """Return the Dice similarity coefficient, twice the overlap over the summed areas.

    Parameters
    ----------
    pred, truth : array_like of bool, shape [H, W]
        The masks.

    Returns
    -------
    float or None
        In [0, 1]; 0 if one mask is empty, ``None`` if both are.

    Notes
    -----
    Dice, Ecology 26(3), 1945.

    Examples
    --------
    >>> dice([[1, 1], [0, 0]], [[1, 0], [0, 0]])
    0.6666666666666666
    """
    tp, fp, fn, _ = pixel_counts(pred, truth)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def iou(pred: npt.ArrayLike, truth: npt.ArrayLike) -> float | None:
    """Return the intersection over union (Jaccard index).

    Parameters
    ----------
    pred, truth : array_like of bool, shape [H, W]
        The masks.

    Returns
    -------
    float or None
        In [0, 1]; 0 if one mask is empty, ``None`` if both are.

    Examples
    --------
    >>> iou([[1, 1], [0, 0]], [[1, 0], [0, 0]])
    0.5
    """
    tp, fp, fn, _ = pixel_counts(pred, truth)
    return _ratio(tp, tp + fp + fn)


def pixel_sensitivity(pred: npt.ArrayLike, truth: npt.ArrayLike) -> float | None:
    """Return the share of the lesion's pixels that were marked; ``None`` if the truth is empty.

    Parameters
    ----------
    pred, truth : array_like of bool, shape [H, W]
        The masks.

    Returns
    -------
    float or None
        In [0, 1].
    """
    tp, _, fn, _ = pixel_counts(pred, truth)
    return _ratio(tp, tp + fn)


def pixel_precision(pred: npt.ArrayLike, truth: npt.ArrayLike) -> float | None:
    """Return the share of the marked pixels that belong to the lesion; ``None`` if nothing was marked.

    Parameters
    ----------
    pred, truth : array_like of bool, shape [H, W]
        The masks.

    Returns
    -------
    float or None
        In [0, 1].
    """
    tp, fp, _, _ = pixel_counts(pred, truth)
    return _ratio(tp, tp + fp)


def pixel_specificity(pred: npt.ArrayLike, truth: npt.ArrayLike) -> float | None:
    """Return the share of pixels outside the lesion left unmarked; ``None`` if the truth fills the image.

    Parameters
    ----------
    pred, truth : array_like of bool, shape [H, W]
        The masks.

    Returns
    -------
    float or None
        In [0, 1].
    """
    _, fp, _, tn = pixel_counts(pred, truth)
    return _ratio(tn, tn + fp)


def area(mask: npt.ArrayLike, spacing: Spacing = (1.0, 1.0)) -> float:
    """Return the area of a mask.

    Parameters
    ----------
    mask : array_like of bool, shape [H, W]
        The mask.
    spacing : tuple of (float, float)
        Distance between rows and between columns, in mm or 1 for pixels.

    Returns
    -------
    float
        In square units of the spacing.
    """
    row, column = check_spacing(spacing)
    return float(np.count_nonzero(check_masks(mask, mask)[0])) * row * column


def hd95(pred: npt.ArrayLike, truth: npt.ArrayLike, spacing: Spacing = (1.0, 1.0)) -> float | None:
    """Return the larger of the two directed 95th percentiles of the surface distances.

    Parameters
    ----------
    pred, truth : array_like of bool, shape [H, W]
        The masks.
    spacing : tuple of (float, float)
        Distance between rows and between columns, in mm or 1 for pixels.

    Returns
    -------
    float or None
        In the unit of the spacing; the image diagonal if one mask is empty, ``None`` if both are
        (`surface.hausdorff`).
    """
    return hausdorff(surface_distances(pred, truth, spacing), 95.0)


def nsd(
    pred: npt.ArrayLike, truth: npt.ArrayLike, tolerance: float, spacing: Spacing = (1.0, 1.0)
) -> float | None:
    """Return the normalised surface Dice at a tolerance.

    Parameters
    ----------
    pred, truth : array_like of bool, shape [H, W]
        The masks.
    tolerance : float
        Largest accepted distance, in the unit of the spacing.
    spacing : tuple of (float, float)
        Distance between rows and between columns, in mm or 1 for pixels.

    Returns
    -------
    float or None
        In [0, 1]; 0 if one mask is empty, ``None`` if both are (`surface.normalised_surface_dice`).
    """
    return normalised_surface_dice(surface_distances(pred, truth, spacing), tolerance)


def measure_case(
    pred: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    tolerance: float,
    spacing: Spacing = (1.0, 1.0),
    min_iou: float = MIN_IOU,
) -> SegmentationCase:
    """Measure everything on one case at its own resolution.

    Parameters
    ----------
    pred, truth : array_like of bool, shape [H, W]
        The masks.
    tolerance : float
        Of the normalised surface Dice, in the unit of the spacing.
    spacing : tuple of (float, float)
        Distance between rows and between columns, in mm where known, else 1 for pixels.
    min_iou : float
        Overlap at which a lesion counts as found (`detection.detect`).

    Returns
    -------
    SegmentationCase
        The figures, under the policy at the head of this module.

    Raises
    ------
    ValueError
        If the masks, the spacing or the tolerance are malformed.
    """
    pred, truth = check_masks(pred, truth)
    spacing = check_spacing(spacing)
    tp, fp, fn, tn = pixel_counts(pred, truth)
    pixel_area = spacing[0] * spacing[1]
    normal = tp + fn == 0
    distances = surface_distances(pred, truth, spacing)
    surface_dice = normalised_surface_dice(distances, tolerance)
    return SegmentationCase(
        dice=None if normal else _ratio(2 * tp, 2 * tp + fp + fn),
        iou=None if normal else _ratio(tp, tp + fp + fn),
        hd=None if normal else hausdorff(distances),
        hd95=None if normal else hausdorff(distances, 95.0),
        assd=None if normal else average_surface_distance(distances),
        nsd=None if normal else surface_dice,
        sensitivity=_ratio(tp, tp + fn),
        specificity=_ratio(tn, tn + fp),
        precision=None if normal else _ratio(tp, tp + fp) or 0.0,
        area_truth=(tp + fn) * pixel_area,
        area_pred=(tp + fp) * pixel_area,
        area_error=(fp - fn) * pixel_area,
        area_error_relative=_ratio(fp - fn, tp + fn),
        detection=detect(pred, truth, min_iou),
        normal=normal,
        empty=tp + fp == 0,
    )


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
