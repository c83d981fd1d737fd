"""Resampling by group against scipy, scikit-learn, explicit resampling, and simulated studies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from gcsam_med.metrics.intervals import (
    bootstrap,
    bootstrap_mean,
    function_of_sums,
    mean_of,
    replicate,
    resample_groups,
    weighted,
    widened_z,
)
from gcsam_med.metrics.roc import auc_of_weights, average_precision_of_weights


def auc_estimate(positive, score, draws):
    return bootstrap(weighted(auc_of_weights(positive, score), draws), draws)


def grouped(rng, n_groups=30):
    group = np.repeat(np.arange(n_groups), rng.integers(1, 5, n_groups))
    return group, rng.normal(size=n_groups)[group] + rng.normal(size=len(group))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_weighted_ranks_equal_scikit_learn(seed, ties):
    """Oracle: scikit-learn with sample_weight, whole and zero weights, with and without ties."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    truth, score = rng.random(n) < 0.5, rng.normal(size=n)
    score = score.round(0) if ties else score
    weights = rng.integers(0, 3, (5, n)).astype(float)
    auc = auc_of_weights(truth, score)(weights)
    precision = average_precision_of_weights(truth, score)(weights)
    for i, w in enumerate(weights):
        if w[truth].sum() and w[~truth].sum():
            assert auc[i] == pytest.approx(roc_auc_score(truth, score, sample_weight=w))
            expected = average_precision_score(truth, score, sample_weight=w)
            assert precision[i] == pytest.approx(expected)
        else:
            assert np.isnan(auc[i])
            assert np.isnan(precision[i])


def test_a_draw_is_whole_groups_and_every_statistic_follows_it():
    """Oracle: the resampled cases written out one by one, as many times as their group was drawn."""
    rng = np.random.default_rng(0)
    group, values = grouped(rng)
    truth, score = values > 0, values + rng.normal(size=len(values))
    draws = resample_groups(group, rng, n_resamples=50)
    mean = replicate(mean_of(values, draws), draws)
    auc = replicate(weighted(auc_of_weights(truth, score), draws), draws)
    weights = np.concatenate(list(draws.weights()))
    assert (weights.sum(axis=1) == 30).all()
    for i, w in enumerate(weights.astype(int)):
        cases = np.concatenate([np.tile(np.flatnonzero(group == g), w[g]) for g in range(30)])
        assert mean[i] == pytest.approx(values[cases].mean())
        assert auc[i] == pytest.approx(roc_auc_score(truth[cases], score[cases]))


