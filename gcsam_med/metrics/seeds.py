"""Several seeds of one recipe: how much of a difference is the recipe and how much the luck of the seed.

Two sources of chance lie in a mean over seeds: other seeds would have given other networks, and other
patients another test set. A mean +- standard deviation over seeds shows only the first; a bootstrap over
cases only the second. Seeds of one study are tested on the *same* cases, so they are not independent studies:
treating them as such (a meta-analysis) would divide the luck of the test set by the number of seeds.
`crossed_effects` takes both into account as crossed random effects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.intervals import Estimate, Resamples, Statistic, group_index, replicate
from gcsam_med.metrics.margins import MarginTest, margin_test


@dataclass(frozen=True, slots=True)
class SeedEffects:
    """A mean over seeds whose interval covers both sources of chance."""

    mean: Estimate  #: The mean and its 95 % interval; n is the number of seeds.
    #: Two-sided, of a mean of 0; of use when the values are differences of two recipes.
    p_value: float | None
    #: Standard deviation between seeds beyond what the cases explain, in the metric's unit ("seed noise").
    sd_seeds: float
    se_cases: float  #: Standard error of the mean that comes from the finite test set.
    freedom: float | None = None  #: Degrees of freedom of the interval; ``None`` where it is not Student's.
    #: Variance of the mean that comes from seed and case together; it is part of ``se_cases`` squared too.
    shared: float = 0.0

    @property
    def error(self) -> float | None:
        """Standard error of the mean; ``None`` where the interval is not Student's."""
        from scipy.stats import t

        if self.freedom is None or self.mean.ci95 is None:
            return None
        return float((self.mean.ci95[1] - self.mean.ci95[0]) / 2 / t.ppf(0.975, self.freedom))

    def against(self, margin: float) -> MarginTest | None:
        """Test the mean, a difference, against a margin; ``None`` where the interval is not Student's."""
        if self.error is None or self.freedom is None or self.mean.value is None:
            return None
        return margin_test(self.mean.value, self.error, self.freedom, margin)

    def detectable(self, n_comparisons: int, power: float = 0.8) -> float | None:
        """Return the true difference from 0 that would be shown with a stated power (noncentral t).

        The level is the strictest of Holm's, 0.05 over the number of comparisons. ``None`` where the interval
        is not Student's.
        """
        from scipy.optimize import brentq
        from scipy.stats import nct, t

        if self.error is None:
            return None
        critical = t.ppf(1 - 0.025 / n_comparisons, self.freedom)

        def lacking(shift: float) -> float:
            return float(nct.sf(critical, self.freedom, shift)) - power

        return float(self.error * brentq(lacking, 0.0, 20.0 * critical))


def crossed_effects(values: npt.ArrayLike, groups: npt.ArrayLike) -> SeedEffects:
    """Return the mean over seeds and cases of a metric that every case has under every seed.

    `values` [S, N] are of seed s on case i: a Dice, or the difference of two recipes' Dice with the same
    seed. There are at least two seeds and two groups, and every value is finite; ValueError otherwise. Random
    effects of seed and of group are crossed: the variance of the mean is by the method of moments, (MS_seed +
    MS_group - MS_rest) / (S G) (Searle, Casella and McCulloch, Variance Components, 1992, section 4.3), with
    Student's quantiles weighted by the parts of seeds and cases (Cochran and Cox, Experimental Designs, 1957,
    section 4.14). Groups of several cases enter with their share of the cases.
    """
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 2 or len(v) < 2 or not np.isfinite(v).all():
        raise ValueError(f"Need finite values [S, N] with at least two seeds, got {v.shape}.")
    index = group_index(groups, v.shape[1])
    n_seeds, n_groups = len(v), int(index.max()) + 1
    if n_groups < 2:
        raise ValueError("Need at least two groups of cases.")
    # A group's contribution to the mean over cases, scaled so that the plain mean over groups is the mean
    # over cases.
    by_group = np.stack([np.bincount(index, row - v.mean(), minlength=n_groups) for row in v])
    by_group *= n_groups / v.shape[1]
    seed_part, group_part = by_group.mean(axis=1), by_group.mean(axis=0)
    rest = by_group - seed_part[:, None] - group_part[None]
    df = (n_seeds - 1, n_groups - 1, (n_seeds - 1) * (n_groups - 1))
    ms = (
        n_groups * float((seed_part**2).sum()) / df[0],
        n_seeds * float((group_part**2).sum()) / df[1],
        float((rest**2).sum()) / df[2],
    )
    return _with_both(
        float(v.mean()),
        seeds=(ms[0] / (n_seeds * n_groups), df[0]),
        cases=(ms[1] / (n_seeds * n_groups), df[1]),
        shared=ms[2] / (n_seeds * n_groups),
        sd_seeds=float(np.sqrt(max(0.0, (ms[0] - ms[2]) / n_groups))),
        n_seeds=n_seeds,
    )


