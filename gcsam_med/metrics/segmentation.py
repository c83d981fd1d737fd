"""How well a predicted mask agrees with the true one: a metric is a function of one `MaskPair`.

The policy for empty masks is the same in every function. An image whose truth is empty (a normal) has no
overlap and no distance, whatever was predicted: ``None``. What was marked on it is counted by the detection
metrics. An empty prediction on a lesion scores 0 in overlap and the **image diagonal** in distance, the
largest distance the image can hold. Leaving the case out (NaN, as MONAI's mean does) would reward a network
for missing lesions; this way the case stays in the mean, and missing a lesion is never better than finding it
badly. (The BraTS challenges score a missed tumour in the same way.)

The outline of a mask is the set of its pixels with a 4-neighbour outside it (pixels on the image's border
count: beyond the border is outside). All distances run between pixel centres, in the unit of the spacing.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gcsam_med.errors import MissingExtra
from gcsam_med.metrics.intervals import Floats
from gcsam_med.metrics.regions import MIN_IOU, Detection, Mask, Spacing, bounding_box, detect

# Room for rounding when a distance is compared to a tolerance: 3 pixels of 0.1 mm are 0.30000000000000004 mm.
_ROUNDING = 1e-9


class MaskPair:
    """Prediction and truth of one case; what several metrics share is computed once, when first asked for.

    Parameters
    ----------
    pred, truth : array_like of bool (or 0 and 1), shape [H, W]
        The masks.
    spacing : tuple of (float, float)
        Distance between rows and between columns, in mm where known, else 1 for pixels.
    tolerance : float
        Of the normalised surface Dice, in the unit of the spacing.
    min_iou : float
        Overlap at which a lesion counts as found (`regions.detect`).
    min_pixels : float
        Regions of fewer pixels count neither as lesions nor as false marks; their pixels count in Dice.

    Raises
    ------
    ValueError
        If the masks, the spacing or the tolerance are malformed.
    """

    def __init__(
        self,
        pred: npt.ArrayLike,
        truth: npt.ArrayLike,
        *,
        spacing: Spacing = (1.0, 1.0),
        tolerance: float = 1.0,
        min_iou: float = MIN_IOU,
        min_pixels: float = 0,
    ) -> None:
        self.pred, self.truth = _checked(pred, "prediction"), _checked(truth, "truth")
        if self.pred.shape != self.truth.shape:
            raise ValueError(f"Prediction {self.pred.shape} and truth {self.truth.shape} differ in shape.")
        if len(spacing) != 2 or not all(np.isfinite(s) and s > 0 for s in spacing):
            raise ValueError(f"Spacing must be two positive numbers (row, column), got {spacing}.")
        if tolerance < 0:
            raise ValueError(f"A tolerance is 0 or more, got {tolerance}.")
        self.spacing = (float(spacing[0]), float(spacing[1]))
        self.tolerance = tolerance
        self.min_iou, self.min_pixels = min_iou, min_pixels
        self.n_pred = int(np.count_nonzero(self.pred))  #: Marked pixels.
        self.n_truth = int(np.count_nonzero(self.truth))  #: Lesion pixels.
        self.n_both = int(np.count_nonzero(self.pred & self.truth))  #: Lesion pixels that are marked.

    @property
    def normal(self) -> bool:
        """Whether the truth is empty."""
        return self.n_truth == 0

    @property
    def empty(self) -> bool:
        """Whether the prediction is empty."""
        return self.n_pred == 0

    @property
    def pixel_area(self) -> float:
        """Area of a pixel, in square units of the spacing."""
        return self.spacing[0] * self.spacing[1]

    @property
    def diagonal(self) -> float:
        """Largest distance between two pixel centres of the image."""
        (height, width), (row, column) = self.truth.shape, self.spacing
        return float(np.hypot((height - 1) * row, (width - 1) * column))

    @cached_property
    def detection(self) -> Detection:
        """Lesions of the image, found and false ones counted."""
        return detect(self.pred, self.truth, self.min_iou, self.min_pixels)

    @cached_property
    def distances(self) -> tuple[Floats, Floats]:
        """Distances of each mask's outline pixels to the other outline, both ways; neither mask is empty."""
        from scipy.spatial import KDTree

        box = bounding_box(self.pred | self.truth)
        # Outlines are thin: a k-d tree over their pixels beats a distance transform of the whole box.
        pred, truth = (
            np.argwhere(outline(m[box])) * np.asarray(self.spacing) for m in (self.pred, self.truth)
        )
        return KDTree(truth).query(pred)[0], KDTree(pred).query(truth)[0]


def _checked(mask: npt.ArrayLike, name: str) -> Mask:
    array = np.asarray(mask)
    if array.ndim != 2:
        raise ValueError(f"The {name} must be a mask [H, W], got shape {array.shape}.")
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise ValueError(f"The {name} must hold only 0 and 1 (or booleans).")
    return array.astype(np.bool_, copy=False)


def outline(mask: Mask) -> Mask:
    """Return the pixels of a mask [H, W] with a 4-neighbour outside it; beyond the image is outside."""
    inside = np.pad(mask, 1)
    inner = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return mask & ~inner


def dice_of_counts(both: Any, pred: Any, truth: Any) -> Any:
    """Return the Dice similarity coefficient of pixel counts, numbers or arrays, in [0, 1].

    Pixels in both masks, in the prediction and in the truth; the last two are not both 0. Dice, Ecology
    26(3), 1945.
    """
    return 2 * both / (pred + truth)


