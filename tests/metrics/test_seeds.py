"""Effects over seeds against analysis of variance, statsmodels, and simulated studies."""

import numpy as np
import pytest
from scipy import stats

from gcsam_med.metrics.intervals import Estimate, mean_of, resample_groups
from gcsam_med.metrics.seeds import SeedEffects, crossed_effects, crossed_statistic


def study(rng, *, n_seeds=5, n_groups=60, seed_sd=0.03, case_sd=0.2, rest_sd=0.1, mean=0.3):
    """Crossed random effects of seed and case around a known mean; [S, N]."""
    return (
        mean
        + seed_sd * rng.normal(size=(n_seeds, 1))
        + case_sd * rng.normal(size=(1, n_groups))
        + rest_sd * rng.normal(size=(n_seeds, n_groups))
    )


def test_parts_equal_a_two_way_analysis_of_variance():
    """Oracle: mean squares of statsmodels' two-way ANOVA, moments, and Cochran and Cox's quantile."""
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    v = study(np.random.default_rng(0), n_seeds=4, n_groups=12)
    table = pd.DataFrame({"y": v.ravel(), "s": np.repeat(range(4), 12), "g": np.tile(range(12), 4)})
    ms = anova_lm(ols("y ~ C(s) + C(g)", table).fit())["mean_sq"]
    effects = crossed_effects(v, np.arange(12))
    assert effects.mean.value == pytest.approx(v.mean())
    assert effects.sd_seeds == pytest.approx(np.sqrt(max(0, (ms["C(s)"] - ms["Residual"]) / 12)))
    assert effects.se_cases == pytest.approx(np.sqrt(ms["C(g)"] / 48))
    variance = (ms["C(s)"] + ms["C(g)"] - ms["Residual"]) / 48
    weights = np.array([ms["C(s)"], ms["C(g)"]])
    critical = (weights * stats.t.ppf(0.975, [3, 11])).sum() / weights.sum()
    half = critical * np.sqrt(variance)
    assert effects.mean.ci95 == pytest.approx((v.mean() - half, v.mean() + half))
    # With one number of degrees of freedom for both: p is 0.05 where the interval ends at 0.
    assert 3 < effects.freedom < 11
    assert 2 * stats.t.sf(critical, effects.freedom) == pytest.approx(0.05)
    assert effects.p_value == pytest.approx(2 * stats.t.sf(v.mean() / np.sqrt(variance), effects.freedom))


def test_bootstrap_and_sums_of_squares_agree():
    """Oracle: `crossed_effects`, for a metric that both can take: a mean over cases in groups."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(80), 2)
    v = np.repeat(study(rng, n_groups=80), 2, axis=1) + 0.1 * rng.normal(size=(5, 160))
    draws = resample_groups(group, rng, n_resamples=4000)
    squares = crossed_effects(v, group)
    resampled = crossed_statistic([mean_of(row, draws) for row in v], draws)
    assert resampled.mean.value == pytest.approx(squares.mean.value)
    assert resampled.mean.ci95 == pytest.approx(squares.mean.ci95, abs=4e-3)
    assert resampled.sd_seeds == pytest.approx(squares.sd_seeds, rel=0.1)
    assert resampled.se_cases == pytest.approx(squares.se_cases, rel=0.05)


def test_nothing_varies():
    """Oracle: the policy; no interval is made up."""
    effects = crossed_effects(np.full((3, 4), 0.5), np.arange(4))
    assert (effects.mean.value, effects.mean.ci95, effects.p_value) == (0.5, None, None)


@pytest.mark.parametrize(
    "call",
    [
        lambda: crossed_effects(np.ones((1, 4)), np.arange(4)),
        lambda: crossed_effects(np.ones((2, 4)), np.zeros(4)),
        lambda: crossed_effects(np.full((2, 4), np.nan), np.arange(4)),
        lambda: crossed_statistic([], resample_groups([1, 2], np.random.default_rng(0))),
        lambda: crossed_statistic(
            [lambda w: np.full(len(w), np.nan)] * 2, resample_groups([1, 2], np.random.default_rng(0))
        ),
    ],
)
def test_too_little_to_go_by_is_refused(call):
    """Oracle: the contract."""
    with pytest.raises(ValueError, match=r"at least two|not defined"):
        call()


@pytest.mark.slow
@pytest.mark.parametrize(("seed_sd", "case_sd"), [(0.03, 0.2), (0.05, 0.05), (0.0, 0.2)])
def test_interval_covers_the_truth(seed_sd, case_sd):
    """Oracle: 1,000 simulated studies of 5 seeds on 60 cases; seeds alone or cases alone cover less."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(1000):
        v = study(rng, seed_sd=seed_sd, case_sd=case_sd)
        low, high = crossed_effects(v, np.arange(60)).mean.ci95
        covered += low <= 0.3 <= high
    assert 0.92 <= covered / 1000 <= 0.985


@pytest.mark.parametrize("n_comparisons", [1, 3, 10])
def test_a_detectable_difference_has_the_power_it_promises(n_comparisons):
    """Oracle: 50,000 simulated t tests, within 1 point, for 5 to 40 degrees of freedom."""
    rng = np.random.default_rng(0)
    for freedom in (5, 12, 40):
        error = 0.02
        half = float(stats.t.ppf(0.975, freedom)) * error
        effects = SeedEffects(Estimate(0.0, (-half, half), 5, "t"), 1.0, 0.0, error, freedom)
        shift = effects.detectable(n_comparisons) / error
        drawn = (rng.normal(size=50_000) + shift) / np.sqrt(rng.chisquare(freedom, 50_000) / freedom)
        power = (drawn > stats.t.ppf(1 - 0.025 / n_comparisons, freedom)).mean()
        assert power == pytest.approx(0.8, abs=0.01)
    assert SeedEffects(Estimate(0.0, (-1, 1), 1, "bootstrap"), 1.0, 0.0, 1.0).detectable(1) is None


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [3, 5])
def test_the_test_of_a_difference_keeps_its_level(n_seeds):
    """Oracle: simulation of 2,000 comparisons of equal recipes: seeds, patients and their interplay vary."""
    rng = np.random.default_rng(n_seeds)
    wrong = 0
    for _ in range(2000):
        seeds = rng.normal(size=(n_seeds, 1)) * 0.1
        cases = rng.normal(size=40) * 0.1
        values = seeds + cases + 0.1 * rng.normal(size=(n_seeds, 40))
        wrong += crossed_effects(values, np.arange(40)).p_value < 0.05
    assert wrong / 2000 <= 0.06