def crossed_statistic(statistics: list[Statistic], resamples: Resamples) -> SeedEffects:
    """Return the mean over seeds of a metric that is not a mean over cases, such as an AUC.

    As `crossed_effects`, with the bootstrap in place of the sums of squares: the variance over resamples of
    the mean over seeds is the cases' part; that of a single seed about the mean over seeds is what both parts
    count. `statistics` are of each seed over the same cases, and share the draws; ValueError if there are
    fewer than two seeds or groups, or a metric is undefined.
    """
    if len(statistics) < 2 or resamples.n_groups < 2:
        raise ValueError("Need at least two seeds and two groups of cases.")
    one = np.ones((1, resamples.n_groups))
    points = np.array([float(statistic(one)[0]) for statistic in statistics])
    draws = np.stack([replicate(statistic, resamples) for statistic in statistics])
    draws = draws[:, np.isfinite(draws).all(axis=0)]
    if not np.isfinite(points).all() or draws.shape[1] < 2:
        raise ValueError("The metric is not defined for every seed.")
    n_seeds, n_groups = len(points), resamples.n_groups
    own = (draws - draws.mean(axis=0)).var(axis=1, ddof=1).sum() / (n_seeds - 1)
    return _with_both(
        float(points.mean()),
        seeds=(float(points.var(ddof=1)) / n_seeds, n_seeds - 1),
        cases=(float(draws.mean(axis=0).var(ddof=1)), n_groups - 1),
        shared=float(own) / n_seeds,
        sd_seeds=float(np.sqrt(max(0.0, points.var(ddof=1) - own))),
        n_seeds=n_seeds,
    )


def _with_both(
    mean: float,
    *,
    seeds: tuple[float, int],
    cases: tuple[float, int],
    shared: float,
    sd_seeds: float,
    n_seeds: int,
) -> SeedEffects:
    """Join the parts (variance of the mean, degrees of freedom): seeds plus cases less what both hold."""
    from scipy.special import stdtr, stdtrit

    # Less than either part alone would be an accident of subtraction.
    variance = max(seeds[0] + cases[0] - shared, seeds[0], cases[0])
    se_cases = float(np.sqrt(cases[0]))
    if variance <= 1e-30:
        alike = Estimate(mean, None, n_seeds, "none", "the same for every seed and case")
        return SeedEffects(alike, None, sd_seeds, se_cases, None, shared)
    # Cochran and Cox: quantiles weighted by the parts. Satterthwaite's degrees of freedom are large just
    # where the seeds' part came out small by chance: with 3 seeds 7.7 % of differences of equal recipes
    # were "shown".
    critical = float(sum(part * stdtrit(df, 0.975) for part, df in (seeds, cases)) / (seeds[0] + cases[0]))
    freedom = _freedom_of(critical, seeds[1], cases[1])
    error = np.sqrt(variance)
    half = float(critical * error)
    method = (
        f"crossed random effects of {n_seeds} seeds and the cases, t with {freedom:.1f} degrees of freedom"
    )
    estimate = Estimate(mean, (mean - half, mean + half), n_seeds, method)
    p = float(2 * stdtr(freedom, -abs(mean) / error))
    return SeedEffects(estimate, p, sd_seeds, se_cases, float(freedom), shared)


def _freedom_of(critical: float, one: int, other: int) -> float:
    """Degrees of freedom, between two, whose 97.5 % quantile of Student's t is the given one."""
    from scipy.optimize import brentq
    from scipy.special import stdtrit

    low, high = sorted((float(one), float(other)))
    if not stdtrit(high, 0.975) < critical < stdtrit(low, 0.975):
        return high if critical <= stdtrit(high, 0.975) else low
    return float(brentq(lambda freedom: stdtrit(freedom, 0.975) - critical, low, high))
