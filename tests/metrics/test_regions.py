"""Detection against hand-made images and a brute-force matching; diameters against all pairs of corners."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import distance

from gcsam_med.metrics.regions import Detection, components, detect, diameters, specks


def image(*boxes, shape=(20, 20)):
    mask = np.zeros(shape, bool)
    for r0, r1, c0, c1 in boxes:
        mask[r0:r1, c0:c1] = True
    return mask


TWO = image((1, 5, 1, 5), (10, 16, 10, 16))


@pytest.mark.parametrize(
    ("pred", "truth", "expected"),
    [
        (image(), image(), (0, 0, 0)),
        (image((2, 4, 2, 4), (8, 9, 8, 9)), image(), (0, 0, 2)),
        (image(), TWO, (2, 0, 0)),
        (TWO, TWO, (2, 2, 0)),
        (image((1, 5, 1, 5)), TWO, (2, 1, 0)),
        # One mark over both lesions can find only one of them.
        (image((1, 16, 1, 16)), image((1, 16, 1, 7), (1, 16, 9, 16)), (2, 1, 0)),
        # Two fragments of one lesion: one finds it, the other is a false mark.
        (image((10, 12, 10, 16), (14, 16, 10, 16)), image((10, 16, 10, 16)), (1, 1, 1)),
        # A touch at the corner is not a find: IoU 1/31.
        (image((4, 8, 4, 8)), image((1, 5, 1, 5)), (1, 0, 1)),
    ],
)
def test_counts_by_hand(pred, truth, expected):
    """Oracle: counted by hand, IoU of at least 0.1."""
    found = detect(pred, truth)
    assert (found.lesions, found.found, found.false_positives) == expected


def test_specks_are_no_lesions_and_no_false_marks():
    """Oracle: counted by hand: a lesion of 36 pixels and one of 16 beside specks of 1 and 4."""
    dusty = TWO | image((0, 1, 19, 20), (7, 9, 18, 20))
    assert detect(dusty, dusty) == Detection(4, 4, 0)
    assert detect(dusty, dusty, min_pixels=5) == Detection(2, 2, 0)
    assert detect(TWO, dusty, min_pixels=5) == Detection(2, 2, 0)
    assert detect(dusty, TWO, min_pixels=5) == Detection(2, 2, 0)
    assert detect(dusty, image(), min_pixels=5) == Detection(0, 0, 2)
    assert detect(dusty, dusty, min_pixels=17) == Detection(1, 1, 0)
    assert specks(dusty, 5) == 2


def test_diagonal_neighbours_are_one_lesion():
    """Oracle: 8-connectivity."""
    mask = np.eye(4, dtype=bool)
    assert components(mask)[1] == 1
    assert detect(mask, mask) == Detection(1, 1, 0)


@settings(deadline=None, max_examples=80)
@given(arrays(bool, (6, 6)), arrays(bool, (6, 6)), st.sampled_from([0.1, 0.3, 0.5]))
def test_matching_is_the_best_of_all(pred, truth, min_iou):
    """Oracle: every one-to-one assignment tried, the one with the largest summed IoU kept."""
    (p, n_pred), (t, n_truth) = components(pred), components(truth)
    result = detect(pred, truth, min_iou)
    assert result.lesions == n_truth
    assert result.found + result.false_positives == n_pred
    if not n_pred or not n_truth:
        assert result.found == 0
        return
    iou = np.array(
        [
            [((t == i) & (p == j)).sum() / ((t == i) | (p == j)).sum() for j in range(1, n_pred + 1)]
            for i in range(1, n_truth + 1)
        ]
    )
    iou[iou < min_iou] = 0
    few = iou if n_truth <= n_pred else iou.T
    outcomes = []
    for order in permutations(range(few.shape[1]), len(few)):
        chosen = few[np.arange(len(few)), order]
        outcomes.append((chosen.sum(), (chosen > 0).sum()))
    best = max(total for total, _ in outcomes)
    assert result.found in {count for total, count in outcomes if np.isclose(total, best)}


def test_threshold_out_of_range_is_refused():
    """Oracle: the contract."""
    for min_iou in (0.0, 1.1):
        with pytest.raises(ValueError, match="min_iou"):
            detect(TWO, TWO, min_iou)


@given(st.integers(0, 10**6), st.floats(0.2, 3), st.floats(0.2, 3))
def test_axes_of_any_region(seed, down, across):
    """Oracle: every pair of pixel corners, by brute force."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((9, 11), dtype=bool)
    y, x = rng.integers(0, 9), rng.integers(0, 11)
    for _ in range(rng.integers(1, 40)):  # a walk is one region
        mask[y, x] = True
        y, x = np.clip(y + rng.integers(-1, 2), 0, 8), np.clip(x + rng.integers(-1, 2), 0, 10)
    corners = np.argwhere(mask)[:, None, :] + np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    points = corners.reshape(-1, 2) * (down, across)
    between = distance.cdist(points, points)
    long_axis, short_axis = diameters(mask, (down, across))
    assert long_axis == pytest.approx(between.max())
    pairs = np.argwhere(between > between.max() - 1e-9)
    widths = []
    for a, b in pairs:
        along = (points[b] - points[a]) / between[a, b]
        widths.append(np.ptp(points @ np.array([-along[1], along[0]])))
    assert any(short_axis == pytest.approx(width) for width in widths)


def test_axes_of_an_ellipse_and_the_largest_of_several():
    """Oracle: geometry; a far smaller region changes nothing."""
    y, x = np.mgrid[:200, :300]
    mask = ((y - 90) / 40) ** 2 + ((x - 150) / 100) ** 2 <= 1
    mask[195:199, 0:5] = True
    long_axis, short_axis = diameters(mask, (0.1, 0.1))
    assert long_axis == pytest.approx(20, abs=0.2)
    assert short_axis == pytest.approx(8, abs=0.2)


def test_an_empty_mask_has_none():
    with pytest.raises(ValueError, match="empty"):
        diameters(np.zeros((3, 3), dtype=bool))
