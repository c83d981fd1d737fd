"""DeLong's variance and test against the published example, the definition over all pairs, the bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from gcsam_med.metrics.intervals import replicate, resample_groups, weighted
from gcsam_med.metrics.paired import delong_test
from gcsam_med.metrics.roc import auc_covariance, auc_of_weights, delong_auc, newcombe_auc_interval

# The example of DeLong, DeLong and Clarke-Pearson (1988): ovarian cancer with bowel obstruction; albumin,
# total protein and K-G score of 43 patients with all three, and whether they profited from surgery (0: no,
# the event). Data and results as printed in the SAS/STAT User's Guide, LOGISTIC procedure, "Comparing
# Receiver Operating Characteristic Curves".
PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1   3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1   4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1   4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1   3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1   3.7 6.9 5 1  3.6 6.6 5 1
"""
DELONG_1988 = np.array(PATIENTS.split(), dtype=float).reshape(-1, 4)
EVENT = DELONG_1988[:, 3] == 0
ALBUMIN, PROTEIN, KG = -DELONG_1988[:, 0], -DELONG_1988[:, 1], DELONG_1988[:, 2]


def test_published_example():
    """Oracle: areas 0.7366, 0.7258, 0.6478; errors 0.0927, 0.1028, 0.1000; joint chi-square 2.5340 (2 df)."""
    auc, covariance = auc_covariance(EVENT, [ALBUMIN, KG, PROTEIN])
    np.testing.assert_allclose(auc, [0.7366, 0.7258, 0.6478], atol=5e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), [0.0927, 0.1028, 0.1000], atol=5e-5)
    contrast = np.array([[1, -1, 0], [0, -1, 1]])
    d = contrast @ auc
    chi_square = d @ np.linalg.solve(contrast @ covariance @ contrast.T, d)
    assert chi_square == pytest.approx(2.5340, abs=5e-5)


@pytest.mark.parametrize(
    ("other", "difference", "low", "high", "p"),
    [(ALBUMIN, 0.0108, -0.1761, 0.1976, 0.9102), (PROTEIN, -0.0780, -0.2830, 0.1271, 0.4561)],
)
def test_published_paired_comparisons(other, difference, low, high, p):
    """Oracle: the same example, each test against the K-G score."""
    test = delong_test(EVENT, other, KG)
    assert test.difference.value == pytest.approx(difference, abs=5e-5)
    assert test.difference.ci95 == pytest.approx((low, high), abs=6e-5)
    assert test.p_value == pytest.approx(p, abs=5e-5)


def by_all_pairs(truth, rows):
    """DeLong's covariance by the kernel over all pairs."""
    pos, neg = rows[:, truth], rows[:, ~truth]
    kernel = (pos[:, :, None] > neg[:, None]) + 0.5 * (pos[:, :, None] == neg[:, None])
    s10, s01 = np.cov(kernel.mean(2)), np.cov(kernel.mean(1))
    return kernel.mean((1, 2)), s10 / pos.shape[1] + s01 / neg.shape[1]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 12), st.booleans())
def test_midranks_equal_all_pairs(seed, n_pos, n_neg, ties):
    """Oracle: DeLong's definition over all pairs, with and without ties; groups of one change nothing."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n_pos + n_neg) < n_pos)
    rows = rng.normal(size=(3, len(truth))) + truth
    rows = rows.round(0) if ties else rows
    auc, covariance = auc_covariance(truth, rows)
    expected_auc, expected = by_all_pairs(truth, rows)
    np.testing.assert_allclose(auc, expected_auc)
    np.testing.assert_allclose(covariance, expected, atol=1e-12)
    np.testing.assert_allclose(auc_covariance(truth, rows, np.arange(len(truth)))[1], expected, atol=1e-12)


def test_grouped_variance_equals_obuchowski_by_hand():
    """Oracle: Obuchowski (1997), equations for S10, S01 and S11 written out over groups."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(15), rng.integers(1, 5, 15))
    truth = rng.random(len(group)) < 0.4
    score = rng.normal(size=len(group)) + truth
    pos, neg = score[truth], score[~truth]
    kernel = (pos[:, None] > neg[None]) + 0.5 * (pos[:, None] == neg[None])
    auc, m, n = kernel.mean(), len(pos), len(neg)
    v10, v01 = kernel.mean(1), kernel.mean(0)
    s10 = s01 = s11 = 0.0
    with_pos, with_neg = len(set(group[truth])), len(set(group[~truth]))
    for g in range(15):
        a = (v10[group[truth] == g] - auc).sum()
        b = (v01[group[~truth] == g] - auc).sum()
        s10 += a**2 * with_pos / ((with_pos - 1) * m)
        s01 += b**2 * with_neg / ((with_neg - 1) * n)
        s11 += a * b * 15 / 14
    variance = s10 / m + s01 / n + 2 * s11 / (m * n)
    assert auc_covariance(truth, score, group)[1][0, 0] == pytest.approx(variance)


