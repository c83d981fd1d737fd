"""Variance of the area under the ROC curve, and the test for two of them on the same cases.

DeLong, DeLong and Clarke-Pearson, Biometrics 44(3), 1988, by the midranks of Sun and Xu, IEEE Signal
Processing Letters 21(11), 2014: a sort instead of all pairs. With groups (several images of a patient) the
placements are summed by group first, as Obuchowski, Biometrics 53(2), 1997, does for clustered data; with one
case a group the two agree.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.classification import check_scores
from gcsam_med.metrics.estimate import Estimate
from gcsam_med.metrics.paired import PairedTest

Floats = npt.NDArray[np.float64]
Z95 = 1.959963984540054


def auc_covariance(
    positive: npt.ArrayLike, scores: npt.ArrayLike, groups: npt.ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Return the areas under several ROC curves of the same cases, and their covariance.

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth; both classes present.
    scores : array_like of float, shape [K, N]
        One row per model; larger means likelier positive.
    groups : array_like, shape [N], optional
        Group of each case; groups are independent, cases of one group need not be. Default: every case its
        own.

    Returns
    -------
    auc : ndarray of float, shape [K]
        The areas.
    covariance : ndarray of float, shape [K, K]
        Of the areas. NaN with fewer than two positives or negatives (or groups of them).

    Raises
    ------
    ValueError
        If a class is missing or the shapes do not fit.
    InputError
        If a score is NaN or infinite.
    """
    rows = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    truth = check_scores(positive, rows[0])[0]
    for row in rows[1:]:
        check_scores(positive, row)
    if truth.all() or not truth.any():
        raise ValueError("The area under a ROC curve needs both positives and negatives.")
    placements = np.stack([_placements(truth, row) for row in rows])
    auc = placements[:, truth].mean(axis=1)
    if groups is None:
        group = np.arange(len(truth))
    else:
        group = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
        if group.shape != truth.shape:
            raise ValueError(f"{group.shape} groups do not fit {truth.shape} cases.")
    # Sums by group of (placement - AUC), apart for positives and negatives: Obuchowski's S10, S01 and S11.
    parts, factors = [], []
    for side in (truth, ~truth):
        deviation = np.zeros((len(rows), int(group.max()) + 1))
        for k in range(len(rows)):
            deviation[k] = np.bincount(
                group[side], placements[k, side] - auc[k], minlength=deviation.shape[1]
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

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth.
    score : array_like of float, shape [N]
        Larger means likelier positive.
    groups : array_like, shape [N], optional
        Group of each case. Default: every case its own.

    Returns
    -------
    Estimate
        The interval is symmetric on the logit scale, so it stays inside (0, 1) (Pepe, The Statistical
        Evaluation of Medical Tests, 2003, section 5.2.5). Perfect separation has no variance to work from:
        Newcombe's interval instead (`newcombe_auc_interval`). ``None`` if a class is missing.
    """
    truth, s = check_scores(positive, score)
    if truth.all() or not truth.any():
        return Estimate.undefined(f"no {'negative' if truth.any() else 'positive'} cases", len(truth))
    aucs, covariance = auc_covariance(truth, s, groups)
    auc, variance = float(aucs[0]), float(covariance[0, 0])
    name = "DeLong" if groups is None else "DeLong by group (Obuchowski)"
    if np.isnan(variance) or variance <= 1e-15 or not 0 < auc < 1:
        n_pos, n_neg = _effective_counts(truth, groups)
        interval = newcombe_auc_interval(auc, n_pos, n_neg)
        return Estimate(auc, interval, len(truth), "Newcombe (Mann-Whitney pivot)")
    half = Z95 * np.sqrt(variance) / (auc * (1 - auc))
    centre = np.log(auc / (1 - auc))
    low, high = (float(1 / (1 + np.exp(-(centre + sign * half)))) for sign in (-1, 1))
    return Estimate(auc, (low, high), len(truth), f"{name}, logit scale")


def _effective_counts(truth: npt.NDArray[np.bool_], groups: npt.ArrayLike | None) -> tuple[int, int]:
    if groups is None:
        return int(truth.sum()), int((~truth).sum())
    g = np.asarray(groups)
    return len(np.unique(g[truth])), len(np.unique(g[~truth]))


def newcombe_auc_interval(auc: float, n_pos: int, n_neg: int) -> tuple[float, float]:
    """Return a 95 % interval for an area under the ROC curve from its value and the class sizes alone.

    Parameters
    ----------
    auc : float
        In [0, 1].
    n_pos, n_neg : int
        Positives and negatives, 1 or more each.

    Returns
    -------
    tuple of (float, float)
        Inside [0, 1], and of positive width even at 0 and 1: two positives and two negatives that happen to
        separate prove little.

    Notes
    -----
    Method 5 of Newcombe, Statistics in Medicine 25(4), 2006, 559-573: the areas theta with
    ``|auc - theta| = z sqrt(V(theta))``, V being Hanley and McNeil's variance for exponential scores with
    both class sizes replaced by their mean in its smaller terms.
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


def delong_test(
    positive: npt.ArrayLike,
    score_a: npt.ArrayLike,
    score_b: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
) -> PairedTest:
    """Test whether two models have the same area under the ROC curve on the same cases.

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth.
    score_a, score_b : array_like of float, shape [N]
        Scores of the two models.
    groups : array_like, shape [N], optional
        Group of each case. Default: every case its own.

    Returns
    -------
    PairedTest
        Difference ``AUC(a) - AUC(b)`` with its normal 95 % interval, two-sided p from z. p is 1 if the
        difference and its variance are both 0 (the two models rank every pair alike), ``None`` if a class is
        missing or the variance cannot be had.
    """
    from scipy.stats import norm

    method = "DeLong" if groups is None else "DeLong by group (Obuchowski)"
    truth = check_scores(positive, score_a)[0]
    if truth.all() or not truth.any():
        missing = Estimate.undefined(f"no {'negative' if truth.any() else 'positive'} cases", len(truth))
        return PairedTest(missing, None, method)
    auc, covariance = auc_covariance(
        truth, np.stack((np.asarray(score_a, float), np.asarray(score_b, float))), groups
    )
    difference = float(auc[0] - auc[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if np.isnan(variance) or variance <= 1e-15:
        alike = not np.isnan(variance) and difference == 0
        reason = "both rank every pair alike" if alike else "no variance: too few cases"
        return PairedTest(
            Estimate(difference, None, len(truth), "none", reason), 1.0 if alike else None, method
        )
    error = np.sqrt(variance)
    interval = (difference - Z95 * error, difference + Z95 * error)
    p = float(2 * norm.sf(abs(difference) / error))
    return PairedTest(Estimate(difference, interval, len(truth), method), p, method)
