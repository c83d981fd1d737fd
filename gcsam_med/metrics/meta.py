"""One number over several centres: a random-effects summary, and what to expect of a new centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.intervals import Z95, Estimate

LEAST_FOR_PREDICTION = 3


@dataclass(frozen=True, slots=True)
class RandomEffects:
    """A summary over centres."""

    mean: Estimate  #: The mean over centres with its 95 % interval; n is the number of centres.
    #: 95 % interval of the true value in a new centre; None for fewer than three centres.
    prediction: tuple[float, float] | None
    tau: float  #: Standard deviation of the true values between centres.
    i2: float  #: Share of the variance between the estimates that is not chance, 0 to 1.


def random_effects(values: npt.ArrayLike, errors: npt.ArrayLike) -> RandomEffects:
    """Summarise estimates of independent centres, [K], by their standard errors, [K].

    The variance between centres is DerSimonian and Laird's (Controlled Clinical Trials 7, 1986). The mean's
    interval is that of Hartung and Knapp (Statistics in Medicine 20, 2001), t with K - 1 degrees of freedom,
    and never narrower than the one with normal quantiles. The prediction interval is that of Higgins,
    Thompson and Spiegelhalter (JRSS A 172, 2009, eq. 12), t with K - 2 degrees of freedom.

    Raises
    ------
    ValueError
        If there are fewer than two centres, or an error is not positive.
    """
    from scipy.stats import t

    y, se = np.asarray(values, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    k = len(y)
    if k < 2 or y.shape != se.shape or not (np.isfinite(y) & np.isfinite(se) & (se > 0)).all():
        raise ValueError("Need finite values and positive standard errors of at least two centres.")
    fixed = 1 / se**2
    q = float(fixed @ (y - fixed @ y / fixed.sum()) ** 2)
    tau2 = max(0.0, (q - (k - 1)) / float(fixed.sum() - fixed @ fixed / fixed.sum()))
    weights = 1 / (se**2 + tau2)
    mean = float(weights @ y / weights.sum())
    error = float(np.sqrt(1 / weights.sum()))
    spread = np.sqrt(float(weights @ (y - mean) ** 2) / (k - 1))
    half = max(Z95 * error, float(t.ppf(0.975, k - 1)) * error * spread)
    prediction = None
    if k >= LEAST_FOR_PREDICTION:
        reach = float(t.ppf(0.975, k - 2) * np.sqrt(tau2 + error**2))
        prediction = (mean - reach, mean + reach)
    method = f"random effects of {k} centres (DerSimonian-Laird, Hartung-Knapp)"
    estimate = Estimate(mean, (mean - half, mean + half), k, method)
    i2 = max(0.0, 1 - (k - 1) / q) if q > 0 else 0.0
    return RandomEffects(estimate, prediction, float(np.sqrt(tau2)), i2)
