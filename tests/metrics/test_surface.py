"""Surface distances against a brute-force definition, MONAI and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial.distance import cdist, directed_hausdorff

from gcsam_med.metrics.regions import bounding_box
from gcsam_med.metrics.segmentation import MaskPair, assd, hausdorff, hd95, nsd, outline

SMALL_MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def random_pairs(n, seed=0, size=(3, 24)):
    """Pairs of blobby masks, none empty, some touching the border."""
    rng = np.random.default_rng(seed)
    pairs = []
    while len(pairs) < n:
        shape = tuple(rng.integers(*size, 2))
        noise = [ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 2)) for _ in range(2)]
        masks = [x > np.quantile(x, rng.uniform(0.2, 0.95)) for x in noise]
        if all(m.any() for m in masks):
            pairs.append(masks)
    return pairs


def brute_force(pred, truth, spacing):
    """Both directed distance lists by the definition, pixel by pixel."""

    def edge_points(mask):
        points = []
        for r, c in np.argwhere(mask):
            neighbours = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
            inside = [0 <= i < mask.shape[0] and 0 <= j < mask.shape[1] and mask[i, j] for i, j in neighbours]
            if not all(inside):
                points.append((r * spacing[0], c * spacing[1]))
        return points

    a, b = edge_points(pred), edge_points(truth)
    to_truth = [min(np.hypot(p[0] - q[0], p[1] - q[1]) for q in b) for p in a]
    to_pred = [min(np.hypot(p[0] - q[0], p[1] - q[1]) for p in a) for q in b]
    return np.array(to_truth), np.array(to_pred)


def test_every_metric_equals_the_definition_on_50_small_masks():
    """Oracle: brute force over outline pixels; HD95 is the larger of the two directed 95th percentiles."""
    rng = np.random.default_rng(1)
    for pred, truth in random_pairs(50, size=(3, 15)):
        spacing = tuple(rng.uniform(0.1, 2, 2))
        to_truth, to_pred = brute_force(pred, truth, spacing)
        case = MaskPair(pred, truth, spacing=spacing)
        np.testing.assert_allclose(np.sort(case.distances[0]), np.sort(to_truth))
        np.testing.assert_allclose(np.sort(case.distances[1]), np.sort(to_pred))
        assert hausdorff(case) == pytest.approx(max(to_truth.max(), to_pred.max()))
        expected = max(np.percentile(to_truth, 95), np.percentile(to_pred, 95))
        assert hd95(case) == pytest.approx(expected)
        both = np.concatenate((to_truth, to_pred))
        assert assd(case) == pytest.approx(both.mean())
        for tolerance in (0.0, 0.5, 1.7):
            found = nsd(MaskPair(pred, truth, spacing=spacing, tolerance=tolerance))
            assert found == pytest.approx((both <= tolerance).mean())


def test_every_metric_equals_monai_on_200_masks():
    """Oracle: MONAI compute_hausdorff_distance, compute_average_surface_distance, compute_surface_dice."""
    import torch
    from monai.metrics import (
        compute_average_surface_distance,
        compute_hausdorff_distance,
        compute_surface_dice,
    )

    rng = np.random.default_rng(2)
    for pred, truth in random_pairs(200, seed=3):
        spacing = [float(x) for x in rng.uniform(0.2, 2, 2)]
        p, t = (torch.tensor(m[None, None]).float() for m in (pred, truth))
        common = {"include_background": True, "spacing": spacing}
        case = MaskPair(pred, truth, spacing=tuple(spacing), tolerance=1.5)
        expected_hd = compute_hausdorff_distance(p, t, **common).item()
        expected_hd95 = compute_hausdorff_distance(p, t, percentile=95, **common).item()
        expected_assd = compute_average_surface_distance(p, t, symmetric=True, **common).item()
        expected_nsd = compute_surface_dice(p, t, class_thresholds=[1.5], **common).item()
        assert hausdorff(case) == pytest.approx(expected_hd, rel=1e-5)
        assert hd95(case) == pytest.approx(expected_hd95, rel=1e-5)
        assert assd(case) == pytest.approx(expected_assd, rel=1e-5, abs=1e-6)
        assert nsd(case) == pytest.approx(expected_nsd, rel=1e-5)


def test_hausdorff_equals_scipy():
    """Oracle: scipy.spatial.distance.directed_hausdorff over outline points."""
    for pred, truth in random_pairs(20, seed=4):
        a, b = np.argwhere(outline(pred)), np.argwhere(outline(truth))
        expected = max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0])
        assert hausdorff(MaskPair(pred, truth)) == pytest.approx(expected)


@given(SMALL_MASKS)
def test_outline_is_mask_less_erosion(mask):
    """Oracle: scipy.ndimage.binary_erosion with a cross, outside counted as background."""
    np.testing.assert_array_equal(outline(mask), mask & ~ndimage.binary_erosion(mask))


@settings(deadline=None)
@given(SMALL_MASKS, st.data())
def test_distances_are_symmetric_bounded_and_scale_with_spacing(pred, data):
    """Oracle: the definitions; distances are symmetric, at most the diagonal, and linear in the spacing."""
    truth = data.draw(arrays(bool, pred.shape))
    case, swapped = MaskPair(pred, truth), MaskPair(truth, pred)
    doubled = MaskPair(pred, truth, spacing=(2.0, 2.0))
    if case.normal:
        assert hausdorff(case) is hd95(case) is assd(case) is nsd(case) is None
        return
    diagonal = np.hypot(pred.shape[0] - 1, pred.shape[1] - 1)
    for metric in (hausdorff, hd95, assd):
        assert metric(doubled) == pytest.approx(2 * metric(case))
        assert 0 <= metric(case) <= diagonal + 1e-9
        if not case.empty:
            assert metric(case) == pytest.approx(metric(swapped))
    assert hd95(case) <= hausdorff(case) + 1e-12
    assert 0 <= nsd(MaskPair(pred, truth, tolerance=0.0)) <= nsd(case) <= 1
    if not case.empty:
        assert nsd(case) == nsd(swapped)


def test_missed_lesion_scores_the_diagonal_and_is_never_beaten_by_a_found_one():
    """Oracle: the stated policy, and the farthest two single pixels of an image."""
    empty, lesion = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    lesion[0, 0] = True
    farthest = np.zeros((4, 6), bool)
    farthest[3, 5] = True
    diagonal = np.hypot(3 * 2.0, 5 * 0.5)
    for pred in (empty, farthest):
        case = MaskPair(pred, lesion, spacing=(2.0, 0.5))
        assert hausdorff(case) == hd95(case) == assd(case) == pytest.approx(diagonal)
        assert nsd(case) == 0.0


def test_identical_single_pixel_is_perfect():
    """Oracle: the definition."""
    one = np.zeros((3, 3), bool)
    one[1, 1] = True
    case = MaskPair(one, one, tolerance=0.0)
    assert hd95(case) == assd(case) == 0.0
    assert nsd(case) == 1.0


def test_tolerance_is_inclusive_despite_rounding():
    """Oracle: arithmetic; three pixels of 0.1 mm are within 0.3 mm, though 3 * 0.1 > 0.3 to a computer."""
    a, b = np.zeros((1, 9), bool), np.zeros((1, 9), bool)
    a[0, 0], b[0, 3] = True, True
    for tolerance, expected in ((0.3, 1.0), (0.29, 0.0)):
        assert nsd(MaskPair(a, b, spacing=(0.1, 0.1), tolerance=tolerance)) == expected


def test_distances_do_not_depend_on_where_in_the_image_the_masks_lie():
    """Oracle: translation; the crop to the joint box must not change a distance."""
    (pred, truth) = random_pairs(1, seed=7)[0]
    frame = tuple(n + 60 for n in pred.shape)
    moved = []
    for mask in (pred, truth):
        big = np.zeros(frame, bool)
        big[31 : 31 + mask.shape[0], 17 : 17 + mask.shape[1]] = mask
        moved.append(big)
    pairs = cdist(np.argwhere(outline(moved[0])), np.argwhere(outline(moved[1])))
    np.testing.assert_allclose(np.sort(MaskPair(*moved).distances[0]), np.sort(pairs.min(axis=1)))
    assert bounding_box(moved[0])[0].start >= 31


@pytest.mark.parametrize(
    ("pred", "truth", "what"),
    [
        (np.zeros((2, 2, 2)), np.zeros((2, 2)), r"\[H, W\]"),
        (np.zeros((2, 2)), np.full((2, 2), 255), "only 0 and 1"),
        (np.full((2, 2), 0.5), np.zeros((2, 2)), "only 0 and 1"),
        (np.zeros((2, 3)), np.zeros((2, 2)), "differ in shape"),
    ],
)
def test_malformed_masks_are_refused(pred, truth, what):
    """Oracle: the contract; a mask of 0 and 255 taken as it is would silently be counted wrongly."""
    with pytest.raises(ValueError, match=what):
        MaskPair(pred, truth)


def test_malformed_numbers_are_refused():
    """Oracle: the contract."""
    ones = np.ones((2, 2))
    for spacing in ((0.0, 1.0), (1.0, float("nan")), (1.0,)):
        with pytest.raises(ValueError, match="Spacing"):
            MaskPair(ones, ones, spacing=spacing)
    with pytest.raises(ValueError, match="tolerance"):
        MaskPair(ones, ones, tolerance=-1)
