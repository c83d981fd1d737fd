"""Two models on the same cases: whether one is better, by how much, and whether that could be chance.

Every test returns the difference with its interval beside the p value; a p value alone says neither how much
nor how surely. Tests that assume independent cases (McNemar, Wilcoxon) say so; `paired_bootstrap` and
`delong_test` take groups as they are, `wilcoxon_signed_rank` averages them first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.classification import check_scores, missing_class
from gcsam_med.metrics.intervals import (
    Z95,
    Estimate,
    Floats,
    Resamples,
    Statistic,
    bootstrap,
    bootstrap_p,
    group_index,
    replicate,
)
from gcsam_med.metrics.roc import auc_covariance

_EXACT_PAIRS = 50


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The outcome of one comparison of two models on the same cases."""

    difference: Estimate  #: First model minus second, with its 95 % interval.
    #: Two-sided, in [0, 1], not corrected for other comparisons (`holm` does that); ``None`` without a test.
    p_value: float | None
    method: str  #: Name of the test, for a reader.
    #: Standardised size of the difference; ``None`` if the test has none or it is not defined.
    effect_size: float | None = None
    effect_name: str = ""  #: Which effect size it is; empty if none.


def paired_bootstrap(first: Statistic, second: Statistic, resamples: Resamples) -> PairedTest:
    """Compare any statistic of two models by resampling the groups they share.

    The difference (first minus second) comes with its bootstrap interval (`intervals.bootstrap`), and the p
    value of the same procedure (`intervals.bootstrap_p`): the two never disagree. Without an interval there
    is no p value, but 1 for equal models.
    """

    def difference(weights: Floats) -> Floats:
        return first(weights) - second(weights)

    method = "paired bootstrap by group"
    values = replicate(difference, resamples)
    estimate = bootstrap(difference, resamples, values)
    if estimate.value is None or estimate.ci95 is None:
        alike = estimate.value == 0 and resamples.n_groups > 1
        return PairedTest(estimate, 1.0 if alike else None, method)
    finite = values[np.isfinite(values)]
    return PairedTest(estimate, bootstrap_p(estimate.value, finite, resamples, difference), method)


def delong_test(
    positive: npt.ArrayLike,
    score_a: npt.ArrayLike,
    score_b: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
) -> PairedTest:
    """Test whether two models have the same area under the ROC curve on the same cases.

    `positive` (truth), the two scores, and `groups` (default: every case its own) are [N]. The difference
    ``AUC(a) - AUC(b)`` has a normal 95 % interval; p is two-sided, from z. p is 1 if the difference and its
    variance are both 0 (the two models rank every pair alike), ``None`` if a class is missing or the variance
    cannot be had.
    """
    from scipy.stats import norm

    method = "DeLong" if groups is None else "DeLong by group (Obuchowski)"
    truth = check_scores(positive, score_a)[0]
    if missing_class(truth):
        return PairedTest(Estimate.undefined(missing_class(truth), len(truth)), None, method)
    auc, covariance = auc_covariance(truth, np.stack((np.asarray(score_a), np.asarray(score_b))), groups)
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


def mcnemar(
    right_a: npt.ArrayLike, right_b: npt.ArrayLike, groups: npt.ArrayLike | None = None
) -> PairedTest:
    """Compare the accuracy of two models by the cases on which just one of them is right.

    `right_a`, `right_b` (whether each model called each case correctly) and `groups` (default: every case its
    own) are [N]; ValueError if the lengths differ or there is no case. p is exact: if the models are equal,
    which of them is which may be swapped in each group as a whole; with one case a group that is the binomial
    test (McNemar, Psychometrika 12(2), 1947). Intervals: without groups adjusted Wald (Bonett and Price, J
    Educ Behav Stat 37(4), 2012); with them the variance between groups (Obuchowski, Statistics in Medicine
    17(13), 1998) and Student's t. Effect size: Cohen's g, the share of discordant cases won by the first
    model minus one half, ``None`` if there are none.
    """
    a, b = _same_length(right_a, right_b)
    index = np.arange(len(a)) if groups is None else group_index(groups, len(a))
    n, only_a, only_b = len(a), int((a > b).sum()), int((b > a).sum())
    won = np.bincount(index, a - b)
    discordant = only_a + only_b
    effect = only_a / discordant - 0.5 if discordant else None
    clustered = len(won) < n
    difference = _clustered_difference(a - b, index) if clustered else _bonett_price(n, only_a, only_b)
    method = "exact McNemar by group" if clustered else "exact McNemar"
    p = _swapping_p(np.rint(won).astype(np.int64)) if len(won) > 1 or not clustered else None
    return PairedTest(difference, p, method, effect, "Cohen's g")


