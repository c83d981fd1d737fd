"""How sure a metric is: estimates with 95 % intervals, Wilson's for shares, cluster bootstrap for the rest.

Images of one group (a patient, or near-duplicates) resemble each other, so the bootstrap draws whole
groups, not images: an image bootstrap would call the result surer than it is. A resample is a vector of
group weights (how often each group was drawn), and a `Statistic` is computed from those weights for many
resamples at once. One that depends on sums over cases (`function_of_sums`) costs one small matrix product.
All statistics given the same `Resamples` see the same draws, so subtracting two runs' replicates is the
paired bootstrap. Draws are made in chunks from a seed and never stored, so 2,000 resamples of 10,000 cases
need no more memory than a few hundred do.

Intervals are BCa (Efron, JASA 82(397), 1987) with the acceleration from a jackknife over groups, where a
jackknife can be taken; else percentile. Both are widened for few groups: normal quantiles are replaced by
Student's with (groups - strata) degrees of freedom and stretched by sqrt(G / (G - 1)), the expansion of
Hesterberg, The American Statistician 69(4), 2015, section 4.2. With many groups it makes no difference; with
ten it is what keeps the interval honest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Z95 = 1.959963984540054
N_RESAMPLES = 2000
# Group weights times this many bytes per case stay within a chunk: small enough for a laptop's cache and
# memory.
_CHUNK_CELLS = 2_000_000
# The acceleration is a skewness over groups: 500 blocks of groups pin it down to 0.001.
_MAX_JACKKNIFE = 500
# Beyond this share of resamples without a value, an interval from the others would describe another question.
_MAX_UNDEFINED = 0.05

# Group weights [B, G] -> value of each resample [B], NaN where a resample does not define it.
Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric, its 95 % interval, how many cases it rests on, and how the interval was made.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, the interval is upside down, or a ``None`` has no reason.
    """

    value: float | None  #: The point estimate, in the metric's own unit; ``None`` where it is not defined.
    #: Lower and upper end of the 95 % interval; ``None`` where none can be given (one group only, undefined
    #: value).
    ci95: tuple[float, float] | None
    n: int  #: Number of cases (or lesions, or pairs: the metric's own unit of counting) behind ``value``.
    #: How the interval was made, in words for a reader: ``"Wilson"``, ``"BCa bootstrap, 2000 resamples of 96
    #: groups"``.
    method: str
    reason: str = ""  #: Why ``value`` or ``ci95`` is ``None``; empty otherwise.

    def __post_init__(self) -> None:
        numbers = [x for x in (self.value, *(self.ci95 or ())) if x is not None]
        if not all(math.isfinite(x) for x in numbers):
            raise ValueError(f"An estimate must be finite or None, got value={self.value}, ci95={self.ci95}.")
        if self.ci95 is not None and (self.value is None or self.ci95[0] > self.ci95[1]):
            raise ValueError(f"The interval {self.ci95} does not fit the value {self.value}.")
        if (self.value is None or self.ci95 is None) and not self.reason:
            raise ValueError("A metric or an interval that is missing needs a reason.")

    @classmethod
    def undefined(cls, reason: str, n: int = 0) -> Estimate:
        """Return the estimate of a metric that `n` cases do not define, and why, in words for a reader."""
        return cls(None, None, n, "none", reason)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``metrics.json``; ``"reason"`` is there only where something is missing."""
        entry: dict[str, Any] = {
            "value": self.value,
            "ci95": None if self.ci95 is None else list(self.ci95),
            "n": self.n,
            "method": self.method,
        }
        return entry | {"reason": self.reason} if self.reason else entry


def within_unit(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    """Cut an interval to 0 to 1, where a share, a Dice or an area under a curve lies."""
    return None if ends is None else (max(0.0, ends[0]), min(1.0, ends[1]))


def group_index(groups: npt.ArrayLike, n_cases: int, what: str = "groups") -> Ints:
    """Return the group of each case as a number from 0, shape [N]; ValueError if the lengths differ."""
    index = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    if len(index) != n_cases:
        raise ValueError(f"{len(index)} {what} do not fit {n_cases} cases.")
    return index.astype(np.int64)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % score interval for a share: inside [0, 1], of positive width even at 0 and n.

    `successes` lies in [0, n] and need not be whole (effective counts); ValueError if it does not. Wilson,
    JASA 22(158), 1927; recommended by Brown, Cai and DasGupta, Statistical Science 16(2), 2001.

    Examples
    --------
    None missed in 20 does not mean none missed at all:

    >>> tuple(round(x, 3) for x in wilson(20, 20))
    (0.839, 1.0)
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"Need 0 <= successes <= n and n > 0, got {successes} of {n}.")
    share = successes / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def proportion(flags: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> Estimate:
    """Return a share of cases with Wilson's 95 % interval, groups taken into account.

    Parameters
    ----------
    flags : array_like of bool, shape [N]
        Which cases count: called correctly, found, ...
    groups : array_like, shape [N], optional
        Group of each case. Default: every case its own.

    Returns
    -------
    Estimate
        Without groups of several cases, plain Wilson. With them, Wilson for the effective number of cases: n
        divided by the design effect (variance of the share by groups over that of independent cases, at least
        1), times (z / t)^2 with one degree of freedom less than groups (Korn and Graubard, Survey Methodology
        24(2), 1998; Franco et al., J Survey Stat Methodol 7(3), 2019). If all flags are equal, there is no
        variance to tell the design effect by, and each group counts once. ``None`` without a case; no
        interval with one group.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    from scipy.stats import t

    f = np.asarray(flags).astype(bool)
    if f.ndim != 1:
        raise ValueError(f"Flags must be [N], got {f.shape}.")
    n = len(f)
    if not n:
        return Estimate.undefined("no such cases")
    share = float(f.mean())
    index = np.arange(n) if groups is None else group_index(groups, n)
    n_groups = int(index.max()) + 1
    if n_groups == n:
        return Estimate(share, wilson(f.sum(), n), n, "Wilson")
    if n_groups == 1:
        return Estimate(share, None, n, "none", "all cases belong to one group")
    if share in (0.0, 1.0):
        effective = float(n_groups)
    else:
        deviation = np.bincount(index, f - share)
        variance = n_groups / (n_groups - 1) * float((deviation**2).sum()) / n**2
        effective = n / max(1.0, variance * n / (share * (1 - share)))
        effective *= float(Z95 / t.ppf(0.975, n_groups - 1)) ** 2
    interval = wilson(share * effective, effective)
    return Estimate(share, interval, n, f"Wilson, {effective:.1f} effective cases in {n_groups} groups")


