"""Whether probabilities mean what they say: reliability, calibration error, temperature, decision curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.classification import (
    Bools,
    CalledCases,
    check_probabilities,
    check_scores,
    missing_class,
)
from gcsam_med.metrics.intervals import (
    Estimate,
    Floats,
    Ints,
    Resamples,
    function_of_sums,
    replicate,
    widened_z,
)

N_BINS = 10
BIN_EDGES = np.linspace(0.0, 1.0, N_BINS + 1)

# Logarithm of the smallest probability that is told from 0: a float32 softmax underflows beyond.
_LOG_FLOOR = float(np.log(1e-30))


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """What was predicted against what happened, in bins of the predicted probability; empty bins left out."""

    predicted: Floats  #: Mean probability in each bin.
    observed: Floats  #: Share of positives in each bin.
    count: Ints  #: Cases in each bin.


@dataclass(frozen=True, slots=True)
class DecisionCurve:
    """Net benefit of acting on a model, of acting on everyone and on no one (always 0)."""

    #: Probability at which one would act, in (0, 1): how many needless actions one true finding is worth.
    threshold: Floats
    model: Floats  #: Net benefit per case: true findings minus needless actions times ``t / (1 - t)``.
    treat_all: Floats  #: The same if every case is acted on.
    #: low, high: 95 % interval of the model's net benefit at each threshold, NaN without resamples.
    low: Floats
    high: Floats


def confidence(y_true: npt.ArrayLike, prob: npt.ArrayLike) -> tuple[Bools, Floats]:
    """Return the event [N] and its probability [N] whose agreement is calibration.

    Two classes: the case is of class 1. More: the likeliest class is right.
    """
    labels, p = check_probabilities(y_true, prob)
    if p.shape[1] == 2:
        return labels == 1, p[:, 1]
    return p.argmax(axis=1) == labels, p.max(axis=1)


def _contributions(event: Bools, prob: Floats) -> Floats:
    """What each case adds to the sums behind the error, shape [N, B + 1].

    Probability minus event in the case's own bin, 0 in the others; a last column of ones counts the cases.
    """
    result = np.zeros((len(prob), N_BINS + 1))
    result[np.arange(len(prob)), assign_bins(prob)] = prob - event
    result[:, -1] = 1.0
    return result


def _error_of_sums(sums: Floats) -> Floats:
    # The sizes of the bins cancel: the mean weighted by them is the summed distance over the number of cases.
    return np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]


def calibration_error_estimate(cases: CalledCases) -> Estimate:
    """Return the expected calibration error, in 10 bins of equal width, with its 95 % interval.

    It is the mean distance between predicted probability and observed share over the bins, weighted by their
    cases, in [0, 1]; of class 1 with two classes, of the likeliest class with more (`confidence`). Even
    perfect probabilities give more than 0, the more so the fewer the cases. (Naeini, Cooper and Hauskrecht,
    AAAI 2015; Guo et al., ICML 2017, arXiv 1706.04599, equation 3.)

    A resample adds noise to every bin, and the size of noise adds to the error, so percentile and BCa
    intervals lie too high (simulated with perfect probabilities, they never reach down to the true 0). The
    basic bootstrap mirrors that bias away; and where perfect calibration cannot be refuted at 2.5 % (wild
    bootstrap: signs of whole groups flipped at random), the lower end is 0. In simulation this covers the
    truth in 88 to 98 of 100 studies. No interval for a single group.
    """
    from scipy.stats import norm

    event, p = confidence(cases.labels, cases.prob)
    contributions, resamples = _contributions(event, p), cases.resamples
    statistic = function_of_sums(contributions, _error_of_sums, resamples)
    point, n = float(statistic(np.ones((1, resamples.n_groups)))[0]), len(p)
    if resamples.n_groups < 2:
        return Estimate(point, None, n, "none", "all cases belong to one group")
    levels = norm.cdf(np.array([-1.0, 1.0]) * widened_z(resamples))
    low, high = 2 * point - np.quantile(replicate(statistic, resamples), levels[::-1])
    if point <= _largest_by_chance(contributions, resamples, float(levels[1])):
        low = 0.0
    interval = (max(0.0, float(low)), float(np.clip(high, max(0.0, low), 1.0)))
    return Estimate(point, interval, n, f"basic bootstrap, {resamples}")


def _largest_by_chance(contributions: Floats, resamples: Resamples, level: float) -> float:
    """Quantile of the error that perfect probabilities would show: group sums with signs drawn at random."""
    by_group = resamples.sums(contributions[:, :-1])
    rng = np.random.default_rng(resamples.seed)
    errors = np.empty(resamples.n_resamples)
    for i in range(resamples.n_resamples):
        signs = rng.integers(0, 2, resamples.n_groups) * 2.0 - 1.0
        errors[i] = np.abs(signs @ by_group).sum() / len(contributions)
    return float(np.quantile(errors, level))


def fit_temperature(y_true: npt.ArrayLike, prob: npt.ArrayLike) -> float:
    """Fit the temperature that makes validation probabilities likeliest (Guo et al., ICML 2017, section 4.2).

    `y_true` [N] and `prob` [N, C] are of the validation set; ValueError if it is empty. Logits are not
    needed: a softmax forgets only a constant, which does not matter here. The result lies in [0.01, 100].
    Above 1 the network was too sure, below 1 not sure enough. At an end of the range the validation set does
    not pin it down (all right, or no better than chance). The negative log-likelihood is convex in 1/T, so
    the bounded search over log T finds its one minimum.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    labels, p = check_probabilities(y_true, prob)
    if not len(labels):
        raise ValueError("A temperature needs at least one validation case.")
    logits = _logits(p)
    own = logits[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        sharpness = np.exp(-log_temperature)
        return float((logsumexp(logits * sharpness, axis=1) - own * sharpness).mean())

    ends = (np.log(0.01), np.log(100.0))
    return float(np.exp(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-8}).x))


