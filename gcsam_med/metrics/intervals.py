"""Intervals for a share of cases: Wilson's, with fewer effective cases where the cases come in groups."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.estimate import Estimate

Z95 = 1.959963984540054


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % score interval for a share.

    Parameters
    ----------
    successes : float
        In [0, n]; need not be whole (effective counts).
    n : float
        More than 0.

    Returns
    -------
    tuple of (float, float)
        Inside [0, 1], of positive width even at 0 and n.

    Raises
    ------
    ValueError
        If the counts are out of range.

    Notes
    -----
    Wilson, JASA 22(158), 1927; recommended by Brown, Cai and DasGupta, Statistical Science 16(2), 2001.

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
        Which cases count: called rightly, found, ...
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
    if groups is None:
        return Estimate(share, wilson(f.sum(), n), n, "Wilson")
    index = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    if index.shape != f.shape:
        raise ValueError(f"{index.shape} groups do not fit {f.shape} flags.")
    size = np.bincount(index)
    n_groups = len(size)
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
