"""Choosing, on validation, the probability from which a case is called positive, or a pixel is foreground."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gcsam_med.errors import InputError
from gcsam_med.metrics.intervals import Floats
from gcsam_med.metrics.roc import roc_curve
from gcsam_med.metrics.segmentation import dice_of_counts

DEFAULT_THRESHOLD = 0.5
BINS = 50
# Thresholds 0.02, 0.04, ... 0.98: the candidates of a segmentation.
THRESHOLDS = np.arange(1, BINS) / BINS


def choose_threshold(positive: npt.ArrayLike, prob: npt.ArrayLike) -> float:
    """Choose the threshold of largest sensitivity + specificity on validation cases.

    (Youden, Cancer 3(1), 1950.) `positive` (truth, both classes present) and `prob` (of being positive, in
    [0, 1]) are [N]. A case is called positive if its probability is at least the threshold, which lies in
    [0, 1], or just above 1 if even a probability of 1 must not be called. Of thresholds that do equally well
    it is the middle of the widest gap between scores: halfway between the last called and the first not
    called score, which carries over to other cases better than the score itself.

    Raises
    ------
    InputError
        If a class is missing.
    """
    curve = roc_curve(positive, prob)
    if curve is None:
        raise InputError(
            "An operating point needs both positive and negative validation cases.",
            "Use another split or fold, or state a threshold.",
        )
    gain = curve.sensitivity + curve.specificity
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    # The score at each point is the last one called; the next point's is the first one not called.
    called = curve.threshold[best]
    not_called = np.append(curve.threshold[1:], 0.0)[best]
    widest = int((np.minimum(called, 1.0) - not_called).argmax())
    threshold = float(min(called[widest], 1.0) + not_called[widest]) / 2
    if threshold <= not_called[widest] < called[widest]:
        # Neighbouring floating-point numbers have no middle; a score of 1 that must not be called has nothing
        # above.
        threshold = float(np.nextafter(not_called[widest], np.inf))
    return threshold


def dice_by_threshold(probability: Floats, truth: npt.NDArray[np.bool_]) -> Floats:
    """Return the Dice at each of `THRESHOLDS`, shape (BINS - 1,), of a case that holds a lesion.

    Parameters
    ----------
    probability : ndarray of float, shape (H, W)
        At the original resolution.
    truth : ndarray of bool, shape (H, W)
        With at least one pixel.
    """
    # One pass over the pixels serves all thresholds: count them by probability, sum from above. The small
    # addition undoes rounding: 0.58 * 50 is a little less than 29.
    level = np.clip(probability.ravel() * BINS + 1e-5, 0, BINS - 1).astype(np.uint8)
    inside = np.bincount(level[truth.ravel()], minlength=BINS)
    everywhere = np.bincount(level, minlength=BINS)
    marked_inside = inside[::-1].cumsum()[::-1][1:]
    marked = everywhere[::-1].cumsum()[::-1][1:]
    return np.asarray(dice_of_counts(marked_inside, marked, truth.sum()))


def best_dice_threshold(dice: Floats) -> float:
    """Return the threshold of highest mean Dice; among equals (within 0.0005) the nearest to 0.5.

    Parameters
    ----------
    dice : ndarray of float, shape (cases, BINS - 1)
        From `dice_by_threshold`.
    """
    mean = dice.mean(axis=0)
    good = np.flatnonzero(mean >= mean.max() - 5e-4)
    return float(THRESHOLDS[good[np.abs(THRESHOLDS[good] - DEFAULT_THRESHOLD).argmin()]])


def nearest_threshold(threshold: float) -> int:
    """Return the place of the nearest candidate among `THRESHOLDS`."""
    return int(np.abs(THRESHOLDS - threshold).argmin())
