"""Connected regions of a mask: which lesions were found, which marks are false, and how large a region is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float]

MIN_IOU = 0.1
# Smaller regions are specks: traces of annotating or of rounding, not lesions. In BUSI 17 regions of the
# masks have 1 to 8 pixels (up to 3e-5 of the image), the next larger one has 569 (2e-3).
MIN_SHARE = 1e-4


@dataclass(frozen=True, slots=True)
class Detection:
    """Lesions of one image, counted."""

    lesions: int  #: Lesions in the truth (8-connected components); 0 for a normal image or specks only.
    found: int  #: Lesions matched by a predicted component; at most ``lesions``.
    false_positives: int  #: Predicted components that match no lesion.


def bounding_box(mask: Mask) -> tuple[slice, slice]:
    """Return rows and columns of the smallest box that holds every pixel of a mask that has one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def components(mask: Mask) -> tuple[npt.NDArray[np.int32], int]:
    """Number the 8-connected components of a mask [H, W]: labels, 0 outside, and how many there are."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=bool))
    return labels, int(count)


def detect(pred: Mask, truth: Mask, min_iou: float = MIN_IOU, min_pixels: float = 0) -> Detection:
    """Match predicted components to lesions, one to one, and count what is found, missed and false.

    Of all one-to-one matchings it is the one with the largest summed IoU. A second fragment over a lesion
    that is matched already is a false positive. (Localisation by mask IoU at a low threshold: Metrics
    Reloaded, Maier-Hein et al., Nature Methods 21, 2024, instance-level categories.)

    Parameters
    ----------
    pred, truth : ndarray of bool, shape [H, W]
        The masks. Lesions that touch (8-neighbourhood) in the mask count as one.
    min_iou : float
        A lesion and a predicted component can match if their IoU is at least this; in (0, 1], else
        ValueError. The default of 0.1 asks for a hint at the right place: outlines are what Dice and HD95
        judge.
    min_pixels : float
        Components of fewer pixels are left out, of truth and prediction alike.
    """
    from scipy.optimize import linear_sum_assignment

    if not 0 < min_iou <= 1:
        raise ValueError(f"min_iou lies in (0, 1], got {min_iou}.")
    either = pred | truth
    if not either.any():
        return Detection(0, 0, 0)
    box = bounding_box(either)
    (pred_labels, n_pred), (truth_labels, n_truth) = (
        _without_specks(*components(mask[box]), min_pixels) for mask in (pred, truth)
    )
    if n_pred == 0 or n_truth == 0:
        return Detection(n_truth, 0, n_pred)
    both = (pred_labels > 0) & (truth_labels > 0)
    # Entry [i, j] is the overlap of lesion i with predicted component j, in pixels.
    pairs = (truth_labels[both] - 1) * n_pred + pred_labels[both] - 1
    shared = np.bincount(pairs, minlength=n_truth * n_pred).reshape(n_truth, n_pred)
    area_truth = np.bincount(truth_labels.ravel())[1:]
    area_pred = np.bincount(pred_labels.ravel())[1:]
    union = area_truth[:, None] + area_pred[None] - shared
    iou: npt.NDArray[np.float64] = shared / union
    iou[iou < min_iou] = 0.0
    rows, columns = linear_sum_assignment(iou, maximize=True)
    found = int((iou[rows, columns] > 0).sum())
    return Detection(n_truth, found, n_pred - found)


def _without_specks(
    labels: npt.NDArray[np.int32], count: int, min_pixels: float
) -> tuple[npt.NDArray[np.int32], int]:
    """Set components of fewer pixels to 0 and number the others anew."""
    if min_pixels <= 1:
        return labels, count
    large = np.bincount(labels.ravel(), minlength=count + 1) >= min_pixels
    large[0] = False
    number = np.where(large, np.cumsum(large), 0).astype(np.int32)
    return number[labels], int(large.sum())


def specks(mask: Mask, min_pixels: float) -> int:
    """Count the components of fewer pixels."""
    labels, count = components(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return int((sizes < min_pixels).sum()) if min_pixels > 1 else 0


def diameters(mask: Mask, spacing: Spacing = (1.0, 1.0)) -> tuple[float, float]:
    """Measure the long and the short axis of a region, in the unit of `spacing` (of rows and columns).

    The long axis is the largest distance between two of its points (the largest Feret diameter); pixels have
    an area: one alone is as long as its diagonal. The short axis is its extent perpendicular to that. Of
    several regions of the mask (bool, [H, W]) the largest (8-connected) is measured; ValueError if no pixel
    is set.
    """
    from scipy.spatial import ConvexHull, distance

    if not mask.any():
        raise ValueError("an empty mask has no diameters")
    labels, _ = components(mask)
    area = np.bincount(labels.ravel())
    area[0] = 0
    region = labels == area.argmax()
    # Only a row's first and last pixel can be on the hull.
    rows = np.flatnonzero(region.any(axis=1))
    first = region[rows].argmax(axis=1)
    last = region.shape[1] - region[rows][:, ::-1].argmax(axis=1)
    corners = np.concatenate([np.stack([rows + d, x], axis=1) for d in (0, 1) for x in (first, last)])
    points = corners * np.asarray(spacing)
    hull = points[ConvexHull(points).vertices]
    between = distance.cdist(hull, hull)
    a, b = np.unravel_index(between.argmax(), between.shape)
    along = (hull[b] - hull[a]) / between[a, b]
    across = hull @ np.array([-along[1], along[0]])
    return float(between[a, b]), float(np.ptp(across))
