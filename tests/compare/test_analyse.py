"""The comparison of made-up runs, against scikit-learn, scipy, statsmodels and plain arithmetic."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from gcsam_med.compare.analyse import compare
from gcsam_med.metrics.seeds import crossed_effects
from tests.compare.made_up import GROUPS, N, made_up_run, table, three_arms


@pytest.fixture(scope="module")
def segmentation():
    return three_arms()


def test_means_and_differences_are_those_of_the_cases(segmentation):
    """Oracle: numpy on the cases; `crossed_effects`, which has its own tests."""
    found, dice = segmentation
    for arm in found.arms:
        assert arm.main.value == pytest.approx(dice[arm.name].mean())
        assert arm.metrics["dice"].sd == pytest.approx(dice[arm.name].mean(axis=1).std(ddof=1))
    for pair in found.pairs:
        difference = dice[pair.second] - dice[pair.first]
        effects = crossed_effects(difference, np.array(GROUPS))
        assert pair.difference == effects.mean
        assert pair.p_value == effects.p_value
        assert [value for _, value in pair.by_seed] == pytest.approx(difference.mean(axis=1).tolist())


def test_verdicts_follow_the_corrected_p(segmentation):
    """Oracle: statsmodels' Holm; a built-in gain of 0.1 is shown, and no gain is not."""
    found, _ = segmentation
    p = [pair.p_value for pair in found.pairs]
    assert [pair.p_holm for pair in found.pairs] == pytest.approx(multipletests(p, method="holm")[1].tolist())
    assert {(q.first, q.second): q.verdict for q in found.pairs} == {
        ("adam", "sam"): "no difference shown",
        ("adam", "gcsam"): "higher",
        ("sam", "gcsam"): "higher",
    }


def test_wilcoxon_ranks_groups_of_the_mean_over_seeds(segmentation):
    """Oracle: scipy's exact signed-rank test on the means of groups."""
    found, dice = segmentation
    for pair in found.pairs:
        test = next(t for t in pair.tests if t.method.startswith("Wilcoxon"))
        difference = (dice[pair.second] - dice[pair.first]).mean(axis=0).reshape(-1, 2).mean(axis=1)
        assert test.p_value == pytest.approx(wilcoxon(difference, method="exact").pvalue)


def test_cost_counts_both_passes(segmentation):
    """Oracle: an ascent on every step doubles the gradient computations of 30 steps."""
    found, _ = segmentation
    assert {arm.name: arm.cost.passes for arm in found.arms} == {"adam": 30, "sam": 60, "gcsam": 60}
    assert "cost" in {notice.key for notice in found.notices}


def test_seed_noise_alone_is_not_sold_as_progress():
    """Oracle: arms that differ by the luck of their seeds only, every case moved alike.

    The tests on cases, which know nothing of seeds, call the difference of these runs certain; the verdict
    must not.
    """
    rng = np.random.default_rng(1)
    hard = rng.uniform(0.3, 0.7, N)
    luck = {"adam": (-0.06, 0.05, 0.02), "gcsam": (0.07, 0.06, -0.01)}
    runs = [
        made_up_run(arm, seed, table(dice=hard + shift + 0.002 * rng.standard_normal(N)))
        for arm, shifts in luck.items()
        for seed, shift in enumerate(shifts)
    ]
    (pair,) = compare(runs, title="Toy", created="", n_resamples=500).pairs
    assert pair.verdict == "no difference shown"
    assert all(test.p_value < 0.01 for test in pair.tests if test.p_value is not None)


def test_one_seed_is_stamped():
    """Oracle: with one seed the interval is the bootstrap's, and the reader is told what it leaves out."""
    rng = np.random.default_rng(2)
    runs = [made_up_run(arm, 0, table(dice=rng.uniform(0, 1, N))) for arm in ("adam", "gcsam")]
    found = compare(runs, title="Toy", created="", n_resamples=500)
    assert found.pairs[0].sd_seeds is None
    assert "bootstrap" in found.pairs[0].difference.method
    assert [n.key for n in found.notices if n.stamp] == ["one-seed", "research-only"]
    assert found.shown == ()
    assert {pair.verdict for pair in found.pairs} == {"not answerable"}