@pytest.mark.parametrize("per_group", [1, 3])
def test_error_agrees_with_the_bootstrap(per_group):
    """Oracle: the spread of 4,000 bootstrap resamples of the same groups, within 6 %."""
    rng = np.random.default_rng(per_group)
    group = np.repeat(np.arange(240 // per_group), per_group)
    truth = (rng.random(group.max() + 1) < 0.4)[group]
    noise = rng.normal(size=group.max() + 1)[group] + rng.normal(size=len(group))
    a, b = truth + noise, truth * 0.6 + noise + rng.normal(size=len(group))
    draws = resample_groups(group, rng, strata=truth, n_resamples=4000)
    first, second = (replicate(weighted(auc_of_weights(truth, s), draws), draws) for s in (a, b))
    _, covariance = auc_covariance(truth, [a, b], group)
    assert np.sqrt(covariance[0, 0]) == pytest.approx(first.std(), rel=0.06)
    difference = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert np.sqrt(difference) == pytest.approx((first - second).std(), rel=0.06)


def test_interval_stays_inside_and_around_the_area():
    """Oracle: the delta method on the logit scale."""
    estimate = delong_auc(EVENT, ALBUMIN)
    auc, error = estimate.value, np.sqrt(auc_covariance(EVENT, ALBUMIN)[1][0, 0])
    half = norm.ppf(0.975) * error / (auc * (1 - auc))
    ends = [np.log(auc / (1 - auc)) + s * half for s in (-1, 1)]
    assert estimate.ci95 == pytest.approx([1 / (1 + np.exp(-e)) for e in ends])
    assert estimate.value == pytest.approx(roc_auc_score(EVENT, ALBUMIN))
    assert "group" in delong_auc(EVENT, ALBUMIN, np.arange(43) // 2).method


def test_perfect_separation_has_an_honest_interval():
    """Oracle: Newcombe's equation |auc - theta| = z sqrt(V(theta))."""
    few = delong_auc([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    many = delong_auc([0] * 50 + [1] * 50, np.arange(100))
    assert few.value == many.value == 1.0
    assert few.ci95[1] == many.ci95[1] == 1.0
    assert few.ci95[0] < 0.6
    assert 0.9 < many.ci95[0] < 1
    # Grouped into two patients, four cases are no surer than two.
    assert delong_auc([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]).ci95[0] < few.ci95[0]
    low = newcombe_auc_interval(0.8, 20, 30)[0]
    inner = 1 + 24 * ((1 - low) / (2 - low) + low / (1 + low))
    spread = norm.ppf(0.975) * np.sqrt(low * (1 - low) * inner / 600)
    assert 0.8 - low == pytest.approx(spread)
    high = newcombe_auc_interval(0.8, 20, 30)[1]
    assert newcombe_auc_interval(0.2, 30, 20) == pytest.approx((1 - high, 1 - low))


def test_one_class_and_equal_models():
    """Oracle: the policy."""
    assert delong_auc([1, 1], [0.2, 0.3]).value is None
    assert delong_test([0, 0], [0.1, 0.2], [0.1, 0.2]).p_value is None
    same = delong_test([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4])
    assert (same.difference.value, same.p_value) == (0.0, 1.0)
    assert same.difference.ci95 is None
    lone = delong_test([0, 0, 1], [0.1, 0.2, 0.3], [0.3, 0.1, 0.2])
    assert lone.p_value is None
    with pytest.raises(ValueError, match="positives and negatives"):
        auc_covariance([1, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="groups do not fit"):
        auc_covariance([0, 1], [0.1, 0.2], [1])


@pytest.mark.slow
def test_p_values_are_uniform_when_models_are_equally_good():
    """Oracle: simulation; of 2,000 comparisons without a difference 5 % have p below 0.05."""
    rng = np.random.default_rng(3)
    below = 0
    for _ in range(2000):
        truth = np.arange(80) < 30
        shared = truth + rng.normal(size=80)
        a, b = shared + rng.normal(size=80), shared + rng.normal(size=80)
        below += delong_test(truth, a, b).p_value < 0.05
    assert 0.035 <= below / 2000 <= 0.065