def apply_temperature(prob: npt.ArrayLike, temperature: float) -> Floats:
    """Return probabilities [N, C] softened (temperature above 1) or sharpened; the likeliest class stays.

    Raises
    ------
    ValueError
        If the temperature is not positive.
    """
    from scipy.special import softmax

    if not temperature > 0:
        raise ValueError(f"A temperature is more than 0, got {temperature}.")
    p = np.asarray(prob, dtype=np.float64)
    checked = check_probabilities(np.zeros(len(p), dtype=np.int64), p)[1]
    return softmax(_logits(checked) / temperature, axis=1)


def log_odds(prob: npt.ArrayLike) -> Floats:
    """Return the logarithm of the odds of class 1, [N], from probabilities [N, 2]."""
    logits = _logits(np.asarray(prob, dtype=np.float64))
    return logits[:, 1] - logits[:, 0]


def _logistic(positive: Bools, odds: Floats, *, slope: bool, **fit: Any) -> Any:
    """Regress the truth on log-odds (logistic): intercept and slope, or the intercept beside slope 1."""
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    ones = np.ones_like(odds)
    columns = np.column_stack([ones, odds]) if slope else ones[:, None]
    model = GLM(positive.astype(float), columns, family=Binomial(), offset=None if slope else odds)
    return model.fit(**fit)


def _regression_estimate(cases: CalledCases, *, slope: bool) -> Estimate:
    from scipy.stats import t

    positive, odds, group = cases.labels == 1, log_odds(cases.prob), cases.resamples.group
    n, n_groups = len(positive), cases.resamples.n_groups
    if missing_class(positive):
        return Estimate.undefined(missing_class(positive), n)
    if slope and not overlap(positive, odds):
        return Estimate.undefined("the probabilities separate the classes completely", n)
    fitted = _logistic(positive, odds, slope=slope, cov_type="cluster", cov_kwds={"groups": group})
    value, error = float(fitted.params[-1]), float(fitted.bse[-1])
    if n_groups < 3:
        return Estimate(value, None, n, "none", "too few groups")
    half = float(t.ppf(0.975, n_groups - 1)) * error
    method = f"robust logistic regression, {cases.resamples.units}"
    return Estimate(value, (value - half, value + half), n, method)


def overlap(positive: Bools, score: Floats) -> bool:
    """Whether no cut of the score tells all positives from all negatives: else no slope is finite."""
    yes, no = score[positive], score[~positive]
    return bool(len(yes) and len(no) and no.max() > yes.min() and yes.max() > no.min())