def test_seeds_that_one_arm_lacks_are_left_out_of_the_pair():
    """Oracle: the difference over the two seeds that both have, by numpy."""
    rng = np.random.default_rng(3)
    dice = {("adam", s): rng.uniform(0, 1, N) for s in range(3)} | {
        ("gcsam", s): rng.uniform(0, 1, N) for s in (0, 2)
    }
    runs = [made_up_run(arm, seed, table(dice=values)) for (arm, seed), values in dice.items()]
    found = compare(runs, title="Toy", created="", n_resamples=500)
    expected = np.mean([dice["gcsam", s].mean() - dice["adam", s].mean() for s in (0, 2)])
    assert found.pairs[0].difference.value == pytest.approx(expected)
    assert [name for name, _ in found.pairs[0].by_seed] == ["0", "2"]
    assert "unequal-seeds" in {notice.key for notice in found.notices}


def classified(rng: np.random.Generator, label: np.ndarray, signal: float) -> pd.DataFrame:
    probability = 1 / (1 + np.exp(-(signal * (label == "b") + rng.standard_normal(N))))
    predicted = np.where(probability > 0.5, "b", "a")
    return table(
        label=label,
        predicted=predicted,
        correct=(predicted == label).astype(int),
        prob_a=1 - probability,
        prob_b=probability,
    )


def test_two_classes_are_compared_by_auc_and_calls():
    """Oracle: scikit-learn's AUC, and 100,000 random swaps of the arms in whole groups."""
    rng = np.random.default_rng(4)
    label = rng.permutation(["a", "b"] * (N // 2))
    tables = {
        (arm, seed): classified(rng, label, signal)
        for arm, signal in (("adam", 0.8), ("gcsam", 1.6))
        for seed in range(3)
    }
    runs = [made_up_run(arm, seed, t, task="classification") for (arm, seed), t in tables.items()]
    found = compare(runs, title="Toy", created="", n_resamples=500)
    area = {key: roc_auc_score(label == "b", t["prob_b"]) for key, t in tables.items()}
    for arm in found.arms:
        assert arm.main.value == pytest.approx(np.mean([area[arm.name, s] for s in range(3)]))
    (pair,) = found.pairs
    expected = [area["gcsam", s] - area["adam", s] for s in range(3)]
    assert [value for _, value in pair.by_seed] == pytest.approx(expected)
    right = {
        arm: np.mean([tables[arm, s]["correct"] for s in range(3)], axis=0) > 0.5 for arm in ("adam", "gcsam")
    }
    index = np.unique(GROUPS, return_inverse=True)[1]
    won = np.zeros(index.max() + 1)
    np.add.at(won, index, right["gcsam"].astype(int) - right["adam"].astype(int))
    swapped = np.random.default_rng(0).choice([-1, 1], (100_000, len(won))) @ won
    tails = [(swapped <= won.sum()).mean(), (swapped >= won.sum()).mean()]
    test = next(t for t in pair.tests if "McNemar" in t.method)
    assert test.p_value == pytest.approx(min(1.0, 2 * min(tails)), abs=0.01)
    assert any("DeLong" in t.method for t in pair.tests)


def test_three_classes_are_compared_by_balanced_accuracy():
    """Oracle: scikit-learn's balanced accuracy."""
    rng = np.random.default_rng(5)
    label = rng.permutation(["a", "b", "c"] * (N // 3))
    runs = []
    for arm in ("adam", "gcsam"):
        for seed in range(2):
            predicted = np.where(rng.uniform(size=N) < 0.6, label, rng.choice(["a", "b", "c"], N))
            columns = {f"prob_{c}": (predicted == c) * 1.0 for c in "abc"}
            t = table(label=label, predicted=predicted, correct=(predicted == label).astype(int), **columns)
            runs.append(made_up_run(arm, seed, t, task="classification"))
    found = compare(runs, title="Toy", created="", n_resamples=500)
    for arm in found.arms:
        assert arm.main.value == pytest.approx(arm.metrics["balanced_accuracy"].mean)