def dice(case: MaskPair) -> float | None:
    """Return the Dice similarity coefficient: twice the overlap over the summed areas, in [0, 1].

    Examples
    --------
    >>> dice(MaskPair([[1, 1], [0, 0]], [[1, 0], [0, 0]]))
    0.6666666666666666
    """
    return None if case.normal else dice_of_counts(case.n_both, case.n_pred, case.n_truth)


def iou(case: MaskPair) -> float | None:
    """Return the intersection over union (Jaccard index), in [0, 1].

    Examples
    --------
    >>> iou(MaskPair([[1, 1], [0, 0]], [[1, 0], [0, 0]]))
    0.5
    """
    return None if case.normal else case.n_both / (case.n_pred + case.n_truth - case.n_both)


def hausdorff(case: MaskPair, percentile: float = 100.0) -> float | None:
    """Return the larger of the two directed percentiles of the surface distances, 100: Hausdorff distance.

    Percentiles are interpolated linearly. "Larger of the two directed 95th percentiles" is the convention of
    MONAI and of Metrics Reloaded (Maier-Hein et al., Nature Methods 21, 2024). Others pool both directions
    first, which gives a smaller value.
    """
    if case.normal or case.empty:
        return None if case.normal else case.diagonal
    return float(max(np.percentile(directed, percentile) for directed in case.distances))


def hd95(case: MaskPair) -> float | None:
    """Return the 95th percentile of the surface distances (see `hausdorff`), in the unit of the spacing."""
    return hausdorff(case, 95.0)


def hd95_of_diagonal(case: MaskPair) -> float | None:
    """Return `hd95` as a share of the image's diagonal, in [0, 1]."""
    distance = hd95(case)
    return None if distance is None else distance / case.diagonal if case.diagonal else 0.0


def assd(case: MaskPair) -> float | None:
    """Return the average symmetric surface distance, in the unit of the spacing.

    ASSD of Heimann et al., IEEE TMI 28(8), 2009: each outline pixel has the same weight, not each direction.
    """
    if case.normal or case.empty:
        return None if case.normal else case.diagonal
    return float(np.concatenate(case.distances).mean())


def nsd(case: MaskPair) -> float | None:
    """Return the share of both outlines within the tolerance (inclusive) of the other, in [0, 1].

    The normalised surface Dice of Nikolov et al., J Med Internet Res 23(7), 2021 (arXiv 1809.04430), with
    outlines counted in pixels (as MONAI with ``use_subvoxels=False``), not in length.
    """
    if case.normal or case.empty:
        return None if case.normal else 0.0
    return float(np.mean(np.concatenate(case.distances) <= case.tolerance * (1 + _ROUNDING) + 1e-12))


def pixel_sensitivity(case: MaskPair) -> float | None:
    """Return the share of the lesion's pixels that are marked, in [0, 1]."""
    return None if case.normal else case.n_both / case.n_truth


def pixel_specificity(case: MaskPair) -> float | None:
    """Return the share of pixels outside the lesion left unmarked, in [0, 1]; normals have one, too."""
    outside = case.truth.size - case.n_truth
    return (outside - case.n_pred + case.n_both) / outside if outside else None


def pixel_precision(case: MaskPair) -> float | None:
    """Return the share of the marked pixels that belong to the lesion, in [0, 1]; 0 if nothing is marked."""
    if case.normal:
        return None
    return 0.0 if case.empty else case.n_both / case.n_pred


def area_error(case: MaskPair) -> float:
    """Return predicted minus true area, in square units of the spacing."""
    return (case.n_pred - case.n_truth) * case.pixel_area


def relative_area_error(case: MaskPair) -> float | None:
    """Return predicted minus true area over the true area: -1 for a missed lesion, no upper bound."""
    return None if case.normal else (case.n_pred - case.n_truth) / case.n_truth


def unmarked(case: MaskPair) -> list[bool]:
    """Return one flag: whether nothing is marked."""
    return [case.empty]


def undetected(case: MaskPair) -> list[bool]:
    """Return one flag: whether not one lesion of the image is found; none if it holds specks only."""
    return [case.detection.found == 0] if case.detection.lesions else []


def lesions_found(case: MaskPair) -> list[bool]:
    """Return a flag for each lesion: whether it is found."""
    return [i < case.detection.found for i in range(case.detection.lesions)]


def false_positives(case: MaskPair) -> float:
    """Return the number of predicted regions that hit no lesion."""
    return float(case.detection.false_positives)


def cldice(case: MaskPair) -> float | None:
    """Return the centreline Dice, in [0, 1]: for tubes, such as vessels, of which Dice sees only the area.

    Harmonic mean of the share of the prediction's skeleton inside the truth and of the truth's inside the
    prediction (Shit et al., CVPR 2021, arXiv 2003.07801, equations 1 and 2), skeletons by scikit-image.

    Raises
    ------
    MissingExtra
        If scikit-image is not installed.
    """
    try:
        from skimage.morphology import skeletonize
    except ImportError:
        raise MissingExtra("The metric clDice", "skeleton") from None
    if case.normal or case.empty:
        return None if case.normal else 0.0
    precision = case.truth[skeletonize(case.pred)].mean()
    sensitivity = case.pred[skeletonize(case.truth)].mean()
    both = float(precision + sensitivity)
    return 2 * float(precision * sensitivity) / both if both else 0.0
