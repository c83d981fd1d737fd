"""Every metric of a test set: values against the single functions, methods and reasons as the policy says."""

import numpy as np
import pytest

from gcsam_med.errors import InputError
from gcsam_med.metrics.classification import squared_errors
from gcsam_med.metrics.intervals import bootstrap, bootstrap_mean, resample_groups, weighted, wilson
from gcsam_med.metrics.roc import average_precision_of_weights
from gcsam_med.metrics.segmentation import MaskPair
from gcsam_med.metrics.summary import (
    classification_estimates,
    classification_metrics,
    measure_case,
    segmentation_estimates,
)
from gcsam_med.metrics.table import SEGMENTATION


def box(r0, r1, c0, c1, shape=(20, 24)):
    mask = np.zeros(shape, bool)
    mask[r0:r1, c0:c1] = True
    return mask


EMPTY = box(0, 0, 0, 0)


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("per_group", [1, 2])
def test_values_equal_the_point_metrics_and_lie_in_their_intervals(n_classes, per_group):
    """Oracle: `classification_metrics`; the calibration error by its definition in tests of calibration."""
    draw = rng()
    y = draw.integers(0, n_classes, 120)
    prob = draw.dirichlet(np.ones(n_classes), 120) * 0.5 + 0.5 * np.eye(n_classes)[y] * draw.random((120, 1))
    prob /= prob.sum(axis=1, keepdims=True)
    groups = [f"p{i // per_group}" for i in range(120)]
    overall, per_class = classification_estimates(y, prob, groups, rng(), n_resamples=300)
    expected, expected_classes = classification_metrics(y, prob)
    of_two = {"calibration_slope", "calibration_intercept"} if n_classes == 2 else set()
    assert set(overall) == {*expected, "ece", *of_two}
    for got, want in zip((overall, *per_class), (expected, *expected_classes), strict=True):
        for name, value in want.items():
            assert got[name].value == pytest.approx(value), name
            low, high = got[name].ci95
            assert low <= value <= high, name
            assert low < high, name
    shares = "Wilson" if per_group == 1 else "effective cases in"
    assert shares in overall["accuracy"].method
    if n_classes == 2:
        assert overall["auc"].method.startswith("DeLong, " if per_group == 1 else "DeLong by group")
    assert overall["brier"].method.startswith("BCa bootstrap, 300 resamples of")


def test_same_seed_same_metrics():
    """Oracle: the first call."""
    y, prob = np.tile([0, 1], 20), np.tile([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4]], (10, 1))
    first, second = (classification_estimates(y, prob, range(40), rng(), n_resamples=200) for _ in range(2))
    assert first == second


def test_operating_point_moves_the_table():
    """Oracle: the definition of a threshold; counts by hand."""
    y, p = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.4, 0.3, 0.45, 0.9])
    prob = np.stack((1 - p, p), axis=1)
    low = classification_estimates(y, prob, range(5), rng(), calls=p >= 0.25, n_resamples=50)[0]
    assert (low["sensitivity"].value, low["specificity"].value) == (1.0, 0.5)
    assert low["sensitivity"].n == 3
    assert low["sensitivity"].ci95 == pytest.approx(wilson(3, 3))


def test_one_class_only():
    """Oracle: the policy; undefined metrics are None with a reason, and JSON never sees NaN."""
    overall, per_class = classification_estimates([1] * 6, [[0.4, 0.6]] * 6, range(6), rng(), n_resamples=50)
    for name in ("auc", "auprc", "specificity", "balanced_accuracy", "mcc"):
        assert overall[name].value is None
        assert overall[name].reason == "no negative cases"
    assert overall["npv"].reason == "no case was called negative"
    assert per_class[0]["sensitivity"].reason == "no positive cases"
    assert overall["sensitivity"].value == 1.0
    assert overall["brier"].ci95 is None
    macro, _ = classification_estimates(
        [0, 1, 0, 1], [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]] * 2, range(4), rng(), n_resamples=50
    )
    assert macro["auc"].reason == "no cases of class 2"
    assert macro["f1"].value is None
    assert macro["accuracy"].value == 1.0


def test_bad_input_is_refused():
    """Oracle: the contract."""
    with pytest.raises(InputError, match="diverged"):
        classification_estimates([0, 1], [[0.5, 0.5], [np.nan, 0.5]], [0, 1], rng())
    with pytest.raises(ValueError, match="no case"):
        classification_estimates(np.empty(0, int), np.empty((0, 2)), [], rng())
    with pytest.raises(ValueError, match="no case"):
        segmentation_estimates([], [], rng())
    with pytest.raises(ValueError, match="do not fit"):
        segmentation_estimates([measure_case(MaskPair(EMPTY, EMPTY))], [0, 1], rng())