def test_draws_are_the_same_every_time_and_chunking_is_invisible(monkeypatch):
    """Oracle: the first pass; two statistics on one Resamples are paired only if the draws repeat."""
    rng = np.random.default_rng(0)
    draws = resample_groups(np.arange(40) // 2, rng, n_resamples=101)
    first = np.concatenate(list(draws.weights()))
    np.testing.assert_array_equal(first, np.concatenate(list(draws.weights())))
    again = resample_groups(np.arange(40) // 2, np.random.default_rng(0), n_resamples=101)
    np.testing.assert_array_equal(first, np.concatenate(list(again.weights())))
    assert not np.array_equal(
        first, np.concatenate(list(resample_groups(np.arange(40) // 2, rng).weights()))[:101]
    )
    monkeypatch.setattr("gcsam_med.metrics.intervals._CHUNK_CELLS", 100)
    chunks = list(draws.weights())
    assert len(chunks) > 10
    np.testing.assert_array_equal(first, np.concatenate(chunks))


def test_draws_are_uniform():
    """Oracle: the multinomial distribution; each group is drawn once on average, with variance 1 - 1/G."""
    draws = resample_groups(np.arange(10), np.random.default_rng(1), n_resamples=20_000)
    weights = np.concatenate(list(draws.weights()))
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, atol=0.03)
    np.testing.assert_allclose(weights.var(axis=0), 0.9, atol=0.04)


def test_strata_keep_their_sizes():
    """Oracle: the definition; each stratum of groups is drawn from itself, lone ones together."""
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 1, 2, 3])
    group = np.array([0, 1, 2, 3, 4, 5, 6, 6, 7, 8])
    draws = resample_groups(group, np.random.default_rng(0), strata=labels, n_resamples=300)
    # Groups 0-2 hold label 0, 3-5 label 1; 6 (both), 7 (label 2) and 8 (label 3) are lone and drawn together.
    assert draws.n_strata == 3
    weights = np.concatenate(list(draws.weights()))
    for members in ([0, 1, 2], [3, 4, 5], [6, 7, 8]):
        assert (weights[:, members].sum(axis=1) == 3).all()
        assert (weights[:, members] == 3).any()
    # A single lone group joins the smallest stratum rather than being drawn always.
    lone = resample_groups(np.arange(6), np.random.default_rng(0), strata=[0, 0, 0, 1, 1, 2])
    assert len(set(lone.stratum[:3])) == len(set(lone.stratum[3:])) == 1
    assert lone.n_strata == 2
    assert resample_groups([0, 1], np.random.default_rng(0), strata=[0, 1]).n_strata == 1


def test_interval_equals_scipy_bca_but_for_the_widening():
    """Oracle: scipy.stats.bootstrap BCa on ungrouped skewed cases; ours is wider by Student's factor."""
    rng = np.random.default_rng(0)
    values = rng.exponential(size=40)
    ours = bootstrap_mean(values, resample_groups(np.arange(40), rng, n_resamples=40_000))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=40_000, rng=np.random.default_rng(1))
    draws = resample_groups(np.arange(40), rng)
    assert widened_z(draws) == pytest.approx(np.sqrt(40 / 39) * stats.t.ppf(0.975, 39))
    same_level = 2 * stats.norm.cdf(widened_z(draws)) - 1
    widened = stats.bootstrap(
        (values,), np.mean, n_resamples=40_000, confidence_level=same_level, rng=np.random.default_rng(2)
    )
    assert ours.ci95 == pytest.approx(tuple(widened.confidence_interval), abs=0.02)
    assert ours.ci95[0] < theirs.confidence_interval.low
    assert ours.ci95[1] > theirs.confidence_interval.high
    assert ours.method == "BCa bootstrap, 40000 resamples of 40 cases"


def test_jackknife_in_blocks_gives_the_same_interval(monkeypatch):
    """Oracle: the jackknife that leaves out one group at a time."""
    rng = np.random.default_rng(0)
    values = rng.exponential(size=400)
    draws = resample_groups(np.arange(400), rng, n_resamples=1000)
    one_by_one = bootstrap_mean(values, draws)
    monkeypatch.setattr("gcsam_med.metrics.intervals._MAX_JACKKNIFE", 100)
    left_out = np.concatenate([w for w, _ in draws.jackknife()])
    assert len(left_out) == 100
    assert ((left_out == 0).sum(axis=1) == 4).all()
    assert bootstrap_mean(values, draws).ci95 == pytest.approx(one_by_one.ci95, abs=0.01)


def test_when_there_is_no_interval_a_reason_is_given():
    """Oracle: the policy."""
    rng = np.random.default_rng(0)
    one = bootstrap_mean([0.5, 0.7], resample_groups(["a", "a"], rng))
    assert (one.value, one.ci95) == (pytest.approx(0.6), None)
    assert "one group" in one.reason
    constant = bootstrap_mean([1.0] * 9, resample_groups(range(9), rng))
    assert constant.ci95 is None
    assert "do not vary" in constant.reason
    no_positives = auc_estimate([0] * 9, range(9), resample_groups(range(9), rng))
    assert no_positives.value is None
    # One positive among five: every third unstratified resample has none.
    rare = auc_estimate([0, 0, 0, 0, 1], [0.1, 0.5, 0.3, 0.2, 0.4], resample_groups(range(5), rng))
    assert rare.value == 0.75
    assert "of resamples" in rare.reason


def squares(weights):
    return (weights**2).sum(axis=1)


def mean_of_whole_draws(weights):
    """Not defined with a group left out."""
    whole = (weights == np.rint(weights)).all(axis=1)
    return np.where(whole, weights @ np.arange(30.0), np.nan)


@pytest.mark.parametrize("metric", [squares, mean_of_whole_draws])
def test_percentile_where_bca_does_not_apply(metric):
    """Oracle: the quantiles; the data lie at the end of all resamples, or no group can be left out."""
    draws = resample_groups(np.arange(30), np.random.default_rng(0), n_resamples=500)
    estimate = bootstrap(metric, draws)
    assert estimate.method.startswith("percentile")
    levels = stats.norm.cdf([-widened_z(draws), widened_z(draws)])
    assert estimate.ci95 == pytest.approx(tuple(np.quantile(replicate(metric, draws), levels)))


def test_malformed_input_is_refused():
    """Oracle: the contract."""
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least one case"):
        resample_groups([], rng)
    with pytest.raises(ValueError, match="at least one case"):
        resample_groups([1, 2], rng, n_resamples=0)
    with pytest.raises(ValueError, match="strata do not fit"):
        resample_groups([1, 2], rng, strata=[1])
    draws = resample_groups([1, 2], rng)
    for values in ([0.1], [0.1, float("nan")]):
        with pytest.raises(ValueError, match="finite contributions"):
            mean_of(values, draws)
    assert function_of_sums([[1.0, 2.0], [3.0, 4.0]], lambda s: s[:, 1], draws)(np.ones((1, 2)))[0] == 6.0


def dice_like_study(rng, n_groups):
    """Skewed metrics in [0, 1], alike within a patient, with one miss in twenty."""
    group = np.repeat(np.arange(n_groups), rng.integers(1, 5, n_groups))
    quality = 0.8 * rng.normal(size=n_groups)[group] + 0.6 * rng.normal(size=len(group))
    dice = stats.beta.ppf(stats.norm.cdf(quality), 4, 1.5)
    return group, np.where(rng.random(len(group)) < 0.05, 0.0, dice)


@pytest.mark.slow
@pytest.mark.parametrize("n_groups", [30, 60])
def test_interval_of_a_mean_covers_the_truth(n_groups):
    """Oracle: 1,000 simulated studies with a known mean; resampling images instead covers far less."""
    truth = 0.95 * stats.beta.mean(4, 1.5)
    rng = np.random.default_rng(n_groups)
    by_group = by_image = 0
    for number in range(1000):
        group, dice = dice_like_study(rng, n_groups)
        low, high = bootstrap_mean(dice, resample_groups(group, rng, n_resamples=500)).ci95
        by_group += low <= truth <= high
        if number < 300:
            images = resample_groups(np.arange(len(dice)), rng, n_resamples=500)
            low, high = bootstrap_mean(dice, images).ci95
            by_image += low <= truth <= high
    assert 0.93 <= by_group / 1000 <= 0.97
    assert by_image / 300 < 0.91


@pytest.mark.slow
def test_interval_of_an_auc_covers_the_truth():
    """Oracle: 1,000 simulated studies with a known AUC, 40 patients of 1 to 4 images."""
    truth = stats.norm.cdf(1.2 / np.sqrt(2))
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        label = rng.permutation(np.arange(40) < 16)
        group = np.repeat(np.arange(40), rng.integers(1, 5, 40))
        score = 1.2 * label[group] + 0.8 * rng.normal(size=40)[group] + 0.6 * rng.normal(size=len(group))
        draws = resample_groups(group, rng, strata=label[group], n_resamples=500)
        low, high = auc_estimate(label[group], score, draws).ci95
        covered += low <= truth <= high
    assert 0.93 <= covered / 1000 <= 0.97
