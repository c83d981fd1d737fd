"""How well scores tell positives from negatives: ROC and precision-recall curves, their areas, and DeLong.

The variance of the area under the ROC curve is that of DeLong, DeLong and Clarke-Pearson, Biometrics 44(3),
1988, by the midranks of Sun and Xu, IEEE Signal Processing Letters 21(11), 2014: a sort instead of all
pairs. With groups (several images of a patient) the placements are summed by group first, as Obuchowski,
Biometrics 53(2), 1997, does for clustered data; with one case a group the two agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.classification import check_scores, missing_class
from gcsam_med.metrics.intervals import Z95, Estimate, Floats, group_index


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Points of a ROC curve, from (0, 0) to (1, 1)."""

    specificity: Floats  #: If every score at or above the threshold is called positive.
    sensitivity: Floats  #: The same.
    threshold: Floats  #: Falling; the first is infinite (nothing is called).


@dataclass(frozen=True, slots=True)
class PrecisionRecallCurve:
    """Points of a precision-recall curve, by falling threshold."""

    precision: Floats  #: If every score at or above the threshold is called positive.
    recall: Floats  #: The same; no point is made up at recall 0.
    threshold: Floats  #: The distinct scores, falling.


def roc_curve(positive: npt.ArrayLike, score: npt.ArrayLike) -> RocCurve | None:
    """Return every point of the ROC curve, one a distinct score; ``None`` if a class is missing."""
    from sklearn import metrics

    truth, s = check_scores(positive, score)
    if missing_class(truth):
        return None
    false_positive_rate, sensitivity, threshold = metrics.roc_curve(truth, s, drop_intermediate=False)
    return RocCurve(1 - false_positive_rate, sensitivity, threshold)


def precision_recall_curve(positive: npt.ArrayLike, score: npt.ArrayLike) -> PrecisionRecallCurve | None:
    """Return every point of the precision-recall curve; ``None`` if a class is missing."""
    from sklearn import metrics

    truth, s = check_scores(positive, score)
    if missing_class(truth):
        return None
    precision, recall, threshold = metrics.precision_recall_curve(truth, s)
    # Scikit-learn appends the point (recall 0, precision 1), which no threshold reaches.
    return PrecisionRecallCurve(precision[-2::-1], recall[-2::-1], threshold[::-1])


def sensitivity_at_90_specificity(
    positive: npt.ArrayLike, score: npt.ArrayLike
) -> Callable[[Floats], Floats]:
    """Return the best sensitivity at a specificity of at least 0.9, as `auc_of_weights` does the AUC.

    No interpolation between thresholds: such a point could not be put to use. The threshold is chosen on
    these very cases, so on a test set the value is optimistic; for one that is not, choose on validation
    (`operating_point.choose_threshold`).
    """
    truth, s = check_scores(positive, score)
    order = np.argsort(-s, kind="stable")
    # Cases of equal score are called together: only the last of each run is a point of the curve.
    last = np.append(s[order][1:] != s[order][:-1], True)

    def value(weights: Floats) -> Floats:
        called = weights[:, order].cumsum(axis=1)
        hits = (weights * truth)[:, order].cumsum(axis=1)
        positives, false = hits[:, -1:], called - hits
        negatives = called[:, -1:] - positives
        with np.errstate(invalid="ignore", divide="ignore"):
            good = last & (false <= 0.1 * negatives + 1e-9)
            best = np.where(good, hits, 0.0).max(axis=1) / positives[:, 0]
        return np.where((positives[:, 0] > 0) & (negatives[:, 0] > 0), best, np.nan)

    return value


