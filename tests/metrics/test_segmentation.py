"""Overlap and area against scikit-learn and MONAI, and the policy for empty masks and normals."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk

from gcsam_med.metrics.segmentation import (
    area,
    dice,
    hd95,
    iou,
    measure_case,
    nsd,
    pixel_counts,
    pixel_precision,
    pixel_sensitivity,
    pixel_specificity,
)

MASKS = arrays(bool, (5, 7))


@settings(max_examples=250, deadline=None)
@given(MASKS, MASKS)
def test_overlap_equals_scikit_learn(pred, truth):
    """Oracle: scikit-learn f1, Jaccard, recall and precision of the flattened pixels."""
    p, t = pred.ravel(), truth.ravel()
    expected = sk.confusion_matrix(t, p, labels=[False, True]).ravel()
    assert pixel_counts(pred, truth) == (expected[3], expected[1], expected[2], expected[0])
    if t.any() or p.any():
        assert dice(pred, truth) == pytest.approx(sk.f1_score(t, p))
        assert iou(pred, truth) == pytest.approx(sk.jaccard_score(t, p))
    else:
        assert dice(pred, truth) is None
        assert iou(pred, truth) is None
    if t.any():
        assert pixel_sensitivity(pred, truth) == pytest.approx(sk.recall_score(t, p))
    if p.any():
        assert pixel_precision(pred, truth) == pytest.approx(sk.precision_score(t, p))
    if not t.all():
        assert pixel_specificity(pred, truth) == pytest.approx(sk.recall_score(~t, ~p))


def test_dice_and_iou_equal_monai():
    """Oracle: MONAI DiceHelper-based compute_dice and compute_iou."""
    import torch
    from monai.metrics import compute_dice, compute_iou

    rng = np.random.default_rng(0)
    for _ in range(200):
        pred, truth = rng.random((2, 8, 9)) < rng.random((2, 1, 1)) * 0.8 + 0.1
        truth[0, 0] = True
        p, t = (torch.tensor(m[None, None]).float() for m in (pred, truth))
        assert dice(pred, truth) == pytest.approx(compute_dice(p, t).item(), rel=1e-6)
        assert iou(pred, truth) == pytest.approx(compute_iou(p, t).item(), rel=1e-6)


@given(MASKS, MASKS)
def test_dice_and_iou_tell_the_same(pred, truth):
    """Oracle: Dice = 2 IoU / (1 + IoU)."""
    d, j = dice(pred, truth), iou(pred, truth)
    assert (d is None) == (j is None)
    if d is not None:
        assert d == pytest.approx(2 * j / (1 + j))


@settings(deadline=None)
@given(MASKS, MASKS, st.floats(0.1, 3), st.floats(0.1, 3))
def test_a_case_holds_what_the_single_functions_say(pred, truth, row, column):
    """Oracle: the single functions, and the policy for normals and missed lesions."""
    case = measure_case(pred, truth, tolerance=1.0, spacing=(row, column))
    assert case.normal == (not truth.any())
    assert case.empty == (not pred.any())
    assert case.area_truth == pytest.approx(area(truth, (row, column)))
    assert case.area_error == pytest.approx(area(pred, (row, column)) - area(truth, (row, column)))
    if case.normal:
        figures = (case.dice, case.iou, case.hd, case.hd95, case.assd, case.nsd, case.sensitivity)
        assert (*figures, case.precision, case.area_error_relative) == (None,) * 9
        assert case.detection.lesions == 0
        return
    assert case.dice == dice(pred, truth)
    assert case.iou == iou(pred, truth)
    assert case.hd95 == hd95(pred, truth, (row, column))
    assert case.nsd == nsd(pred, truth, 1.0, (row, column))
    assert case.sensitivity == pixel_sensitivity(pred, truth)
    assert case.precision == (pixel_precision(pred, truth) or 0.0)
    assert case.area_error_relative == pytest.approx(pred.sum() / truth.sum() - 1)


def test_a_missed_lesion_keeps_every_figure():
    """Oracle: the policy; nothing of a missed lesion is None, so no mean can lose it."""
    truth = np.zeros((6, 8), bool)
    truth[2:4, 3:6] = True
    case = measure_case(np.zeros_like(truth), truth, tolerance=2.0, spacing=(0.5, 0.25))
    assert (case.dice, case.iou, case.nsd, case.sensitivity, case.precision) == (0.0,) * 5
    assert case.hd == case.hd95 == case.assd == pytest.approx(np.hypot(5 * 0.5, 7 * 0.25))
    assert case.detection.missed == 1
    assert case.area_error == pytest.approx(-6 * 0.125)
    assert case.area_error_relative == -1.0


def test_metrics_need_no_torch():
    """Oracle: sys.modules of a fresh interpreter that has measured a case and summed up a test set."""
    code = (
        "import sys, numpy as np\n"
        "import gcsam_med.metrics.summary as s, gcsam_med.metrics.segmentation as g\n"
        "m = np.eye(9, dtype=bool)\n"
        "c = g.measure_case(m, m, tolerance=1.0)\n"
        "s.segmentation_estimates([c, c], [0, 1], np.random.default_rng(0), n_resamples=20)\n"
        "print(sorted({'torch', 'monai', 'statsmodels'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
