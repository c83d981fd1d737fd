"""Statistics in the form that resampling wants: from group weights to a value, many resamples at once.

A statistic that depends on sums over cases (`function_of_sums`) costs one small matrix product; one that
depends on the order of the cases (`auc_of_weights`) costs a cumulative sum over cases sorted once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.group_resampling import Resamples

Floats = npt.NDArray[np.float64]

# Group weights [B, G] -> value of each resample [B], NaN where a resample does not define it.
Statistic = Callable[[Floats], Floats]


def mean_of(values: npt.ArrayLike, resamples: Resamples) -> Statistic:
    """Return the statistic "mean over cases" of values that each belong to one case.

    Parameters
    ----------
    values : array_like of float, shape [N]
        One finite value per case: Dice, squared error, right or wrong.
    resamples : Resamples
        Of the same N cases.

    Returns
    -------
    Statistic
        Mean of each resample.
    """
    v = np.asarray(values, dtype=np.float64)
    return function_of_sums(
        np.stack((v, np.ones_like(v)), axis=1), lambda sums: sums[:, 0] / sums[:, 1], resamples
    )


def function_of_sums(
    contributions: npt.ArrayLike, f: Callable[[Floats], Floats], resamples: Resamples
) -> Statistic:
    """Return a statistic that depends on the cases only through sums over them, the cheapest kind there is.

    Parameters
    ----------
    contributions : array_like of float, shape [N, K]
        What each case adds: numerator and denominator, cells of a confusion matrix, bins of a calibration
        curve.
    f : callable
        From sums [B, K] to values [B]; NaN where undefined.
    resamples : Resamples
        Of the same N cases.

    Returns
    -------
    Statistic
        ``f`` of each resample's sums: one matrix product of group weights with group sums.

    Raises
    ------
    ValueError
        If the contributions do not fit the cases or are not finite.
    """
    c = np.asarray(contributions, dtype=np.float64)
    if c.ndim != 2 or len(c) != len(resamples.group) or not np.isfinite(c).all():
        raise ValueError(
            f"Contributions must be finite [N, K] with N = {len(resamples.group)}, got {c.shape}."
        )
    by_group = np.zeros((resamples.n_groups, c.shape[1]))
    np.add.at(by_group, resamples.group, c)
    return lambda weights: f(weights @ by_group)


def weighted(f: Callable[[Floats], Floats], resamples: Resamples) -> Statistic:
    """Return a statistic given as a function of case weights.

    Parameters
    ----------
    f : callable
        From case weights [B, N] to values [B]; NaN where undefined. `auc_of_weights` makes one.
    resamples : Resamples
        Of the same N cases.

    Returns
    -------
    Statistic
        ``f`` of each resample's case weights.
    """
    if np.array_equal(resamples.group, np.arange(resamples.n_groups)):
        return f
    return lambda weights: f(weights[:, resamples.group])


def auc_of_weights(positive: npt.ArrayLike, score: npt.ArrayLike) -> Callable[[Floats], Floats]:
    """Return the area under the ROC curve as a function of case weights.

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth.
    score : array_like of float, shape [N]
        Finite scores; larger means likelier positive.

    Returns
    -------
    callable
        From weights [B, N] to AUC [B], NaN without positives or without negatives. The scores are sorted
        once, here; each call is one cumulative sum.
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
    """Return the average precision as a function of case weights.

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth.
    score : array_like of float, shape [N]
        Finite scores; larger means likelier positive.

    Returns
    -------
    callable
        From weights [B, N] to average precision [B], NaN without positives or without negatives.
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
