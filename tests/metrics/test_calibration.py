"""Calibration error by its definition, temperature scaling against a logistic fit, coverage by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax
from sklearn.metrics import log_loss

from gcsam_med.metrics.calibration import (
    apply_logistic,
    apply_temperature,
    calibration_error_estimate,
    calibration_intercept,
    calibration_slope,
    confidence,
    fit_logistic,
    fit_temperature,
)
from gcsam_med.metrics.classification import CalledCases, log_losses
from gcsam_med.metrics.intervals import resample_groups


def two(p):
    return np.stack((1 - np.asarray(p), np.asarray(p)), axis=1)


def estimate(y, prob, draws):
    return calibration_error_estimate(CalledCases(np.asarray(y), prob, prob.argmax(1), draws))


def error(y, prob):
    prob = np.asarray(prob)
    return estimate(y, prob, resample_groups(range(len(prob)), np.random.default_rng(0), n_resamples=1)).value


def brute_force_ece(event, p, n_bins):
    total = 0.0
    for b in range(n_bins):
        inside = (p > b / n_bins) & (p <= (b + 1) / n_bins)
        if b == 0:
            inside |= p == 0
        if inside.any():
            total += inside.sum() * abs(event[inside].mean() - p[inside].mean())
    return total / len(p)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_ece_equals_its_definition(n_classes):
    """Oracle: the definition (Guo et al. 2017, equation 3), bin by bin, on 200 random sets."""
    rng = np.random.default_rng(n_classes)
    for _ in range(200):
        n = rng.integers(1, 60)
        y, prob = rng.integers(0, n_classes, n), rng.dirichlet(np.ones(n_classes), n)
        event, p = (y == 1, prob[:, 1]) if n_classes == 2 else (prob.argmax(1) == y, prob.max(1))
        assert error(y, prob) == pytest.approx(brute_force_ece(event, p, 10))


def test_ece_of_known_sets():
    """Oracle: worked out by hand."""
    assert error([1, 1, 0, 0], two([1.0, 1.0, 0.0, 0.0])) == 0.0
    assert error([0, 0, 1, 1], two([1.0, 1.0, 0.0, 0.0])) == 1.0
    # A constant 0.7 where half are positive is off by 0.2.
    assert error([1, 0], two([0.7, 0.7])) == pytest.approx(0.2)
    event, p = confidence([2, 0], [[0.2, 0.2, 0.6], [0.1, 0.8, 0.1]])
    assert event.tolist() == [True, False]
    assert p.tolist() == [0.6, 0.8]


def test_temperature_equals_a_logistic_fit_without_intercept():
    """Oracle: statsmodels Logit of the label on the logit of the probability; its slope is 1/T."""
    import statsmodels.api as sm

    rng = np.random.default_rng(0)
    for true_temperature in (0.5, 1.0, 3.0):
        z = rng.normal(size=400) * 2
        y = (rng.random(400) < expit(z)).astype(int)
        sure = expit(z * true_temperature)
        slope = sm.Logit(y, logit(sure)[:, None]).fit(disp=0).params[0]
        assert fit_temperature(y, two(sure)) == pytest.approx(1 / slope, rel=1e-4)


def test_temperature_is_recovered_for_many_classes_and_improves_the_loss():
    """Oracle: labels drawn from the probabilities before they were sharpened."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(5000, 4)) * 2
    truth = softmax(logits, axis=1)
    y = (truth.cumsum(1) > rng.random((5000, 1))).argmax(1)
    sharp = softmax(logits * 2.5, axis=1)
    t = fit_temperature(y, sharp)
    assert t == pytest.approx(2.5, rel=0.05)
    calibrated = apply_temperature(sharp, t)
    np.testing.assert_allclose(apply_temperature(sharp, 2.5), truth, atol=1e-12)
    assert log_losses(y, calibrated).mean() < log_losses(y, sharp).mean()
    assert error(y, calibrated) < error(y, sharp) / 3


@given(st.floats(0.05, 20), st.integers(0, 1000))
def test_temperature_keeps_the_order_of_classes(temperature, seed):
    """Oracle: dividing logits by a positive number is monotone."""
    prob = np.random.default_rng(seed).dirichlet(np.ones(5), 3)
    cooled = apply_temperature(prob, temperature)
    np.testing.assert_array_equal(cooled.argsort(1), prob.argsort(1))
    np.testing.assert_allclose(cooled.sum(1), 1.0)


def test_temperature_at_the_edges():
    """Oracle: the stated range; a perfect validation set does not pin the temperature down."""
    assert 0.01 <= fit_temperature([0, 1], two([0.3, 0.7])) < 0.1
    certain = two([0.0, 1.0, 1.0, 0.0])
    t = fit_temperature([0, 1, 0, 1], certain)
    assert t == pytest.approx(100, rel=0.01)
    assert np.isfinite(apply_temperature(certain, t)).all()
    with pytest.raises(ValueError, match="at least one"):
        fit_temperature(np.empty(0, int), np.empty((0, 2)))
    with pytest.raises(ValueError, match="more than 0"):
        apply_temperature(certain, 0.0)


