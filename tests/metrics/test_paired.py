"""Paired tests against scipy, statsmodels, published examples, and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from gcsam_med.metrics.intervals import mean_of, resample_groups
from gcsam_med.metrics.paired import (
    cohens_dz,
    holm,
    mcnemar,
    paired_bootstrap,
    rank_biserial,
    wilcoxon_signed_rank,
)

# Depression factor before and after therapy in nine patients (Hollander and Wolfe, Nonparametric Statistical
# Methods, 2nd edition 1999, table 3.1; also the example of R's wilcox.test).
BEFORE = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
AFTER = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])


def test_wilcoxon_published_example():
    """Oracle: Hollander and Wolfe, examples 3.1 and 3.3: V = 40, two-sided p = 0.0391, estimate 0.46."""
    test = wilcoxon_signed_rank(BEFORE, AFTER)
    assert test.p_value == pytest.approx(0.0391, abs=5e-5)
    assert test.difference.value == pytest.approx(0.46, abs=5e-3)
    # V = 40 of 45: (40 - 5) / 45.
    assert test.effect_size == pytest.approx(35 / 45)
    assert test.difference.ci95[0] > 0


@pytest.mark.parametrize("n", [3, 6, 20, 50, 80])
def test_wilcoxon_p_equals_scipy(n):
    """Oracle: scipy.stats.wilcoxon, exact without ties, by all sign patterns with ties, normal beyond 50."""
    rng = np.random.default_rng(n)
    for ties in (False, True) if n < 7 else (False,):
        for _ in range(5):
            d = rng.normal(size=n) + 0.3
            d = np.round(d * 2) / 2 if ties else d
            if d.any():
                expected = stats.wilcoxon(d, zero_method="pratt").pvalue
                assert wilcoxon_signed_rank(d, np.zeros(n)).p_value == pytest.approx(expected)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.25, 1.0, 3.0]), min_size=1, max_size=15))
def test_hodges_lehmann_is_the_median_of_walsh_averages(differences):
    """Oracle: every pair's mean written out."""
    d = np.array(differences)
    test = wilcoxon_signed_rank(d, np.zeros_like(d))
    i, j = np.triu_indices(len(d))
    averages = np.sort((d[i] + d[j]) / 2)
    if not d.any():
        assert (test.difference.value, test.p_value) == (0.0, 1.0)
        return
    assert test.difference.value == pytest.approx(np.median(averages), abs=1e-9)
    if test.difference.ci95 is not None:
        low, high = test.difference.ci95
        assert np.abs(averages - low).min() < 1e-9
        assert np.abs(averages - high).min() < 1e-9


def test_wilcoxon_with_groups_counts_groups():
    """Oracle: the test on the groups' means."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(20), 3)
    a, b = rng.normal(size=60) + 0.3, rng.normal(size=60)
    means = [np.array([x[group == g].mean() for g in range(20)]) for x in (a, b)]
    assert wilcoxon_signed_rank(a, b, group).p_value == pytest.approx(wilcoxon_signed_rank(*means).p_value)
    assert wilcoxon_signed_rank(a, b, group).difference.n == 20


def test_wilcoxon_differences_that_rounding_makes_tie():
    """Oracle: the same differences in whole numbers; 0.3 - 0.2 and 0.2 - 0.1 are one size."""
    a, b = np.array([0.3, 0.2, 0.9, 0.4]), np.array([0.2, 0.1, 0.7, 0.5])
    whole = wilcoxon_signed_rank([1, 1, 2, -1], [0, 0, 0, 0])
    assert wilcoxon_signed_rank(a, b).p_value == pytest.approx(whole.p_value)
    assert wilcoxon_signed_rank(a, b).effect_size == pytest.approx(whole.effect_size)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_equals_statsmodels(pairs):
    """Oracle: statsmodels' exact McNemar; the difference is that of the accuracies."""
    a, b = np.array(pairs).T
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    test = mcnemar(a, b)
    assert test.p_value == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    assert test.difference.value == pytest.approx(a.mean() - b.mean())
    assert -1 <= test.difference.ci95[0] < test.difference.ci95[1] <= 1
    assert (test.effect_size is None) == (a == b).all()


def test_mcnemar_by_hand():
    """Oracle: binomial tail 2 * (1 + 10 + 45) / 2^10 for 8 against 2; Bonett and Price's formula."""
    a = np.array([1] * 8 + [0] * 2 + [1] * 30)
    b = np.array([0] * 8 + [1] * 2 + [1] * 30)
    test = mcnemar(a, b)
    assert test.p_value == pytest.approx(2 * 56 / 1024)
    assert test.effect_size == pytest.approx(0.3)
    p, q = 9 / 42, 3 / 42
    half = stats.norm.ppf(0.975) * np.sqrt((p + q - (p - q) ** 2) / 42)
    assert test.difference.ci95 == pytest.approx((p - q - half, p - q + half))


def test_mcnemar_by_group_by_hand():
    """Oracle: four groups won by 3, 2, 1 and lost by 1: 3 of 16 ways to swap them end at 5 or more."""
    a = np.array([1, 1, 1, 1, 1, 1, 0, 1])
    b = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    groups = [0, 0, 0, 1, 1, 2, 3, 3]
    test = mcnemar(a, b, groups)
    # Sums of +-3, +-2, +-1, +-1 at 5 or more: 7, 5, 5.
    assert test.p_value == pytest.approx(2 * 3 / 16)
    assert test.difference.value == pytest.approx(5 / 8)
    sums, sizes = np.array([3, 2, 1, -1]), np.array([3, 2, 1, 2])
    error = np.sqrt(4 / 3 * ((sums - sizes * 5 / 8) ** 2).sum()) / 8
    low = 5 / 8 - stats.t.ppf(0.975, 3) * error
    assert test.difference.ci95 == pytest.approx((low, 1.0))
    assert mcnemar(a, b, np.arange(8)) == mcnemar(a, b)
    assert mcnemar(a, b, np.zeros(8)).p_value is None