def calibration_slope(cases: CalledCases) -> Estimate:
    """Return the slope of the truth on the log-odds of class 1 (Cox, Biometrika 45, 1958); 1 is right.

    Below 1 the probabilities are too extreme. The interval is Wald's, with errors by group.
    """
    return _regression_estimate(cases, slope=True)


def calibration_intercept(cases: CalledCases) -> Estimate:
    """Return calibration in the large: the intercept beside a slope of 1, in log-odds; 0 is right.

    Above 0 the finding is more frequent than the probabilities say.
    """
    return _regression_estimate(cases, slope=False)


def fit_logistic(positive: npt.ArrayLike, prob: npt.ArrayLike) -> tuple[float, float] | None:
    """Fit intercept and slope that make validation probabilities [N, 2] likeliest (Platt, on log-odds).

    Unlike a temperature it also shifts, which undoes class weights of the loss. None where the validation
    cases do not pin it down: separated completely, or a slope that is not positive.
    """
    truth, odds = np.asarray(positive, dtype=bool), log_odds(prob)
    if not overlap(truth, odds):
        return None
    intercept, slope = _logistic(truth, odds, slope=True).params
    return (float(intercept), float(slope)) if slope > 0 else None


def apply_logistic(prob: npt.ArrayLike, intercept: float, slope: float) -> Floats:
    """Return probabilities [N, 2] after logistic recalibration."""
    from scipy.special import expit

    positive = expit(intercept + slope * log_odds(prob))
    return np.column_stack([1 - positive, positive])


def _logits(prob: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(prob), _LOG_FLOOR)


def reliability_curve(positive: npt.ArrayLike, prob: npt.ArrayLike) -> ReliabilityCurve:
    """Return mean predicted probability and observed share in 10 bins of equal width, empty ones left out.

    Raises
    ------
    ValueError
        If a probability lies outside [0, 1].
    """
    truth, p = check_scores(positive, prob)
    bins = assign_bins(p)
    count = np.bincount(bins, minlength=N_BINS)
    used = count > 0
    predicted = np.bincount(bins, p, minlength=N_BINS)[used] / count[used]
    observed = np.bincount(bins, truth, minlength=N_BINS)[used] / count[used]
    return ReliabilityCurve(predicted, observed, count[used])


def assign_bins(prob: Floats) -> Ints:
    """Return the bin of each probability; bins are open below and closed above, the first closed at 0.

    Raises
    ------
    ValueError
        If a probability lies outside [0, 1].
    """
    if len(prob) and (prob.min() < 0 or prob.max() > 1):
        raise ValueError(f"Probabilities lie in [0, 1], got {prob.min()}..{prob.max()}.")
    return np.clip(np.searchsorted(BIN_EDGES, prob, side="left") - 1, 0, N_BINS - 1)


def decision_curve(
    positive: npt.ArrayLike,
    prob: npt.ArrayLike,
    resamples: Resamples | None = None,
) -> DecisionCurve:
    """Return the net benefit of acting where the probability reaches t, at 0.01 to 0.99 in steps of 0.01.

    It is ``TP/N - FP/N * t/(1 - t)``. `positive` (truth) and `prob` (in [0, 1]) are [N], with at least one
    case; ValueError otherwise. Vickers and Elkin, Medical Decision Making 26(6), 2006. The prevalence is that
    of the cases at hand. With `resamples` of the same cases each threshold has an interval (percentile,
    widened for few groups).
    """
    from scipy.stats import norm

    truth, p = check_scores(positive, prob)
    if not len(truth):
        raise ValueError("Need at least one case.")
    t = np.arange(1, 100) / 100
    called = p[None] >= t[:, None]
    odds = t / (1 - t)
    benefit = (called & truth) - (called & ~truth) * odds[:, None]
    prevalence = truth.mean()
    low = high = np.full(len(t), np.nan)
    if resamples is not None and resamples.n_groups > 1:
        levels = norm.cdf(np.array([-1.0, 1.0]) * widened_z(resamples))
        sums = resamples.sums(np.column_stack([benefit.T, np.ones(len(truth))]))
        drawn = np.concatenate([weights @ sums for weights in resamples.weights()])
        low, high = np.quantile(drawn[:, :-1] / drawn[:, -1:], levels, axis=0)
    return DecisionCurve(t, benefit.mean(axis=1), prevalence - (1 - prevalence) * odds, low, high)
