"""Curves against scikit-learn and the definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from gcsam_med.metrics.calibration import BIN_EDGES, assign_bins, decision_curve, reliability_curve
from gcsam_med.metrics.intervals import resample_groups
from gcsam_med.metrics.roc import precision_recall_curve, roc_auc, roc_curve, sensitivity_at_90_specificity

CASES = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.2, 0.25, 0.6, 1.0])), min_size=1, max_size=25
)


def split(pairs):
    return np.array([t for t, _ in pairs]), np.array([s for _, s in pairs])


@settings(max_examples=80, deadline=None)
@given(CASES)
def test_points_hold_the_areas(pairs):
    """Oracle: the area under the ROC points is the AUC, that under the PR steps the average precision."""
    truth, score = split(pairs)
    roc, pr = roc_curve(truth, score), precision_recall_curve(truth, score)
    if truth.all() or not truth.any():
        assert roc is None
        assert pr is None
        assert np.isnan(sensitivity_at_90_specificity(truth, score)(np.ones((1, len(truth)))))
        return
    assert np.trapezoid(roc.sensitivity, 1 - roc.specificity) == pytest.approx(roc_auc(truth, score))
    steps = np.diff(pr.recall, prepend=0.0)
    assert (steps * pr.precision).sum() == pytest.approx(sk.average_precision_score(truth, score))
    for i, t in enumerate(roc.threshold):
        called = score >= t
        assert roc.sensitivity[i] == pytest.approx(called[truth].mean())
        assert roc.specificity[i] == pytest.approx(1 - called[~truth].mean())


@settings(max_examples=80, deadline=None)
@given(CASES, st.integers(0, 10**6))
def test_sensitivity_at_90_specificity_is_the_best_threshold_tried(pairs, seed):
    """Oracle: every score tried as a threshold, and calling nothing, in the data and in a resample."""
    truth, score = split(pairs)
    weights = np.random.default_rng(seed).integers(0, 3, (2, len(truth)))
    weights[0] = 1
    values = sensitivity_at_90_specificity(truth, score)(weights)
    for value, times in zip(values, weights, strict=True):
        y, s = np.repeat(truth, times), np.repeat(score, times)
        if y.all() or not y.any():
            assert np.isnan(value)
            continue
        tried = [(s >= t) for t in np.unique(s)]
        reached = [c[y].mean() for c in tried if 1 - c[~y].mean() >= 0.9 - 1e-12]
        assert value == pytest.approx(max([0.0, *reached]))


def test_stated_specificity_is_reached_despite_rounding():
    """Oracle: arithmetic; 9 of 10 negatives is a specificity of 0.9 though 1 - 0.1 < 0.9 to a computer."""
    truth = np.array([0] * 10 + [1])
    score = np.array([0.0] * 9 + [0.5, 0.5])
    assert sensitivity_at_90_specificity(truth, score)(np.ones((1, 11)))[0] == 1.0


def test_reliability_equals_scikit_learn():
    """Oracle: sklearn.calibration.calibration_curve on probabilities away from bin edges."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        p = rng.random(200)
        truth = rng.random(200) < p**2
        ours = reliability_curve(truth, p)
        observed, predicted = calibration_curve(truth, p, n_bins=10)
        np.testing.assert_allclose(ours.observed, observed)
        np.testing.assert_allclose(ours.predicted, predicted)
        assert ours.count.sum() == 200


@given(st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.35, 1.0]), max_size=20))
def test_every_probability_lies_in_one_bin(p):
    """Oracle: the definition of a bin, open below and closed above but for 0."""
    p = np.array(p, float)
    bins, edges = assign_bins(p), BIN_EDGES
    assert ((edges[bins] < p) | ((p == 0) & (bins == 0))).all()
    assert (p <= edges[bins + 1]).all()


def test_bins_out_of_range_are_refused():
    """Oracle: the contract."""
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        assign_bins(np.array([1.5]))


def test_net_benefit_by_hand():
    """Oracle: Vickers and Elkin's formula worked out by hand, and its known limits."""
    truth = np.array([1, 1, 0, 0, 0])
    p = np.array([0.9, 0.4, 0.5, 0.2, 0.1])
    curve, at = decision_curve(truth, p), [19, 49]
    np.testing.assert_allclose(curve.threshold[at], [0.2, 0.5])
    # At 0.2: both positives and two negatives called; at 0.5: one positive, one negative.
    np.testing.assert_allclose(curve.model[at], [2 / 5 - 2 / 5 * 0.25, 1 / 5 - 1 / 5])
    np.testing.assert_allclose(curve.treat_all[at], [2 / 5 - 3 / 5 * 0.25, 2 / 5 - 3 / 5])
    draws = resample_groups(range(len(truth)), np.random.default_rng(0), n_resamples=400)
    band = decision_curve(truth, p, draws)
    assert ((band.low < curve.model) & (curve.model < band.high))[at].all()
    several = resample_groups(np.arange(len(truth)) // 2, np.random.default_rng(0), n_resamples=400)
    assert np.isfinite(decision_curve(truth, p, several).low).all()
    perfect = decision_curve(truth, truth.astype(float))
    np.testing.assert_allclose(perfect.model, 0.4)
    assert len(perfect.threshold) == 99
    with pytest.raises(ValueError, match="at least one case"):
        decision_curve(truth[:0], p[:0])


def test_net_benefit_equals_its_definition():
    """Oracle: true and false positives counted one threshold at a time, on 20 random sets."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, p = rng.random(30) < 0.4, rng.random(30).round(1)
        curve = decision_curve(truth, p)
        for t, benefit in zip(curve.threshold, curve.model, strict=True):
            hits, needless = ((p >= t) & truth).sum(), ((p >= t) & ~truth).sum()
            assert benefit == pytest.approx(hits / 30 - needless / 30 * t / (1 - t))


def test_roc_points_equal_scikit_learn():
    """Oracle: sklearn.metrics.roc_curve, every point kept."""
    rng = np.random.default_rng(0)
    truth, score = rng.random(300) < 0.3, rng.normal(size=300).round(1)
    ours = roc_curve(truth, score)
    fpr, tpr, threshold = sk.roc_curve(truth, score, drop_intermediate=False)
    np.testing.assert_allclose(ours.sensitivity, tpr)
    np.testing.assert_allclose(ours.specificity, 1 - fpr)
    np.testing.assert_array_equal(ours.threshold, threshold)
