import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance

from gcsam_med.metrics.shape import diameters


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