def roc_auc(positive: npt.ArrayLike, score: npt.ArrayLike) -> float | None:
    """Return the area under the ROC curve; ties count half. ``None`` if a class is missing.

    Mann-Whitney form of Hanley and McNeil, Radiology 143(1), 1982.
    """
    from scipy.stats import rankdata

    truth, s = check_scores(positive, score)
    n_pos, n_neg = int(truth.sum()), int((~truth).sum())
    if not n_pos or not n_neg:
        return None
    return float((rankdata(s)[truth].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def auc_of_weights(positive: npt.ArrayLike, score: npt.ArrayLike) -> Callable[[Floats], Floats]:
    """Return the area under the ROC curve as a function of case weights, from [B, N] to [B].

    NaN if a class is missing. `positive` and `score` are [N], larger scores likelier positive. The scores are
    sorted once, here; each call is one cumulative sum.
    """
    truth, s = np.asarray(positive, dtype=bool), np.asarray(score, dtype=np.float64)
    positives, negatives = np.flatnonzero(truth), np.flatnonzero(~truth)
    negatives = negatives[np.argsort(s[negatives], kind="stable")]
    # Negatives below each positive, and negatives below or equal: half their sum counts ties as one half.
    below = np.searchsorted(s[negatives], s[positives], side="left")
    not_above = np.searchsorted(s[negatives], s[positives], side="right")
    no_ties = np.array_equal(below, not_above)

    def auc(weights: Floats) -> Floats:
        w_pos = weights[:, positives]
        upto = np.zeros((len(weights), len(negatives) + 1))
        np.cumsum(weights[:, negatives], axis=1, out=upto[:, 1:])
        wins = np.einsum("bp,bp->b", w_pos, upto[:, below])
        if not no_ties:
            wins = (wins + np.einsum("bp,bp->b", w_pos, upto[:, not_above])) / 2
        pairs = w_pos.sum(axis=1) * upto[:, -1]
        return np.divide(wins, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)

    return auc


def average_precision_of_weights(positive: npt.ArrayLike, score: npt.ArrayLike) -> Callable[[Floats], Floats]:
    """Return the average precision as a function of case weights, as `auc_of_weights` does the AUC.

    It is the step-wise area under the precision-recall curve; a useless score reaches the share of positives.
    """
    truth, s = np.asarray(positive, dtype=bool), np.asarray(score, dtype=np.float64)
    order = np.argsort(-s, kind="stable")
    truth, s = truth[order], s[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)

    def average_precision(weights: Floats) -> Floats:
        w = weights[:, order]
        called = np.cumsum(w, axis=1)[:, last_of_tie]
        right = np.cumsum(w * truth, axis=1)[:, last_of_tie]
        precision = np.divide(right, called, out=np.zeros_like(right), where=called > 0)
        area = (np.diff(right, axis=1, prepend=0.0) * precision).sum(axis=1)
        positives, total = right[:, -1], called[:, -1]
        both = (positives > 0) & (total > positives)
        return np.divide(area, positives, out=np.full(len(w), np.nan), where=both)

    return average_precision


def auc_covariance(
    positive: npt.ArrayLike, scores: npt.ArrayLike, groups: npt.ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Return the areas under several ROC curves of the same cases, [K], and their covariance, [K, K].

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth; both classes present, else ValueError.
    scores : array_like of float, shape [K, N]
        One row per model; larger means likelier positive. InputError if one is NaN or infinite.
    groups : array_like, shape [N], optional
        Group of each case; groups are independent, cases of one group need not be. Default: every case its
        own. The covariance is NaN with fewer than two groups of positives or of negatives.
    """
    rows = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    truth = check_scores(positive, rows[0])[0]
    for row in rows[1:]:
        check_scores(positive, row)
    if missing_class(truth):
        raise ValueError("The area under a ROC curve needs both positives and negatives.")
    placements = np.stack([_placements(truth, row) for row in rows])
    auc = placements[:, truth].mean(axis=1)
    group = np.arange(len(truth)) if groups is None else group_index(groups, len(truth))
    # Sums by group of (placement - AUC), apart for positives and negatives: Obuchowski's S10, S01 and S11.
    parts, factors = [], []
    for side in (truth, ~truth):
        deviation = np.stack(
            [
                np.bincount(group[side], row[side] - area, minlength=int(group.max()) + 1)
                for row, area in zip(placements, auc, strict=True)
            ]
        )
        involved = len(np.unique(group[side]))
        parts.append(deviation / side.sum())
        factors.append(involved / (involved - 1) if involved > 1 else np.nan)
    pos, neg = parts
    all_groups = deviation.shape[1]
    shared = pos @ neg.T * all_groups / max(all_groups - 1, 1)
    return auc, factors[0] * pos @ pos.T + factors[1] * neg @ neg.T + shared + shared.T


def _placements(truth: npt.NDArray[np.bool_], score: Floats) -> Floats:
    """Share of the other class that each case is on the right side of, ties half; [N]."""
    from scipy.stats import rankdata

    overall = rankdata(score)
    n_pos, n_neg = truth.sum(), (~truth).sum()
    result = np.empty(len(score))
    result[truth] = (overall[truth] - rankdata(score[truth])) / n_neg
    result[~truth] = 1 - (overall[~truth] - rankdata(score[~truth])) / n_pos
    return result


def delong_auc(
    positive: npt.ArrayLike, score: npt.ArrayLike, groups: npt.ArrayLike | None = None
) -> Estimate:
    """Return the area under the ROC curve with its 95 % interval from its variance.

    `positive` and `score` are [N], larger scores likelier positive, and so is `groups` (default: every case
    its own). The interval is symmetric on the logit scale, so it stays inside (0, 1) (Pepe, The Statistical
    Evaluation of Medical Tests, 2003, section 5.2.5). Perfect separation has no variance to work from:
    Newcombe's interval instead (`newcombe_auc_interval`). Undefined if a class is missing.
    """
    truth, s = check_scores(positive, score)
    if missing_class(truth):
        return Estimate.undefined(missing_class(truth), len(truth))
    aucs, covariance = auc_covariance(truth, s, groups)
    auc, variance = float(aucs[0]), float(covariance[0, 0])
    name = "DeLong" if groups is None else "DeLong by group (Obuchowski)"
    if np.isnan(variance) or variance <= 1e-15 or not 0 < auc < 1:
        group = np.arange(len(truth)) if groups is None else np.asarray(groups)
        n_pos, n_neg = len(np.unique(group[truth])), len(np.unique(group[~truth]))
        interval = newcombe_auc_interval(auc, n_pos, n_neg)
        return Estimate(auc, interval, len(truth), "Newcombe (Mann-Whitney pivot)")
    half = Z95 * np.sqrt(variance) / (auc * (1 - auc))
    centre = np.log(auc / (1 - auc))
    low, high = (float(1 / (1 + np.exp(-(centre + sign * half)))) for sign in (-1, 1))
    return Estimate(auc, (low, high), len(truth), f"{name}, logit scale")


def newcombe_auc_interval(auc: float, n_pos: int, n_neg: int) -> tuple[float, float]:
    """Return a 95 % interval for an area under the ROC curve from its value and the class sizes alone.

    It is of positive width even at 0 and 1: two positives and two negatives that happen to separate prove
    little. Method 5 of Newcombe, Statistics in Medicine 25(4), 2006, 559-573: the areas theta with ``|auc -
    theta| = z sqrt(V(theta))``, V being Hanley and McNeil's variance for exponential scores with both class
    sizes replaced by their mean in its smaller terms.
    """
    # The variance is the same at theta and 1 - theta, so the upper end is the mirrored lower end.
    return _newcombe_lower(auc, n_pos, n_neg), 1 - _newcombe_lower(1 - auc, n_pos, n_neg)


def _newcombe_lower(auc: float, n_pos: int, n_neg: int) -> float:
    from scipy.optimize import brentq

    extra = (n_pos + n_neg) / 2 - 1

    def excess(theta: float) -> float:
        inner = 1 + extra * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return float(auc - theta - Z95 * np.sqrt(theta * (1 - theta) * inner / (n_pos * n_neg)))

    # Just below the area itself: at 1 the variance is 0 and the area would be its own lower end.
    return 0.0 if auc <= 0 else float(brentq(excess, 0.0, auc * (1 - 1e-12)))
