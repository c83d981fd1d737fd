"""The size of a study from a pilot: which runs count, and what is read from them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gcsam_med.compare import planning
from gcsam_med.config import PlanOptions
from gcsam_med.errors import ConfigError, InputError
from gcsam_med.fields import chosen
from gcsam_med.metrics.planning import groups_needed, smallest_margin
from gcsam_med.metrics.seeds import crossed_effects
from tests.compare.made_up import GROUPS, N, made_up_run, table


@pytest.fixture
def runs(monkeypatch):
    """Three arms of four seeds, the last with much luck of the seed."""
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.4, 0.8, N)
    made = []
    for arm, luck in (("adam", 0.005), ("sam", 0.005), ("gcsam", 0.03)):
        for seed in range(4):
            dice = hard + luck * rng.standard_normal() + 0.04 * rng.standard_normal(N)
            made.append(made_up_run(arm, seed, table(dice=np.clip(dice, 0, 1))))
    monkeypatch.setattr(planning, "_runs", lambda *_: made)
    return made


def test_the_components_are_those_of_the_two_arms(runs) -> None:
    """Oracle: `crossed_effects` of the differences, whose parts give the groups that are needed."""
    found = planning.plan_size(["study"], margin=0.03, seeds="3,8", arms="adam,sam", resamples=200)
    one, other = ([r.cases["dice"].to_numpy(float) for r in runs if r.arm == arm] for arm in ("adam", "sam"))
    parts = planning.Components.of(crossed_effects(np.array(other) - np.array(one), GROUPS), N // 2)
    assert found.variances == dataclasses.asdict(parts)
    assert (found.n_groups, found.n_cases, found.metric) == (30, 60, "dice")
    assert [row.needed["not worse"] for row in found.rows] == [
        groups_needed(parts, n, 0.03, 0.8, "not worse") for n in (3, 8)
    ]
    assert set(found.curves) == {3, 8}
    noisy = planning.plan_size(["study"], margin=0.03, seeds="3,8", resamples=200)
    assert noisy.basis.startswith("gcsam minus adam")
    assert noisy.rows[0].now["not worse"] > found.rows[0].now["not worse"]


def test_one_run_tells_less_and_says_so(runs, monkeypatch) -> None:
    """Oracle: the variance of the mean over groups, for two recipes that correlate by one half: the same."""
    monkeypatch.setattr(planning, "_runs", lambda *_: runs[:1])
    found = planning.plan_size(["run"], margin=0.05, correlation=0.5, resamples=4000)
    by_group = runs[0].cases["dice"].astype(float).groupby(np.array(GROUPS)).mean()
    assert found.variances["groups"] == pytest.approx(by_group.var(ddof=0), rel=0.1)
    assert "not known" in found.basis


def test_mistakes_are_named(runs) -> None:
    """Oracle: the message names the mistake."""
    with pytest.raises(InputError, match="arm of the pilot"):
        planning.plan_size(["study"], margin=0.03, arms="adam,samm")
    with pytest.raises(InputError, match="main metric is dice, not auc"):
        planning.plan_size(["study"], margin=0.03, metric="auc")
    with pytest.raises(ConfigError, match="from 3"):
        chosen(PlanOptions, margin=0.02, seeds="2,5")
    with pytest.raises(ConfigError, match="two arms"):
        chosen(PlanOptions, margin=0.02, arms="adam")


def test_a_pilot_without_variation_is_refused(monkeypatch) -> None:
    """Each case has Dice 0.5; oracle: the reason (the search for the smallest margin had no end)."""
    run = made_up_run("adam", 0, table(dice=np.full(N, 0.5)))
    monkeypatch.setattr(planning, "_runs", lambda *_: [run])
    with pytest.raises(InputError, match="same for every group"):
        planning.plan_size(["run"], margin=0.05, resamples=200)
    nothing = planning.Components(0.0, 0.0, 0.0)
    assert smallest_margin(nothing, 30, 3, 0.8, "not worse") == pytest.approx(0, abs=1e-5)
