"""Intervals of a share against scipy, an equation, and simulated studies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gcsam_med.metrics.intervals import proportion, wilson


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 500), st.data())
def test_wilson_equals_scipy(n, data):
    """Oracle: scipy.stats.binomtest(...).proportion_ci(method='wilson')."""
    k = data.draw(st.integers(0, n))
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_independent_cases_are_plain_wilson():
    """Oracle: Wilson; a group to each case, or none named, is the same."""
    flags = np.array([1, 1, 0, 1])
    assert proportion(flags) == proportion(flags, [3, 1, 2, 0])
    assert proportion(flags).ci95 == wilson(3, 4)
    assert proportion(flags).method == "Wilson"


def test_effective_number_by_hand():
    """Oracle: pairs that always agree are half as many cases, less Student's factor."""
    flags = np.repeat(np.arange(40) < 30, 2)
    groups = np.repeat(np.arange(40), 2)
    estimate = proportion(flags, groups)
    effective = 80 / (2 * 40 / 39) * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 39)) ** 2
    assert estimate.ci95 == pytest.approx(wilson(0.75 * effective, effective))
    assert estimate.n == 80
    assert "40 groups" in estimate.method


def test_edges():
    """Oracle: the policy; nothing missed in one patient's images proves nothing about other patients."""
    assert proportion([]).value is None
    lone = proportion([1, 1, 1], ["p", "p", "p"])
    assert (lone.value, lone.ci95) == (1.0, None)
    # Twenty images of four patients, all right: four patients, all right.
    assert proportion([1] * 20, np.arange(20) // 5).ci95 == pytest.approx(wilson(4, 4))
    with pytest.raises(ValueError, match="successes"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="do not fit"):
        proportion([1, 0], [1])
    with pytest.raises(ValueError, match="Flags"):
        proportion([[1, 0]])


@pytest.mark.slow
def test_grouped_interval_covers_the_truth():
    """Oracle: 2,000 simulated studies of 40 patients; ignoring the patients covers far less."""
    rng = np.random.default_rng(0)
    covered = ignored = 0
    for _ in range(2000):
        group = np.repeat(np.arange(40), rng.integers(1, 6, 40))
        latent = 0.8 * rng.normal(size=40)[group] + 0.6 * rng.normal(size=len(group))
        flags = latent < stats.norm.ppf(0.85)
        low, high = proportion(flags, group).ci95
        covered += low <= 0.85 <= high
        low, high = proportion(flags).ci95
        ignored += low <= 0.85 <= high
    assert 0.93 <= covered / 2000 <= 0.97
    assert ignored / 2000 < 0.9
