"""Readers beside a model: their scale, their points on the ROC curve, their agreement."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from statsmodels.stats.inter_rater import cohens_kappa

from gcsam_med.metrics.intervals import resample_groups
from gcsam_med.metrics.readers import compare_auc, cuts, read_scale, weighted_kappa

CLASSES = ("benign", "malignant")


def draws(groups: np.ndarray, n: int = 200):
    return resample_groups(groups, np.random.default_rng(0), n_resamples=n)


@pytest.mark.parametrize(
    ("values", "levels", "call_from", "level"),
    [
        (
            ["4b", "2", "BI-RADS 3", "", "4A", "0", "5"],
            ("2", "3", "4a", "4b", "5"),
            2,
            [3, 0, 1, -1, 2, -1, 4],
        ),
        (["4", "3", "2"], ("2", "3", "4"), 2, [2, 1, 0]),
        (["Malignant", "benign"], ("benign", "malignant"), 1, [1, 0]),
        (["10", "9.5", "30"], ("9.5", "10", "30"), None, [1, 0, 2]),
        (["7", "8"], ("7", "8"), 1, [0, 1]),
    ],
)
def test_ratings_are_ordered(values, levels, call_from, level) -> None:
    """Oracle: the order of the ACR's categories, suspicious from 4 on; of numbers; of the classes."""
    scale, found = read_scale(values, CLASSES)
    assert (scale.levels, scale.call_from) == (levels, call_from)
    assert found.tolist() == level


@pytest.mark.parametrize(
    ("values", "said"), [(["hard", "easy"], "neither"), (["4a", "4A", ""], "the same rating for every case")]
)
def test_what_is_no_scale_is_refused(values, said) -> None:
    """Oracle: the message says why."""
    with pytest.raises(ValueError, match=said):
        read_scale(values, CLASSES)


def test_the_cuts_are_sensitivity_and_specificity() -> None:
    """Oracle: counted by hand."""
    level = np.array([0, 1, 2, 2, 0, 1])
    positive = np.array([False, True, True, True, False, False])
    scale, _ = read_scale(["3", "4a", "5"], CLASSES)
    found = cuts(scale, level, positive, np.arange(6))
    assert [(name, se.value, sp.value) for name, se, sp in found] == [
        ("4a", 1.0, pytest.approx(2 / 3)),
        ("5", pytest.approx(2 / 3), 1.0),
    ]


def test_areas_and_their_difference() -> None:
    """Oracle: scikit-learn's areas; the area of ratings is that under the lines between their cuts."""
    rng = np.random.default_rng(1)
    positive = np.arange(80) % 2 == 0
    level = np.clip(np.round(1.5 + positive + 0.9 * rng.standard_normal(80)), 0, 4).astype(int)
    score = positive + rng.standard_normal(80)
    model, reader, test = compare_auc(positive, score, level, draws(np.arange(80) // 2))
    assert model.value == pytest.approx(roc_auc_score(positive, score))
    assert reader.value == pytest.approx(roc_auc_score(positive, level))
    assert test.difference.value == pytest.approx(model.value - reader.value)
    points = sorted((np.mean(level[~positive] >= k), np.mean(level[positive] >= k)) for k in range(6))
    x, y = np.array(points).T
    assert reader.value == pytest.approx(np.trapezoid(y, x))


def test_quadratic_kappa_as_published() -> None:
    """Oracle: 0.2520325, printed by `kappa2(anxiety[, 2:3], "squared")` of the R package irr.

    Two raters of 20 persons in irr's data set anxiety; the output stands in statsmodels'
    tests/test_inter_rater.py. irr drops a grade that neither rater gave, and 4 follows 3 in ours as well.
    """
    second = [3, 6, 4, 6, 2, 4, 2, 4, 3, 3, 2, 3, 3, 3, 2, 2, 1, 3, 3, 4]
    third = [2, 1, 4, 4, 3, 2, 1, 6, 1, 1, 1, 2, 3, 3, 1, 1, 3, 3, 2, 2]
    scale, level = read_scale([str(grade) for grade in second + third], CLASSES)
    assert scale.levels == ("1", "2", "3", "4", "6")
    found = weighted_kappa(level[:20], level[20:], draws(np.arange(20)))
    assert found.value == pytest.approx(0.2520325, abs=5e-8)


def test_two_levels_give_the_plain_kappa() -> None:
    """Oracle: Altman, Practical Statistics for Medical Research, 1991, table 14.4: 0.38 and 0.60.

    The first is (0.80 - 0.68) / (1 - 0.68) = 0.375 before rounding.
    """
    for table, kappa in (([[70, 10], [10, 10]], 0.375), ([[40, 10], [10, 40]], 0.60)):
        first, second = _cases(table)
        assert weighted_kappa(first, second, draws(np.arange(100))).value == pytest.approx(kappa)


def _cases(table: list[list[int]]) -> np.ndarray:
    """The two ratings of every case of a table of counts."""
    counts = np.array(table)
    return np.repeat(np.indices(counts.shape).reshape(2, -1), counts.ravel(), axis=1)


def test_weighted_kappa_is_that_of_two_libraries() -> None:
    """Oracle: scikit-learn's quadratic weights, and statsmodels' Fleiss-Cohen weights."""
    rng = np.random.default_rng(3)
    first = rng.integers(0, 5, 90)
    second = np.clip(first + rng.integers(-1, 2, 90), 0, 4)
    found = weighted_kappa(first, second, draws(np.arange(90) // 3))
    assert found.value == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"))
    table = np.zeros((5, 5))
    np.add.at(table, (first, second), 1)
    assert found.value == pytest.approx(cohens_kappa(table, wt="fc").kappa)
    assert found.ci95[0] < found.value < found.ci95[1]
    assert weighted_kappa(np.ones(9, int), np.ones(9, int), draws(np.arange(9))).value is None