def test_segmentation_counts_lesions_misses_and_normals():
    """Oracle: by hand; four lesion images (one missed, one with two lesions, one found) and two normals."""
    found, two = box(2, 8, 2, 8), box(2, 8, 2, 8) | box(12, 18, 12, 18)
    masks = [
        (found, found),
        (box(2, 8, 2, 5), found),
        (EMPTY, found),
        (found, two),
        (EMPTY, EMPTY),
        (box(1, 3, 1, 3) | box(9, 11, 9, 11), EMPTY),
    ]
    aside = measure_case(MaskPair(box(14, 18, 14, 18), found))  # marked, and nothing found
    cases = [measure_case(MaskPair(pred, truth)) for pred, truth in masks]
    wide = segmentation_estimates([*cases, aside], range(7), rng(), n_resamples=200)
    assert (wide["missed_cases"].value, wide["undetected_cases"].value) == (1 / 5, 2 / 5)
    result = segmentation_estimates(cases, range(6), rng(), n_resamples=200)
    dices = [1.0, 2 * 18 / (18 + 36), 0.0, 2 * 36 / (36 + 72)]
    assert result["dice"].value == pytest.approx(np.mean(dices))
    assert result["dice"].n == 4
    assert result["hd95"].value == pytest.approx(np.mean([c.values["hd95"] for c in cases[:4]]))
    assert cases[2].values["hd95"] == pytest.approx(np.hypot(19, 23))
    assert (result["missed_cases"].value, result["missed_cases"].n) == (0.25, 4)
    assert (result["lesion_sensitivity"].value, result["lesion_sensitivity"].n) == (3 / 5, 5)
    assert result["false_positives_per_image"].value == pytest.approx(2 / 6)
    assert result["false_positives_per_image"].n == 6
    assert (result["false_positives_per_normal"].value, result["false_positives_per_normal"].n) == (1.0, 2)
    assert (result["normal_specificity"].value, result["normal_specificity"].n) == (0.5, 2)
    assert list(result) == [name for name, row in SEGMENTATION.items() if not row.on_request]


def test_two_lesions_of_one_image_are_not_two_patients():
    """Oracle: the effective number of cases; lesions of one group share its luck."""
    two = box(2, 8, 2, 8) | box(12, 18, 12, 18)
    cases = [measure_case(MaskPair(two if i % 3 else EMPTY, two)) for i in range(12)]
    estimate = segmentation_estimates(cases, range(12), rng(), n_resamples=50)["lesion_sensitivity"]
    assert estimate.n == 24
    assert "in 12 groups" in estimate.method
    assert estimate.ci95[0] < wilson(16, 24)[0]


def test_only_normals_and_a_lesion_that_fills_the_image():
    """Oracle: the policy; what is undefined says why."""
    normals = segmentation_estimates([measure_case(MaskPair(EMPTY, EMPTY))] * 3, range(3), rng())
    assert normals["dice"].reason == "no case with a lesion"
    assert normals["missed_cases"].value is None
    assert normals["normal_specificity"].value == 1.0
    full = np.ones((4, 4), bool)
    filled = [
        measure_case(MaskPair(full, full)),
        measure_case(MaskPair(full, box(0, 2, 0, 2, (4, 4)))),
    ]
    result = segmentation_estimates(filled, range(2), rng(), n_resamples=50)
    assert (result["specificity"].value, result["specificity"].n) == (0.0, 1)
    assert result["false_positives_per_normal"].reason == "no normal images"
    only = segmentation_estimates(filled[:1] * 2, range(2), rng(), n_resamples=50)
    assert only["specificity"].reason == "not defined on any case"


@pytest.mark.slow
@pytest.mark.parametrize(("n_groups", "n_studies"), [(40, 1000), (130, 600)])
def test_intervals_of_metrics_that_depend_on_prevalence_cover_the_truth(n_groups, n_studies):
    """Oracle: simulated studies, two alike images a patient, a third positive; truth from 200,000.

    The covered share is known to 0.7 or 0.9 % (standard error). Resamples within classes cover 0.88.
    """
    rng = np.random.default_rng(1)

    def study(n):
        y = np.repeat(rng.random(n) < 0.35, 2).astype(int)
        score = np.repeat(0.7 * rng.normal(size=n), 2) + 0.7 * rng.normal(size=2 * n) + 1.2 * y
        p = 1 / (1 + np.exp(1.2 * (0.9 - score)))
        return y, np.stack((1 - p, p), axis=1), np.repeat(np.arange(n), 2)

    y, prob, _ = study(100_000)
    truth = classification_metrics(y, prob, only=["auprc", "brier"])[0]
    covered = dict.fromkeys(truth, 0)
    for _ in range(n_studies):
        y, prob, group = study(n_groups)
        # As `classification_estimates` does for metrics that depend on the prevalence: whole, not by class.
        draws = resample_groups(group, rng, n_resamples=300)
        found = {
            "auprc": bootstrap(weighted(average_precision_of_weights(y == 1, prob[:, 1]), draws), draws),
            "brier": bootstrap_mean(squared_errors(y, prob), draws),
        }
        for name, estimate in found.items():
            low, high = estimate.ci95 or (np.inf, -np.inf)
            covered[name] += low <= truth[name] <= high
    assert all(0.93 <= c / n_studies <= 0.97 for c in covered.values()), covered
    estimates = classification_estimates(y, prob, group, rng, n_resamples=100)[0]
    assert [name for name in covered if "strata" in estimates[name].method] == []
    assert "strata" in estimates["balanced_accuracy"].method