def _bonett_price(n: int, only_a: int, only_b: int) -> Estimate:
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    centre = share_a - share_b
    half = Z95 * np.sqrt((share_a + share_b - centre**2) / (n + 2))
    interval = (max(-1.0, float(centre - half)), min(1.0, float(centre + half)))
    return Estimate((only_a - only_b) / n, interval, n, "Bonett-Price adjusted Wald")


def _clustered_difference(d: Floats, index: npt.NDArray[np.int64]) -> Estimate:
    from scipy.stats import t

    n, mean = len(d), float(d.mean())
    deviation = np.bincount(index, d - mean)
    n_groups = len(deviation)
    if n_groups < 2:
        return Estimate(mean, None, n, "none", "all cases belong to one group")
    error = np.sqrt(n_groups / (n_groups - 1) * float((deviation**2).sum())) / n
    if error <= 1e-12:
        return Estimate(mean, None, n, "none", "the same in every group")
    half = float(t.ppf(0.975, n_groups - 1) * error)
    interval = (max(-1.0, mean - half), min(1.0, mean + half))
    return Estimate(mean, interval, n, f"variance between {n_groups} groups (Obuchowski)")


def _swapping_p(won: npt.NDArray[np.int64]) -> float:
    """Two-sided exact p of the sum of group differences if each one's sign is + or - with equal chance."""
    size = np.abs(won[won != 0])
    # Entry k: chance that the groups whose sign is positive add up to k.
    chance = np.zeros(int(size.sum()) + 1)
    chance[0] = 1.0
    for step in size:
        shifted = np.zeros_like(chance)
        shifted[step:] = chance[:-step]
        chance = (chance + shifted) / 2
    observed = int(won[won > 0].sum())
    return min(1.0, 2 * float(min(chance[: observed + 1].sum(), chance[observed:].sum())))


def wilcoxon_signed_rank(
    a: npt.ArrayLike, b: npt.ArrayLike, groups: npt.ArrayLike | None = None
) -> PairedTest:
    """Compare a metric that each case has under both models, [N], by ranks of the differences.

    With groups, differences are averaged within a group first, so that the pairs that are ranked are
    independent; n is then the number of groups. The difference is the Hodges-Lehmann shift (median of the
    means of all pairs of differences) with its interval from the normal approximation to the signed-rank
    statistic (Hollander and Wolfe 1999, section 3.3). Zeros are ranked and then set aside (Pratt 1959). p is
    exact given the ranks, ties included, up to 50 pairs; beyond, normal approximation (scipy). Effect size:
    matched-pairs rank-biserial correlation (Kerby 2014), in [-1, 1]. All differences 0: p is 1. ValueError if
    the lengths differ or there is no case.
    """
    first, second = _same_length(a, b)
    d = first - second
    if groups is not None:
        index = group_index(groups, len(d))
        d = np.bincount(index, d) / np.bincount(index)
    # Differences that rounding alone tells apart must tie, or they would be ranked.
    d = np.round(d, 12)
    method = "Wilcoxon signed-rank" + (" on group means" if groups is not None else "")
    if not d.any():
        return PairedTest(Estimate(0.0, None, len(d), "none", "all differences are 0"), 1.0, method)
    return PairedTest(
        _hodges_lehmann(d), _signed_rank_p(d), method, rank_biserial(d), "rank-biserial correlation"
    )


