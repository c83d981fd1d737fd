"""The size of a study: the power it promises is the power that simulated studies have."""

from __future__ import annotations

import numpy as np
import pytest

from gcsam_med.metrics.margins import ALPHA
from gcsam_med.metrics.planning import Components, groups_needed, power, smallest_margin
from gcsam_med.metrics.seeds import crossed_effects

PARTS = Components(groups=0.08**2, seeds=0.008**2, rest=0.06**2)


def study(
    rng: np.random.Generator, parts: Components, groups: int, seeds: int, true: float = 0.0
) -> np.ndarray:
    """Differences [seeds, groups] with these variances."""
    return (
        true
        + np.sqrt(parts.groups) * rng.standard_normal(groups)
        + np.sqrt(parts.seeds) * rng.standard_normal((seeds, 1))
        + np.sqrt(parts.rest) * rng.standard_normal((seeds, groups))
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "margin", "question", "wanted"),
    [(5, 0.03, "not worse", 0.8), (3, 0.04, "equivalent", 0.8), (10, 0.03, "equivalent", 0.9)],
)
def test_the_size_gives_the_power_promised(seeds: int, margin: float, question: str, wanted: float) -> None:
    """Oracle: 2,000 simulated studies of that size, each analysed as `compare` does; within 3 points."""
    rng = np.random.default_rng(11)
    groups = groups_needed(PARTS, seeds, margin, wanted, question)
    assert groups is not None
    what = "p_not_worse" if question == "not worse" else "p_equivalent"
    shown = []
    for _ in range(2000):
        effects = crossed_effects(study(rng, PARTS, groups, seeds), np.arange(groups))
        shown.append(getattr(effects.against(margin), what) < ALPHA)
    assert np.mean(shown) == pytest.approx(wanted, abs=0.03)


@pytest.mark.slow
def test_a_difference_of_the_margin_is_shown_with_the_same_power() -> None:
    """Oracle: simulated studies of recipes that differ by the margin, by the p value of the comparison."""
    rng = np.random.default_rng(12)
    groups = groups_needed(PARTS, 5, 0.03, 0.8, "not worse")
    shown = [
        crossed_effects(study(rng, PARTS, groups, 5, 0.03), np.arange(groups)).p_value < 0.05
        for _ in range(2000)
    ]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.03)


def test_the_components_of_a_pilot_are_those_it_was_made_with() -> None:
    """Oracle: the variances of the simulation, in a pilot large enough to know them to 15 %."""
    rng = np.random.default_rng(4)
    found = Components.of(crossed_effects(study(rng, PARTS, 800, 300), np.arange(800)), 800)
    assert found.groups == pytest.approx(PARTS.groups, rel=0.15)
    assert found.seeds == pytest.approx(PARTS.seeds, rel=0.2)
    assert found.rest == pytest.approx(PARTS.rest, rel=0.02)


def test_without_seeds_it_is_the_paired_t_test() -> None:
    """Oracle: statsmodels' power of a one-sided t test at 2.5 %, which the noncentral t gives."""
    from statsmodels.stats.power import TTestPower

    parts = Components(groups=1.0, seeds=0.0, rest=1e-12)
    expected = TTestPower().power(0.5, 40, 0.025, alternative="larger")
    assert power(parts, 40, 1000, 0.5, "not worse") == pytest.approx(expected, abs=0.01)


def test_more_is_better_and_seeds_can_be_the_limit() -> None:
    """Oracle: the formula of the variance; with S seeds it never falls below seeds / S."""
    needed = [groups_needed(PARTS, n, 0.03, 0.8, "not worse") for n in (3, 5, 10)]
    assert needed == sorted(needed, reverse=True)
    assert groups_needed(Components(0.01, 0.1, 0.01), 3, 0.05, 0.8, "not worse") is None
    margin = smallest_margin(PARTS, needed[1], 5, 0.8, "not worse")
    assert margin == pytest.approx(0.03, rel=0.02)
    assert smallest_margin(PARTS, needed[1], 5, 0.8, "equivalent") > margin
    with pytest.raises(ValueError, match="two groups"):
        power(PARTS, 1, 5, 0.03, "not worse")