@dataclass(frozen=True)
class Resamples:
    """Draws of groups with replacement, the same for every statistic they are given to."""

    group: Ints  #: Group of each case, 0..G-1.
    #: Stratum of each group, 0..H-1; groups are drawn within their stratum, so its size never varies.
    stratum: Ints
    n_resamples: int  #: Number of draws, B.
    seed: int  #: All the randomness there is: two passes over the draws give the same draws.

    @property
    def n_groups(self) -> int:
        """Number of groups, G."""
        return len(self.stratum)

    @property
    def units(self) -> str:
        """What is drawn, in words: ``96 groups``, or ``96 cases`` where each is a group of its own."""
        return f"{self.n_groups} {'cases' if self.n_groups == len(self.group) else 'groups'}"

    def __str__(self) -> str:
        """Return the draws in words, as the method of an estimate names them."""
        strata = f" in {self.n_strata} strata" if self.n_strata > 1 else ""
        return f"{self.n_resamples} resamples of {self.units}{strata}"

    def sums(self, contributions: Floats) -> Floats:
        """Add what each case contributes, [N, K], by group, [G, K]."""
        by_group = np.zeros((self.n_groups, contributions.shape[1]))
        np.add.at(by_group, self.group, contributions)
        return by_group

    @property
    def n_strata(self) -> int:
        """Number of strata, H."""
        return int(self.stratum.max()) + 1

    def weights(self) -> Iterator[Floats]:
        """Draw: yield group weights in chunks [b, G] that add up to ``n_resamples`` rows."""
        rng = np.random.default_rng(self.seed)
        members = [np.flatnonzero(self.stratum == h) for h in range(self.n_strata)]
        rows_at_once = max(1, _CHUNK_CELLS // len(self.group))
        for start in range(0, self.n_resamples, rows_at_once):
            rows = min(rows_at_once, self.n_resamples - start)
            # A draw is a row of group numbers; counting them, each row offset by G, gives the weights.
            drawn = np.concatenate([m[rng.integers(0, len(m), (rows, len(m)))] for m in members], axis=1)
            drawn += np.arange(rows)[:, None] * self.n_groups
            counts = np.bincount(drawn.ravel(), minlength=rows * self.n_groups)
            yield counts.reshape(rows, self.n_groups).astype(np.float64)

    def jackknife(self) -> Iterator[tuple[Floats, Ints]]:
        """Leave out: yield group weights [b, G], one block of groups left out a row, and each row's stratum.

        A block is one group as long as there are no more than 500 of them. The rest of the block's stratum is
        weighted up, so that the stratum keeps its share. Strata of one block cannot do without it and are
        passed over.
        """
        blocks = [(h, block) for h in range(self.n_strata) for block in self._blocks(h)]
        size = np.bincount(self.stratum)
        rows_at_once = max(1, _CHUNK_CELLS // len(self.group))
        for start in range(0, len(blocks), rows_at_once):
            chunk = blocks[start : start + rows_at_once]
            weights = np.ones((len(chunk), self.n_groups))
            for row, (h, block) in enumerate(chunk):
                weights[row, self.stratum == h] = size[h] / (size[h] - len(block))
                weights[row, block] = 0.0
            yield weights, np.array([h for h, _ in chunk])

    def _blocks(self, stratum: int) -> list[Ints]:
        members = np.flatnonzero(self.stratum == stratum)
        share = max(2, round(_MAX_JACKKNIFE * len(members) / self.n_groups))
        return [] if len(members) < 2 else np.array_split(members, min(share, len(members)))


def resample_groups(
    groups: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    strata: npt.ArrayLike | None = None,
    n_resamples: int = N_RESAMPLES,
) -> Resamples:
    """Prepare draws of whole groups, to hand to `bootstrap` or `replicate`.

    Parameters
    ----------
    groups : array_like, shape [N]
        Group of each case: patient, near-duplicate group, or the case itself. Any sortable labels.
    rng : numpy.random.Generator
        Source of the seed; one number is drawn from it.
    strata : array_like, shape [N], optional
        Stratum of each case, e.g. its label, so that every resample has as many groups of each kind as the
        data. The stratum of a group is the set of its cases' strata. Strata of a single group are pooled.
    n_resamples : int
        Number of draws; 1 or more.

    Raises
    ------
    ValueError
        If there is no case, the lengths differ, or ``n_resamples`` is less than 1.
    """
    group = group_index(groups, np.size(groups))
    if not len(group) or n_resamples < 1:
        raise ValueError(f"Need at least one case and one resample, got {len(group)} and {n_resamples}.")
    n_groups = int(group.max()) + 1
    stratum = np.zeros(n_groups, dtype=np.int64)
    if strata is not None:
        case_stratum = group_index(strata, len(group), "strata")
        holds = np.zeros((n_groups, int(case_stratum.max()) + 1), dtype=bool)
        holds[group, case_stratum] = True
        stratum = _pool_singletons(np.unique(holds, axis=0, return_inverse=True)[1].reshape(-1))
    seed = int(rng.integers(0, 2**63))
    return Resamples(group, stratum, n_resamples, seed)


def _pool_singletons(stratum: Ints) -> Ints:
    """Join strata of one group with each other, and a last lone one with the smallest stratum there is."""
    size = np.bincount(stratum)
    lone = size[stratum] == 1
    if lone.sum() == 1 and len(size) > 1:
        others = np.where(size == 1, np.iinfo(np.int64).max, size)
        stratum = np.where(lone, others.argmin(), stratum)
    elif lone.any():
        stratum = np.where(lone, len(size), stratum)
    return np.unique(stratum, return_inverse=True)[1]


def mean_of(values: npt.ArrayLike, resamples: Resamples) -> Statistic:
    """Return the statistic "mean over cases" of one finite value a case, [N]."""
    v = np.asarray(values, dtype=np.float64)
    sums_of = np.stack((v, np.ones_like(v)), axis=1)
    return function_of_sums(sums_of, lambda sums: sums[:, 0] / sums[:, 1], resamples)


def function_of_sums(
    contributions: npt.ArrayLike, f: Callable[[Floats], Floats], resamples: Resamples
) -> Statistic:
    """Return a statistic that depends on the cases only through sums over them, the cheapest kind there is.

    Parameters
    ----------
    contributions : array_like of float, shape [N, K]
        What each case adds: numerator and denominator, cells of a confusion matrix, bins of a calibration
        curve; ValueError if they are not finite or not of the cases of `resamples`.
    f : callable
        From sums [B, K] to values [B]; NaN where undefined. It gets the sums of each resample: one matrix
        product of group weights with group sums.
    resamples : Resamples
        Of the same N cases.
    """
    c = np.asarray(contributions, dtype=np.float64)
    if c.ndim != 2 or len(c) != len(resamples.group) or not np.isfinite(c).all():
        raise ValueError(f"Expected finite contributions [{len(resamples.group)}, K], got {c.shape}.")
    by_group = resamples.sums(c)
    return lambda weights: f(weights @ by_group)


def weighted(f: Callable[[Floats], Floats], resamples: Resamples) -> Statistic:
    """Return a statistic given as a function of case weights, [B, N] to [B], such as `roc.auc_of_weights`."""
    if np.array_equal(resamples.group, np.arange(resamples.n_groups)):
        return f
    return lambda weights: f(weights[:, resamples.group])


def replicate(statistic: Statistic, resamples: Resamples) -> Floats:
    """Return the statistic of every resample, [B]; NaN where a resample does not define it."""
    return np.concatenate([statistic(w) for w in resamples.weights()])


def bootstrap(statistic: Statistic, resamples: Resamples, replicates: Floats | None = None) -> Estimate:
    """Return a statistic with its 95 % interval by bootstrap over groups.

    The interval is BCa, or percentile where the jackknife gives no acceleration or nearly all resamples lie
    on one side; both are widened for few groups. There is none, with a reason, for a single group, for a
    statistic that never moves, or if more than 5 % of resamples leave it undefined. `replicates` [B] are what
    `replicate` gave for the same draws, to save computing them again.
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
    interval_at, kind = _intervals(point, finite, resamples, statistic)
    return Estimate(point, interval_at(0.05), n, f"{kind} bootstrap, {resamples}")


def widened_z(resamples: Resamples, alpha: float = 0.05) -> float:
    """Return what stands for 1.96 (at alpha 0.05) with few groups (Hesterberg 2015, section 4.2).

    Student's quantile, stretched because a resample of G groups varies by (G - 1) / G too little.
    """
    from scipy.special import stdtrit

    stretch = np.sqrt(resamples.n_groups / (resamples.n_groups - 1))
    return float(stretch * stdtrit(max(resamples.n_groups - resamples.n_strata, 1), 1 - alpha / 2))


def bootstrap_p(point: float, replicates: Floats, resamples: Resamples, statistic: Statistic) -> float:
    """Return the two-sided p value of "the true value is 0" that belongs to the interval of `bootstrap`.

    It is the largest alpha at which the interval at level 1 - alpha still holds 0, found by halving, so
    that p is below 0.05 exactly where the 95 % interval leaves 0 out. Never below 2 / (B + 1): that few
    resamples prove no more.
    """
    interval_at, _ = _intervals(point, np.sort(replicates), resamples, statistic)

    def holds_zero(alpha: float) -> bool:
        low, high = interval_at(alpha)
        return low <= 0 <= high

    low, high = (0.05, 1.0) if holds_zero(0.05) else (0.0, 0.05)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if holds_zero(middle) else (low, middle)
    return max(low, 2 / (len(replicates) + 1))


def _intervals(
    point: float, replicates: Floats, resamples: Resamples, statistic: Statistic
) -> tuple[Callable[[float], tuple[float, float]], str]:
    """Return the interval as a function of alpha, and its kind."""
    from scipy.special import ndtr, ndtri

    share_below = (np.mean(replicates < point) + np.mean(replicates <= point)) / 2
    acceleration = _acceleration(statistic, resamples)
    bca = acceleration is not None and 0 < share_below < 1

    def interval_at(alpha: float) -> tuple[float, float]:
        z = widened_z(resamples, alpha)
        if acceleration is not None and bca:
            bias = ndtri(share_below)
            ends = bias + np.array([-z, z])
            # Past 1 the BCa map folds back on itself; no acceleration of a real data set comes near.
            steep = np.maximum(1 - acceleration * ends, 1e-3)
            levels = ndtr(bias + ends / steep)
        else:
            levels = ndtr([-z, z])
        low, high = np.quantile(replicates, levels)
        return float(low), float(high)

    return interval_at, "BCa" if bca else "percentile"


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
    """Return the mean over cases of one finite value a case, [N], with its interval (see `bootstrap`)."""
    return bootstrap(mean_of(values, resamples), resamples)