def _signed_rank_p(d: Floats) -> float:
    from scipy.stats import rankdata, wilcoxon

    nonzero = d != 0
    if nonzero.sum() > _EXACT_PAIRS:
        return float(wilcoxon(d, zero_method="pratt", method="asymptotic").pvalue)
    # Doubled, midranks are whole numbers. (Scipy tries all signs one by one where there are ties:
    # seconds for 13 pairs.)
    ranks = np.rint(2 * rankdata(np.abs(d))).astype(np.int64)
    return _swapping_p(ranks * np.sign(d).astype(np.int64))


def _hodges_lehmann(d: Floats) -> Estimate:
    n = len(d)
    ordered = np.sort(d)
    averages = n * (n + 1) // 2
    middle = (_walsh(ordered, (averages - 1) // 2) + _walsh(ordered, averages // 2)) / 2
    # Rank of the lower end among the averages: mean of the signed-rank statistic less z standard deviations.
    k = int(np.floor(averages / 2 - Z95 * np.sqrt(n * (n + 1) * (2 * n + 1) / 24)))
    if k < 0:
        return Estimate(middle, None, n, "none", "too few pairs for a 95 % interval by ranks")
    interval = (_walsh(ordered, k), _walsh(ordered, averages - 1 - k))
    return Estimate(middle, interval, n, "Hodges-Lehmann")


def _walsh(ordered: Floats, k: int) -> float:
    """Return the k-th smallest (from 0) mean of two differences, a value with itself included.

    Found by halving the range and counting, so that 10,000 cases need no table of 50 million pairs.
    """
    n, position = len(ordered), np.arange(len(ordered))
    low, high = float(ordered[0]), float(ordered[-1])
    while True:
        middle = (low + high) / 2
        # Partners at or after each value whose mean with it is at most the middle.
        reach = np.searchsorted(ordered, 2 * middle - ordered, side="right")
        if np.maximum(np.minimum(reach, n) - position, 0).sum() > k:
            high = middle
        else:
            low = middle
        if high - low <= 1e-13 * max(1.0, abs(high)):
            return high


def rank_biserial(differences: npt.ArrayLike) -> float | None:
    """Return the matched-pairs rank-biserial correlation of differences [N], in [-1, 1].

    Favourable less unfavourable share of the ranks, zeros set aside; ``None`` if all are 0. Kerby,
    Comprehensive Psychology 3, 2014.
    """
    from scipy.stats import rankdata

    d = np.asarray(differences, dtype=np.float64)
    d = d[d != 0]
    if not len(d):
        return None
    ranks = rankdata(np.abs(d))
    return float((ranks * np.sign(d)).sum() / ranks.sum())


def cohens_dz(a: npt.ArrayLike, b: npt.ArrayLike) -> float | None:
    """Return the mean paired difference of two rows [N] in units of its standard deviation (Cohen's d_z).

    ``None`` with fewer than two cases or if all differences are equal.
    """
    first, second = _same_length(a, b)
    d = first - second
    if len(d) < 2 or np.ptp(d) <= 1e-12:
        return None
    return float(d.mean() / d.std(ddof=1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p values for the number of comparisons made (Holm, Scand J Stat 6(2), 1979), in the same order.

    ``None`` where a test gave none, which then does not count as a comparison.
    """
    from statsmodels.stats.multitest import multipletests

    given = [p for p in p_values if p is not None]
    adjusted = iter(multipletests(given, method="holm")[1] if given else ())
    return [None if p is None else float(next(adjusted)) for p in p_values]


def _same_length(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"Need two rows of the same cases, got {first.shape} and {second.shape}.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("Paired values must be finite: an undefined case cannot be paired.")
    return first, second
