"""Distances between the outlines of two masks: Hausdorff, HD95, average distance, normalised surface Dice.

The outline of a mask is the set of its pixels with a 4-neighbour outside it (pixels on the image's border
count: beyond the border is outside). All distances run between pixel centres, in the unit of ``spacing``.

One mask empty: there is no distance to measure, and leaving the case out (NaN, as MONAI's mean does) rewards
a network for missing lesions. Such a case scores the **image diagonal**, the largest distance the image can
hold, so that the mean stays finite, the case stays in it, and missing a lesion can never be better than
finding it badly. (The BraTS challenges score a missed tumour in the same way.) NSD is 0. Both masks empty:
``None``, there is nothing to compare.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Spacing = tuple[float, float]

# Room for rounding when a distance is compared to a tolerance: 3 pixels of 0.1 mm are 0.30000000000000004 mm.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distances from each outline pixel of one mask to the nearest outline pixel of the other."""

    pred_to_truth: Floats  #: One distance per outline pixel of the prediction; empty if either mask is empty.
    truth_to_pred: Floats  #: One distance per outline pixel of the truth; empty if either mask is empty.
    empty: str  #: ``"neither"``, ``"one"`` or ``"both"``: which of the masks have no pixel.
    diagonal: float  #: Largest distance between two pixel centres of the image, the score of a missed lesion.


def check_masks(pred: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Mask, Mask]:
    """Return both masks [H, W], boolean or of 0 and 1, as boolean arrays.

    Raises
    ------
    ValueError
        If a mask is not two-dimensional, the shapes differ, or a value is neither 0 nor 1.
    """
    masks = []
    for name, mask in (("prediction", np.asarray(pred)), ("truth", np.asarray(truth))):
        if mask.ndim != 2:
            raise ValueError(f"The {name} must be a mask [H, W], got shape {mask.shape}.")
        if mask.dtype != np.bool_ and not np.isin(mask, (0, 1)).all():
            raise ValueError(f"The {name} must hold only 0 and 1 (or booleans).")
        masks.append(mask.astype(np.bool_, copy=False))
    if masks[0].shape != masks[1].shape:
        raise ValueError(f"Prediction {masks[0].shape} and truth {masks[1].shape} differ in shape.")
    return masks[0], masks[1]


def check_spacing(spacing: Spacing) -> Spacing:
    """Return the distance between rows and between columns; ValueError if not positive and finite."""
    if len(spacing) != 2 or not all(np.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"Spacing must be two positive numbers (row, column), got {spacing}.")
    return float(spacing[0]), float(spacing[1])


def image_diagonal(shape: tuple[int, int], spacing: Spacing = (1.0, 1.0)) -> float:
    """Return the largest distance between two pixel centres of an image, in the unit of the spacing."""
    return float(np.hypot((shape[0] - 1) * spacing[0], (shape[1] - 1) * spacing[1]))


def bounding_box(mask: Mask) -> tuple[slice, slice]:
    """Return rows and columns of the smallest box that holds every pixel of a mask that has one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def outline(mask: Mask) -> Mask:
    """Return the pixels of a mask [H, W] with a 4-neighbour outside it; beyond the image is outside."""
    inside = np.pad(mask, 1)
    inner = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return mask & ~inner


def surface_distances(
    pred: npt.ArrayLike, truth: npt.ArrayLike, spacing: Spacing = (1.0, 1.0)
) -> SurfaceDistances:
    """Measure the exact Euclidean distances between two outlines, both ways, in the unit of the spacing.

    Raises
    ------
    ValueError
        If the masks or the spacing are malformed.
    """
    pred, truth = check_masks(pred, truth)
    spacing = check_spacing(spacing)
    diagonal = image_diagonal(pred.shape, spacing)
    none = np.empty(0)
    empty_masks = int(not pred.any()) + int(not truth.any())
    if empty_masks:
        return SurfaceDistances(none, none, "both" if empty_masks == 2 else "one", diagonal)
    box = bounding_box(pred | truth)
    # Outlines are thin: a k-d tree over their pixels beats a distance transform of the whole box.
    points_pred = np.argwhere(outline(pred[box])) * np.asarray(spacing)
    points_truth = np.argwhere(outline(truth[box])) * np.asarray(spacing)
    return SurfaceDistances(
        _nearest(points_pred, points_truth), _nearest(points_truth, points_pred), "neither", diagonal
    )


def hausdorff(distances: SurfaceDistances, percentile: float = 100.0) -> float | None:
    """Return the larger of the two directed percentiles of the distances; 100 is the Hausdorff distance.

    The image diagonal if one mask is empty, ``None`` if both are. Percentiles are interpolated linearly.
    "Larger of the two directed 95th percentiles" is the convention of MONAI and of Metrics Reloaded
    (Maier-Hein et al., Nature Methods 21, 2024). Others pool both directions first, which gives a smaller
    value.

    Raises
    ------
    ValueError
        If the percentile lies outside (0, 100].
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"A percentile lies in (0, 100], got {percentile}.")
    if distances.empty != "neither":
        return None if distances.empty == "both" else distances.diagonal
    both_ways = (distances.pred_to_truth, distances.truth_to_pred)
    return float(max(np.percentile(directed, percentile) for directed in both_ways))


def average_surface_distance(distances: SurfaceDistances) -> float | None:
    """Return the mean over the outline pixels of both masks of the distance to the other.

    The image diagonal if one mask is empty, ``None`` if both are. ASSD of Heimann et al., IEEE TMI 28(8),
    2009: every outline pixel has the same weight, not every direction.
    """
    if distances.empty != "neither":
        return None if distances.empty == "both" else distances.diagonal
    return float(np.concatenate((distances.pred_to_truth, distances.truth_to_pred)).mean())


def normalised_surface_dice(distances: SurfaceDistances, tolerance: float) -> float | None:
    """Return the share of both outlines that lies within a tolerance (inclusive) of the other.

    0 if one mask is empty, ``None`` if both are. Nikolov et al., J Med Internet Res 23(7), 2021 (arXiv
    1809.04430), with outlines counted in pixels (as MONAI with ``use_subvoxels=False``), not in length.

    Raises
    ------
    ValueError
        If the tolerance is negative.
    """
    if tolerance < 0:
        raise ValueError(f"A tolerance is 0 or more, got {tolerance}.")
    if distances.empty != "neither":
        return None if distances.empty == "both" else 0.0
    every = np.concatenate((distances.pred_to_truth, distances.truth_to_pred))
    return float(np.mean(every <= tolerance * (1 + _ROUNDING) + 1e-12))


def _nearest(points: Floats, targets: Floats) -> Floats:
    from scipy.spatial import KDTree

    return KDTree(targets).query(points)[0]
