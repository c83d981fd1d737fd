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
    MaskPair,
    area_error,
    cldice,
    dice,
    iou,
    pixel_precision,
    pixel_sensitivity,
    pixel_specificity,
)
from gcsam_med.metrics.summary import measure_case
from gcsam_med.metrics.table import SEGMENTATION

MASKS = arrays(bool, (5, 7))
ON_NORMALS = ("specificity", "area_error", "false_positives_per_image", "false_positives_per_normal")


@settings(max_examples=80, deadline=None)
@given(MASKS, MASKS)
def test_overlap_equals_scikit_learn(pred, truth):
    """Oracle: scikit-learn f1, Jaccard, recall and precision of the flattened pixels; None for a normal."""
    p, t, case = pred.ravel(), truth.ravel(), MaskPair(pred, truth)
    if t.any():
        assert dice(case) == pytest.approx(sk.f1_score(t, p))
        assert iou(case) == pytest.approx(sk.jaccard_score(t, p))
        assert pixel_sensitivity(case) == pytest.approx(sk.recall_score(t, p))
        assert pixel_precision(case) == pytest.approx(sk.precision_score(t, p, zero_division=0))
    else:
        assert dice(case) is iou(case) is pixel_sensitivity(case) is pixel_precision(case) is None
    if not t.all():
        assert pixel_specificity(case) == pytest.approx(sk.recall_score(~t, ~p))


def test_dice_and_iou_equal_monai():
    """Oracle: MONAI DiceHelper-based compute_dice and compute_iou."""
    import torch
    from monai.metrics import compute_dice, compute_iou

    rng = np.random.default_rng(0)
    for _ in range(40):
        pred, truth = rng.random((2, 8, 9)) < rng.random((2, 1, 1)) * 0.8 + 0.1
        truth[0, 0] = True
        p, t = (torch.tensor(m[None, None]).float() for m in (pred, truth))
        assert dice(MaskPair(pred, truth)) == pytest.approx(compute_dice(p, t).item(), rel=1e-6)
        assert iou(MaskPair(pred, truth)) == pytest.approx(compute_iou(p, t).item(), rel=1e-6)


@settings(deadline=None)
@given(MASKS, MASKS, st.floats(0.1, 3), st.floats(0.1, 3))
def test_policy_for_normals_holds_in_every_metric(pred, truth, row, column):
    """Oracle: the policy; a normal has specificity and detection only; Dice = 2 IoU / (1 + IoU) elsewhere."""
    case = measure_case(MaskPair(pred, truth, spacing=(row, column)))
    assert case.normal == (not truth.any())
    assert case.empty == (not pred.any())
    assert case.area_truth == pytest.approx(truth.sum() * row * column)
    error = area_error(MaskPair(pred, truth, spacing=(row, column)))
    assert error == pytest.approx(case.area_pred - case.area_truth, abs=1e-9)
    on_lesions = [v for k, v in case.values.items() if SEGMENTATION[k].kind == "mean" and k not in ON_NORMALS]
    if case.normal:
        assert set(on_lesions) == {None}
        assert case.detection.lesions == 0
        return
    assert None not in on_lesions
    assert case.values["dice"] == pytest.approx(2 * case.values["iou"] / (1 + case.values["iou"]))


def test_a_missed_lesion_keeps_every_metric():
    """Oracle: the policy; nothing of a missed lesion is None, so no mean can lose it."""
    truth = np.zeros((6, 8), bool)
    truth[2:4, 3:6] = True
    case = measure_case(MaskPair(np.zeros_like(truth), truth, tolerance=2.0, spacing=(0.5, 0.25)))
    for name in ("dice", "iou", "nsd", "sensitivity", "precision"):
        assert case.values[name] == 0.0
    for name in ("hd", "hd95", "assd"):
        assert case.values[name] == pytest.approx(np.hypot(5 * 0.5, 7 * 0.25))
    assert (case.detection.lesions, case.detection.found) == (1, 0)
    assert case.values["area_error"] == pytest.approx(-6 * 0.125)
    assert case.values["area_error_relative"] == -1.0


def test_metrics_need_no_torch():
    """Oracle: sys.modules of a fresh interpreter that has measured a case and summed up a test set."""
    code = (
        "import sys, numpy as np\n"
        "import gcsam_med.metrics.summary as s, gcsam_med.metrics.segmentation as g\n"
        "m = np.eye(9, dtype=bool)\n"
        "c = s.measure_case(g.MaskPair(m, m))\n"
        "s.segmentation_estimates([c, c], [0, 1], np.random.default_rng(0), n_resamples=20)\n"
        "print(sorted({'torch', 'monai', 'statsmodels'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_cldice_by_hand():
    """Oracle: equations 1 and 2 of Shit et al. worked out on lines, which are their own skeletons."""
    truth = np.zeros((9, 30), bool)
    truth[4, 2:22] = True
    short, thick = np.zeros_like(truth), np.zeros_like(truth)
    short[4, 2:7] = True
    thick[3:6, 2:22] = True
    # A quarter of the line: precision of the skeleton 1, sensitivity 5/20.
    assert cldice(MaskPair(short, truth)) == pytest.approx(2 * 0.25 / 1.25)
    # Three times as thick: Dice 0.5, yet the centreline is met, but for a pixel of 19 at a bent end.
    assert dice(MaskPair(thick, truth)) == pytest.approx(0.5)
    assert cldice(MaskPair(thick, truth)) == pytest.approx(2 * 18 / 19 / (1 + 18 / 19))
    assert cldice(MaskPair(truth, truth)) == 1.0
    assert cldice(MaskPair(np.roll(truth, 2, axis=0), truth)) == 0.0
    assert cldice(MaskPair(np.zeros_like(truth), truth)) == 0.0
    assert cldice(MaskPair(truth, np.zeros_like(truth))) is None