@pytest.mark.slow
def test_mcnemar_by_group_keeps_its_level():
    """Oracle: simulation of 1,000 studies of equal models on 40 patients with 4 alike images each."""
    rng = np.random.default_rng(2)
    group, rejected = np.repeat(np.arange(40), 4), np.zeros(2)
    for _ in range(1000):
        easy = np.repeat(rng.normal(size=40), 4)
        own = [np.repeat(rng.normal(size=40), 4) for _ in range(2)]
        a, b = ((easy + o + 0.4 * rng.normal(size=160) > 0) for o in own)
        rejected += [mcnemar(a, b, group).p_value < 0.05, mcnemar(a, b).p_value < 0.05]
    assert rejected[0] / 1000 <= 0.06
    assert rejected[1] / 1000 > 0.1  # what is lost if images are taken for patients


def test_paired_bootstrap_sees_what_pairing_gains():
    """Oracle: the paired t interval, which it nears with many cases; unpaired it would be far wider."""
    rng = np.random.default_rng(0)
    case = rng.normal(size=300)
    a, b = case + 0.05 + 0.1 * rng.normal(size=300), case + 0.1 * rng.normal(size=300)
    draws = resample_groups(np.arange(300), rng, n_resamples=5000)
    test = paired_bootstrap(mean_of(a, draws), mean_of(b, draws), draws)
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval()
    assert test.difference.value == pytest.approx((a - b).mean())
    assert test.difference.ci95 == pytest.approx((interval.low, interval.high), abs=2e-3)
    assert test.p_value == pytest.approx(2 / 5001)
    swapped = paired_bootstrap(mean_of(b, draws), mean_of(a, draws), draws)
    assert swapped.p_value == test.p_value
    assert swapped.difference.value == pytest.approx(-test.difference.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 25), st.sampled_from([0.0, 0.3, 0.6, 1.0]))
def test_p_of_the_bootstrap_and_its_interval_agree(seed, n_groups, shift):
    """Oracle: the definition of inversion: p is below 0.05 where the 95 % interval leaves 0 out."""
    rng = np.random.default_rng(seed)
    draws = resample_groups(np.arange(n_groups), rng, n_resamples=200)
    a, b = rng.exponential(size=(2, n_groups)).round(1)
    test = paired_bootstrap(mean_of(a + shift, draws), mean_of(b, draws), draws)
    if test.difference.ci95 is None:
        assert test.p_value in (None, 1.0)
        return
    low, high = test.difference.ci95
    assert (test.p_value < 0.05) == (not low <= 0 <= high)


def test_paired_bootstrap_without_variation():
    """Oracle: the policy; equal models differ by nothing, p is 1, and one group decides nothing."""
    rng = np.random.default_rng(0)
    values = rng.random(10)
    draws = resample_groups(np.arange(10), rng)
    same = paired_bootstrap(mean_of(values, draws), mean_of(values, draws), draws)
    assert (same.difference.value, same.difference.ci95, same.p_value) == (0.0, None, 1.0)
    one = resample_groups(np.zeros(10), rng)
    assert paired_bootstrap(mean_of(values, one), mean_of(values + 1, one), one).p_value is None


def test_holm_published_rule():
    """Oracle: Holm's step-down rule by hand; missing tests are no comparisons."""
    assert holm([0.01, 0.04, None, 0.03]) == pytest.approx([0.03, 0.06, None, 0.06])
    assert holm([]) == []
    assert holm([None]) == [None]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_nor_changes_the_order(p):
    """Oracle: properties of the rule."""
    adjusted = np.array(holm(p))
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_holm_equals_statsmodels():
    """Oracle: statsmodels multipletests(method='holm'), ties included."""
    rng = np.random.default_rng(0)
    for n in (1, 4, 9):
        p = (rng.random(n) ** 3).round(2)
        assert holm(list(p)) == pytest.approx(multipletests(p, method="holm")[1])


def test_effect_sizes_by_hand():
    """Oracle: the definitions."""
    assert cohens_dz([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]) == pytest.approx(2.0)
    assert cohens_dz([1.0, 2.0], [0.0, 1.0]) is None
    assert rank_biserial([1, 2, -3]) == pytest.approx(0.0)
    assert rank_biserial([0.0, 5.0]) == 1.0
    assert rank_biserial([0.0]) is None


def test_what_cannot_be_paired_is_refused():
    """Oracle: the contract; a case that one model leaves undefined must not be dropped quietly."""
    with pytest.raises(ValueError, match="same cases"):
        wilcoxon_signed_rank([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="finite"):
        cohens_dz([1.0, float("nan")], [1.0, 2.0])


@pytest.mark.slow
def test_p_values_hold_their_level():
    """Oracle: simulation of 800 studies of grouped cases without a difference; 5 % have p below 0.05."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 3)
    rejected = np.zeros(2)
    for _ in range(800):
        a, b = (0.7 * rng.normal(size=40)[group] + rng.normal(size=120) for _ in range(2))
        draws = resample_groups(group, rng, n_resamples=400)
        rejected[0] += paired_bootstrap(mean_of(a, draws), mean_of(b, draws), draws).p_value < 0.05
        rejected[1] += wilcoxon_signed_rank(a, b, group).p_value < 0.05
    assert ((rejected / 800 > 0.03) & (rejected / 800 < 0.075)).all()
