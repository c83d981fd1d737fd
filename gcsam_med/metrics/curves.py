"""Curves behind the single figures: ROC, precision-recall, reliability, net benefit. Points, not pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.classification import check_scores

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

N_BINS = 10


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Points of a ROC curve, from (0, 0) to (1, 1)."""

    #: specificity, sensitivity: Of calling positive every score at or above the threshold.
    specificity: Floats
    sensitivity: Floats
    threshold: Floats  #: Falling; the first is infinite (nothing is called).


@dataclass(frozen=True, slots=True)
class PrecisionRecallCurve:
    """Points of a precision-recall curve, by falling threshold."""

    #: precision, recall: Of calling positive every score at or above the threshold. No point is made up at
    #: recall 0.
    precision: Floats
    recall: Floats
    threshold: Floats  #: The distinct scores, falling.
    prevalence: float  #: Share of positives: the precision of a useless score.


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """What was predicted against what happened, in bins of the predicted probability; empty bins left out."""

    #: predicted, observed: Mean probability and share of positives in each bin.
    predicted: Floats
    observed: Floats
    count: Ints  #: Cases in each bin.
    #: lower, upper: Edges of each bin.
    lower: Floats
    upper: Floats


@dataclass(frozen=True, slots=True)
class DecisionCurve:
    """Net benefit of acting on a model, of acting on everyone and on no one (always 0)."""

    #: Probability at which one would act, in (0, 1): it says how many needless actions one true finding is
    #: worth.
    threshold: Floats
    #: model, treat_all: Net benefit per case: true findings less needless actions at the threshold's rate of
    #: exchange.
    model: Floats
    treat_all: Floats


def roc_curve(positive: npt.ArrayLike, score: npt.ArrayLike) -> RocCurve | None:
    """Return every point of the ROC curve, one a distinct score.

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth.
    score : array_like of float, shape [N]
        Larger means likelier positive.

    Returns
    -------
    RocCurve or None
        ``None`` if a class is missing.
    """
    from sklearn import metrics

    truth, s = check_scores(positive, score)
    if truth.all() or not truth.any():
        return None
    false_alarm, sens, threshold = metrics.roc_curve(truth, s, drop_intermediate=False)
    return RocCurve(1 - false_alarm, sens, threshold)


def precision_recall_curve(positive: npt.ArrayLike, score: npt.ArrayLike) -> PrecisionRecallCurve | None:
    """Return every point of the precision-recall curve, one a distinct score.

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth.
    score : array_like of float, shape [N]
        Larger means likelier positive.

    Returns
    -------
    PrecisionRecallCurve or None
        ``None`` if a class is missing.
    """
    from sklearn import metrics

    truth, s = check_scores(positive, score)
    if truth.all() or not truth.any():
        return None
    precision, recall, threshold = metrics.precision_recall_curve(truth, s)
    # Scikit-learn appends the point (recall 0, precision 1), which no threshold reaches.
    return PrecisionRecallCurve(precision[-2::-1], recall[-2::-1], threshold[::-1], float(truth.mean()))


def sensitivity_at_90_specificity(
    positive: npt.ArrayLike, score: npt.ArrayLike
) -> Callable[[Floats], Floats]:
    """Return the best sensitivity at a specificity of at least 0.9, as a function of case weights.

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth.
    score : array_like of float, shape [N]
        Larger means likelier positive.

    Returns
    -------
    callable
        From case weights [B, N] to values [B] in [0, 1]; NaN if a class is missing. No interpolation between
        thresholds: such a point could not be put to use. The threshold is chosen on these very cases, so on a
        test set the value is optimistic; for one that is not, choose on validation
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


def reliability_curve(positive: npt.ArrayLike, prob: npt.ArrayLike) -> ReliabilityCurve:
    """Return mean predicted probability and observed share in 10 bins of equal width.

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Whether what the probability is of happened.
    prob : array_like of float, shape [N]
        In [0, 1].

    Returns
    -------
    ReliabilityCurve
        Empty bins are left out.

    Raises
    ------
    ValueError
        If a probability lies outside [0, 1].
    """
    truth, p = check_scores(positive, prob)
    edges = bin_edges(p)
    bins = assign_bins(p, edges)
    count = np.bincount(bins, minlength=len(edges) - 1)
    used = count > 0
    predicted = np.bincount(bins, p, minlength=len(count))[used] / count[used]
    observed = np.bincount(bins, truth, minlength=len(count))[used] / count[used]
    return ReliabilityCurve(predicted, observed, count[used], edges[:-1][used], edges[1:][used])


def bin_edges(prob: Floats) -> Floats:
    """Return the edges of the probability bins, rising from 0 to 1; probabilities outside are an error."""
    if len(prob) and (prob.min() < 0 or prob.max() > 1):
        raise ValueError(f"Probabilities lie in [0, 1], got {prob.min()}..{prob.max()}.")
    return np.linspace(0.0, 1.0, N_BINS + 1)


def assign_bins(prob: Floats, edges: Floats) -> Ints:
    """Return the bin of each probability; bins are open below and closed above, the first one closed at 0.

    Parameters
    ----------
    prob : ndarray of float, shape [N]
        In [0, 1].
    edges : ndarray of float, shape [B + 1]
        From `bin_edges`.

    Returns
    -------
    ndarray of int64, shape [N]
        0..B-1.
    """
    return np.clip(np.searchsorted(edges, prob, side="left") - 1, 0, len(edges) - 2)


def decision_curve(
    positive: npt.ArrayLike, prob: npt.ArrayLike, thresholds: npt.ArrayLike | None = None
) -> DecisionCurve:
    """Return the net benefit of acting where the probability reaches a threshold.

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth; N at least 1.
    prob : array_like of float, shape [N]
        Probability of being positive, in [0, 1].
    thresholds : array_like of float, shape [P], optional
        In (0, 1). Default: 0.01 to 0.99 in steps of 0.01.

    Returns
    -------
    DecisionCurve
        ``TP/N - FP/N * t/(1 - t)`` at each threshold t.

    Raises
    ------
    ValueError
        If there is no case or a threshold lies outside (0, 1).

    Notes
    -----
    Vickers and Elkin, Medical Decision Making 26(6), 2006. The prevalence is that of the cases at hand.
    """
    truth, p = check_scores(positive, prob)
    t = np.arange(1, 100) / 100 if thresholds is None else np.asarray(thresholds, dtype=np.float64)
    if not len(truth) or t.ndim != 1 or (len(t) and (t.min() <= 0 or t.max() >= 1)):
        raise ValueError("Need at least one case, and thresholds in (0, 1).")
    called = p[None] >= t[:, None]
    odds = t / (1 - t)
    model = (called & truth).mean(axis=1) - (called & ~truth).mean(axis=1) * odds
    prevalence = truth.mean()
    return DecisionCurve(t, model, prevalence - (1 - prevalence) * odds)
