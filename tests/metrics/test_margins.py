"""Tests against a margin: published values, and their level in simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.weightstats import ttost_paired

from gcsam_med.metrics.intervals import resample_groups
from gcsam_med.metrics.margins import ALPHA, margin_test
from gcsam_med.metrics.roc import auc_of_weights
from gcsam_med.metrics.seeds import crossed_effects, crossed_statistic

# Hours of sleep gained with two drugs: Student, "The probable error of a mean", Biometrika 6 (1908).
DRUG_1 = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
DRUG_2 = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def test_tost_of_a_published_example() -> None:
    """Oracle: the R package TOSTER, vignette "IntroTOSTt" (aaroncaldwell.us/TOSTERpkg/articles).

    Paired t_TOST of R's data set sleep, bounds of 0.5: t(9) = -2.777 and -5.348, p 0.9892 for equivalence;
    the paired t test of R itself: t = -4.0621, df = 9, p 0.002833.
    """
    d = DRUG_1 - DRUG_2
    error = d.std(ddof=1) / np.sqrt(len(d))
    found = margin_test(d.mean(), error, 9, 0.5)
    assert d.mean() / error == pytest.approx(-4.0621, abs=5e-5)
    assert (d.mean() + 0.5) / error == pytest.approx(-2.777, abs=5e-4)
    assert (d.mean() - 0.5) / error == pytest.approx(-5.348, abs=5e-4)
    assert found.p_not_worse == pytest.approx(0.9892, abs=5e-5)
    assert found.p_equivalent == found.p_not_worse


def test_tost_of_published_summaries() -> None:
    """Oracle: printed by TOSTER's TOSTtwo in question 547499 of stats.stackexchange.com.

    t(32.82) = 5.69 and -3.873, p 0.000001 and 0.000242, bounds of 0.3946, 90 % interval -0.065 to 0.215.
    """
    from scipy.stats import t

    difference = (0.215 - 0.065) / 2
    error = (0.215 + 0.065) / 2 / t.ppf(0.95, 32.82)
    found = margin_test(difference, error, 32.82, 0.3946)
    assert found.p_not_worse == pytest.approx(0.000001, abs=6e-7)
    assert found.p_not_better == pytest.approx(0.000242, rel=0.06)  # three digits of the interval are given


@pytest.mark.parametrize("margin", [0.5, 2.0, 3.0])
def test_tost_is_that_of_statsmodels(margin: float) -> None:
    """Oracle: statsmodels' ttost_paired."""
    d = DRUG_2 - DRUG_1
    found = margin_test(d.mean(), d.std(ddof=1) / np.sqrt(10), 9, margin)
    p, lower, upper = ttost_paired(DRUG_2, DRUG_1, -margin, margin)
    assert found.p_equivalent == pytest.approx(p)
    assert (found.p_not_worse, found.p_not_better) == pytest.approx((lower[1], upper[1]))


def test_the_answers_are_those_of_the_interval() -> None:
    """Oracle: the 95 % interval of the same differences, and margins just beside its ends."""
    rng = np.random.default_rng(2)
    effects = crossed_effects(0.05 * rng.standard_normal((4, 30)), np.arange(30))
    low, high = effects.mean.ci95
    assert effects.against(-low * 1.001).p_not_worse < ALPHA < effects.against(-low * 0.999).p_not_worse
    assert effects.against(high * 1.001).p_equivalent < ALPHA < effects.against(high * 0.999).p_equivalent
    with pytest.raises(ValueError, match="above 0"):
        margin_test(0.1, 0.1, 9, 0.0)


def _differences(rng: np.random.Generator, true: float, seeds: int, groups: int) -> np.ndarray:
    """Differences of Dice [seeds, cases] with luck of the seed, of the patient and of both; 2 images each."""
    patient = np.repeat(0.06 * rng.standard_normal(groups), 2)
    return (
        true
        + 0.015 * rng.standard_normal((seeds, 1))
        + patient
        + 0.05 * rng.standard_normal((seeds, 2 * groups))
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("true", "what"), [(-0.05, "p_not_worse"), (0.05, "p_equivalent"), (-0.05, "p_equivalent")]
)
def test_margin_tests_keep_their_level(true: float, what: str) -> None:
    """Oracle: at a true difference of the margin at most 2.5 % of studies, and not far fewer, show it."""
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(40), 2)
    shown = [
        getattr(crossed_effects(_differences(rng, true, 5, 40), groups).against(0.05), what) < ALPHA
        for _ in range(2000)
    ]
    assert 0.008 < np.mean(shown) < 0.025 + 2.6 * np.sqrt(0.025 * 0.975 / 2000)


@pytest.mark.slow
def test_the_margin_test_of_an_auc_keeps_its_level() -> None:
    """Oracle: two recipes whose true AUC differs by the margin, found from 200,000 cases."""
    rng = np.random.default_rng(3)
    positive = np.arange(120) % 2 == 0
    groups = np.arange(120) // 2 * 2 + ~positive  # a patient is one case

    def scores(n: np.ndarray, gain: float, luck: float) -> np.ndarray:
        return (gain + luck) * n + rng.standard_normal(len(n))

    from scipy.stats import norm

    strong, weak = 1.2, 0.95
    margin = float(norm.cdf(strong / np.sqrt(2)) - norm.cdf(weak / np.sqrt(2)))
    shown = []
    for _ in range(250):
        resamples = resample_groups(groups, rng, strata=positive, n_resamples=200)
        statistics = []
        for _ in range(3):
            a, b = (scores(positive, gain, 0.05 * rng.standard_normal()) for gain in (strong, weak))
            one, other = (auc_of_weights(positive, s) for s in (a, b))
            statistics.append(lambda w, one=one, other=other: other(w) - one(w))
        effects = crossed_statistic(statistics, resamples)
        answer = effects.against(margin)
        shown.append(answer is not None and answer.p_not_worse < ALPHA)
    assert np.mean(shown) < 0.025 + 2.6 * np.sqrt(0.025 * 0.975 / 250)
