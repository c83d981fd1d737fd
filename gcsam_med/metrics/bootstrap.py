"""Bootstrap by group: how far a figure would move if the study were repeated with other patients.

Images of one group (a patient, or near-duplicates) resemble each other, so whole groups are drawn, not
images: an image bootstrap would call the result surer than it is. A resample is a vector of group weights
(how often each group was drawn), and a statistic is computed from those weights for many resamples at once;
see `resampled` for how to make one. All statistics given the same `Resamples` see the same draws, so
subtracting two runs' replicates is the paired bootstrap.

Intervals are BCa (Efron, JASA 82(397), 1987) with the acceleration from a jackknife over groups, where a
jackknife can be taken; else percentile. Both are widened for few groups: normal quantiles are replaced by
Student's with (groups - strata) degrees of freedom and stretched by sqrt(G / (G - 1)), the expansion of
Hesterberg, The American Statistician 69(4), 2015, section 4.2. With many groups it makes no difference; with
ten it is what keeps the interval honest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.estimate import Estimate
from gcsam_med.metrics.group_resampling import Resamples
from gcsam_med.metrics.weighted_statistics import Statistic, auc_of_weights, mean_of, weighted

Floats = npt.NDArray[np.float64]

# Beyond this share of resamples without a value, an interval from the others would describe another question.
_MAX_UNDEFINED = 0.05


def replicate(statistic: Statistic, resamples: Resamples) -> Floats:
    """Return the statistic of every resample.

    Parameters
    ----------
    statistic : Statistic
        From `mean_of`, `function_of_sums` or `weighted`.
    resamples : Resamples
        The draws.

    Returns
    -------
    ndarray of float, shape [B]
        NaN where a resample does not define the statistic.
    """
    return np.concatenate([statistic(w) for w in resamples.weights()])


def bootstrap(statistic: Statistic, resamples: Resamples, replicates: Floats | None = None) -> Estimate:
    """Return a statistic with its 95 % interval by bootstrap over groups.

    Parameters
    ----------
    statistic : Statistic
        From `mean_of`, `function_of_sums` or `weighted`.
    resamples : Resamples
        The draws.
    replicates : ndarray of float, shape [B], optional
        What `replicate` gave for them, to save computing it again.

    Returns
    -------
    Estimate
        BCa, or percentile where the jackknife gives no acceleration or nearly all resamples lie on one side;
        both widened for few groups. No interval, with a reason, for a single group, for a statistic that
        never moves, or if more than 5 % of resamples leave it undefined.
    """
    n = len(resamples.group)
    point = float(statistic(np.ones((1, resamples.n_groups)))[0])
    if not np.isfinite(point):
        return Estimate.undefined("not defined for these cases", n)
    if resamples.n_groups < 2:
        return Estimate(point, None, n, "none", "all cases belong to one group")
    values = replicate(statistic, resamples) if replicates is None else replicates
    finite = values[np.isfinite(values)]
    if len(finite) < (1 - _MAX_UNDEFINED) * len(values):
        share = 1 - len(finite) / len(values)
        return Estimate(point, None, n, "none", f"not defined in {share:.0%} of resamples: too few groups")
    if np.ptp(finite) <= 1e-12 * max(1.0, abs(point)):
        return Estimate(point, None, n, "none", "the same in every resample: the cases do not vary")
    interval, kind = bootstrap_interval(point, finite, resamples, statistic)
    return Estimate(
        point, interval, n, f"{kind} bootstrap, {resamples.n_resamples} resamples of {_units(resamples)}"
    )


def _units(resamples: Resamples) -> str:
    by_case = resamples.n_groups == len(resamples.group)
    units = f"{resamples.n_groups} {'cases' if by_case else 'groups'}"
    return f"{units} in {resamples.n_strata} strata" if resamples.n_strata > 1 else units


def widened_z(resamples: Resamples) -> float:
    """Return what stands for 1.96 with as few groups as there are (Hesterberg 2015, section 4.2).

    Parameters
    ----------
    resamples : Resamples
        Of at least two groups.

    Returns
    -------
    float
        Student's quantile, stretched because a resample of G groups varies by (G - 1) / G too little.
    """
    from scipy.stats import t

    stretch = np.sqrt(resamples.n_groups / (resamples.n_groups - 1))
    return float(stretch * t.ppf(0.975, max(resamples.n_groups - resamples.n_strata, 1)))


def bootstrap_interval(
    point: float, replicates: Floats, resamples: Resamples, statistic: Statistic
) -> tuple[tuple[float, float], str]:
    """Return the 95 % interval from bootstrap replicates, and its kind.

    Parameters
    ----------
    point : float
        The statistic of the data themselves.
    replicates : ndarray of float, shape [B]
        Finite values of the resamples.
    resamples : Resamples
        The draws they come from.
    statistic : Statistic
        What was computed, for the jackknife.

    Returns
    -------
    interval : tuple of (float, float)
        Lower and upper end.
    kind : str
        ``"BCa"`` or ``"percentile"``.
    """
    from scipy.stats import norm

    z = widened_z(resamples)
    share_below = (np.mean(replicates < point) + np.mean(replicates <= point)) / 2
    acceleration = _acceleration(statistic, resamples)
    if acceleration is None or not 0 < share_below < 1:
        levels, kind = norm.cdf([-z, z]), "percentile"
    else:
        bias = norm.ppf(share_below)
        ends = bias + np.array([-z, z])
        # Past 1 the BCa map folds back on itself; no acceleration of a real data set comes near.
        steep = np.maximum(1 - acceleration * ends, 1e-3)
        levels, kind = norm.cdf(bias + ends / steep), "BCa"
    low, high = np.quantile(replicates, levels)
    return (float(low), float(high)), kind


def _acceleration(statistic: Statistic, resamples: Resamples) -> float | None:
    """Acceleration from a jackknife over groups within strata (Davison and Hinkley 1997, section 5.3.2)."""
    parts = [(statistic(weights), stratum) for weights, stratum in resamples.jackknife()]
    values = np.concatenate([v for v, _ in parts])
    stratum = np.concatenate([h for _, h in parts])
    if not np.isfinite(values).all():
        return None
    size = np.bincount(stratum)
    mean = np.bincount(stratum, values) / np.maximum(size, 1)
    influence = (size[stratum] - 1) * (mean[stratum] - values) / size[stratum]
    spread = float((influence**2).sum())
    return float((influence**3).sum() / (6 * spread**1.5)) if spread > 0 else None


def bootstrap_mean(values: npt.ArrayLike, resamples: Resamples) -> Estimate:
    """Return the mean over cases with its 95 % interval by bootstrap over groups.

    Parameters
    ----------
    values : array_like of float, shape [N]
        One finite value per case.
    resamples : Resamples
        Of the same N cases.

    Returns
    -------
    Estimate
        See `bootstrap`.
    """
    return bootstrap(mean_of(values, resamples), resamples)


def bootstrap_auc(positive: npt.ArrayLike, score: npt.ArrayLike, resamples: Resamples) -> Estimate:
    """Return the area under the ROC curve with its 95 % interval by bootstrap over groups.

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth.
    score : array_like of float, shape [N]
        Finite scores; larger means likelier positive.
    resamples : Resamples
        Of the same N cases; stratify by the label, or small sets lose resamples without positives.

    Returns
    -------
    Estimate
        See `bootstrap`.
    """
    return bootstrap(weighted(auc_of_weights(positive, score), resamples), resamples)