def test_interval_of_one_group_and_of_a_known_set():
    """Oracle: the policy; one group says nothing about others, fifty equal cases agree exactly."""
    rng = np.random.default_rng(0)
    one = estimate([0, 1], two([0.2, 0.9]), resample_groups([1, 1], rng))
    assert one.ci95 is None
    assert "one group" in one.reason
    wrong = estimate([0] * 50, two([0.9] * 50), resample_groups(range(50), rng))
    assert wrong.value == pytest.approx(0.9)
    assert wrong.ci95 == pytest.approx((0.9, 0.9))


@pytest.mark.slow
@pytest.mark.parametrize(("slope", "at_least"), [(1.0, 0.93), (0.7, 0.85)])
def test_interval_covers_the_true_error(slope, at_least):
    """Oracle: simulation of 300 studies whose true error is known."""
    rng = np.random.default_rng(5)
    z = rng.normal(size=200_000) * 1.5
    p, true = expit(z), expit(slope * z)
    bins = np.minimum((p * 10).astype(int), 9)
    error = np.abs(np.bincount(bins, p - true)).sum() / len(p)
    covered = 0
    for _ in range(300):
        i = rng.integers(0, len(z), 200)
        y = (rng.random(200) < true[i]).astype(int)
        draws = resample_groups(np.arange(200), rng, n_resamples=400)
        low, high = estimate(y, two(p[i]), draws).ci95
        covered += low <= error <= high
    assert covered / 300 >= at_least


def drawn(rng, n, intercept=0.0, slope=1.0):
    """Draw log-odds of predictions, and truths whose true log-odds are intercept + slope times those."""
    odds = rng.normal(-0.5, 1.5, n)
    truth = rng.random(n) < expit(intercept + slope * odds)
    return truth, np.column_stack([expit(-odds), expit(odds)])


def cases(truth, prob, groups=None):
    groups = np.arange(len(truth)) if groups is None else groups
    resamples = resample_groups(groups, np.random.default_rng(0), n_resamples=100)
    return CalledCases(truth.astype(np.int64), prob, prob.argmax(axis=1), resamples)


def test_slope_and_intercept_are_the_likeliest():
    """Oracle: the negative log-likelihood minimised by SciPy."""
    truth, prob = drawn(np.random.default_rng(1), 300, 0.4, 0.6)
    odds = np.log(prob[:, 1] / prob[:, 0])

    def loss(parameters):
        return log_loss(truth, expit(parameters[0] + parameters[-1] * odds))

    both = minimize(loss, [0.0, 1.0]).x
    shift = minimize(lambda a: log_loss(truth, expit(a[0] + odds)), [0.0]).x
    assert calibration_slope(cases(truth, prob)).value == pytest.approx(both[1], abs=1e-3)
    assert calibration_intercept(cases(truth, prob)).value == pytest.approx(shift[0], abs=1e-3)
    intercept, slope = fit_logistic(truth, prob)
    assert [intercept, slope] == pytest.approx(both, abs=1e-3)
    # Recalibrated by its own fit, the same cases are calibrated.
    after = cases(truth, apply_logistic(prob, intercept, slope))
    assert calibration_slope(after).value == pytest.approx(1, abs=1e-6)
    assert calibration_intercept(after).value == pytest.approx(0, abs=1e-6)


def test_copies_of_cases_in_one_group_make_no_interval_shorter():
    """Oracle: the same cases once each."""
    truth, prob = drawn(np.random.default_rng(2), 120)
    once = calibration_slope(cases(truth, prob))
    four = calibration_slope(cases(truth.repeat(4), prob.repeat(4, axis=0), np.arange(120).repeat(4)))
    assert four.value == pytest.approx(once.value)
    assert np.diff(four.ci95)[0] == pytest.approx(np.diff(once.ci95)[0], rel=0.02)


def test_separated_classes_have_no_slope():
    truth, odds = np.array([False, False, True, True]), np.array([-2.0, -1.0, 1.0, 2.0])
    prob = np.column_stack([expit(-odds), expit(odds)])
    assert "separate" in calibration_slope(cases(truth, prob)).reason
    assert fit_logistic(truth, prob) is None
    assert calibration_intercept(cases(np.ones(4, bool), prob)).value is None


@pytest.mark.slow
def test_intervals_of_slope_and_intercept_cover():
    """Oracle: the true values; 400 studies of 60 groups of two, 95 % with a Monte-Carlo error of 1.1 %."""
    rng, hits = np.random.default_rng(3), np.zeros(2)
    for _ in range(400):
        odds = rng.normal(0, 1.2, 60).repeat(2) + rng.normal(0, 0.3, 120)
        truth = rng.random(60).repeat(2) < expit(odds)  # one draw a group: its cases go together
        one = cases(truth, np.column_stack([expit(-odds), expit(odds)]), np.arange(60).repeat(2))
        for k, (found, true) in enumerate([(calibration_slope(one), 1), (calibration_intercept(one), 0)]):
            hits[k] += found.ci95[0] <= true <= found.ci95[1]
    assert ((hits / 400 > 0.92) & (hits / 400 < 0.98)).all()
