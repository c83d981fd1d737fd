"""The way into the square and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass

from gcsam_med.transforms.letterbox import Letterbox

SIDES = st.integers(1, 700)
SIZES = st.sampled_from([32, 64, 128])


@settings(deadline=None)
@given(SIDES, SIDES, SIZES)
def test_the_image_lies_in_the_middle_with_its_aspect_ratio(height, width, size):
    """Oracle: the longer side fills the square, the other is within half a pixel of the exact ratio."""
    geometry = Letterbox(height, width, size)
    top, left, bottom, right = geometry.box
    inner = (bottom - top, right - left)
    assert inner == geometry.inner
    assert max(inner) == size
    exact = (height * size / max(height, width), width * size / max(height, width))
    assert all(abs(a - b) <= 0.5 or a == 1 for a, b in zip(inner, exact, strict=True))
    assert abs(top - (size - bottom)) <= 1
    assert abs(left - (size - right)) <= 1
    assert geometry.scale == size / max(height, width)


@settings(max_examples=25, deadline=None)
@given(SIDES, SIDES, SIZES, st.booleans())
def test_padding_is_black_and_the_rest_is_not(height, width, size, colour):
    image = np.full((height, width, 3) if colour else (height, width), 255, dtype=np.uint8)
    geometry = Letterbox(height, width, size)
    square = geometry.place_image(image)
    assert square.shape == ((size, size, 3) if colour else (size, size))
    assert square.dtype == np.uint8
    top, left, bottom, right = geometry.box
    assert (square[top:bottom, left:right] == 255).all()
    assert square.sum(dtype=np.int64) == 255 * (bottom - top) * (right - left) * (3 if colour else 1)
    mask = geometry.place_mask(np.ones((height, width), dtype=bool))
    assert (mask == (square if not colour else square[..., 0]) // 255).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_nothing_changes_where_the_size_is_the_same(seed):
    rng = np.random.default_rng(seed)
    image, mask = rng.integers(0, 256, (32, 32), dtype=np.uint8), rng.random((32, 32)) > 0.5
    plane = rng.random((32, 32)).astype(np.float32)
    geometry = Letterbox(32, 32, 32)
    assert (geometry.place_image(image) == image).all()
    assert (geometry.place_mask(mask) == mask).all()
    np.testing.assert_array_equal(geometry.restore(plane), plane)


def test_a_mask_pixel_is_foreground_from_half_of_its_area_on():
    """Oracle: the mean over blocks of 4 x 4 pixels, by numpy; and replication where the square is larger."""
    mask = np.random.default_rng(0).random((128, 128)) > 0.5
    share = mask.reshape(32, 4, 32, 4).mean(axis=(1, 3))
    np.testing.assert_array_equal(Letterbox(128, 128, 32).place_mask(mask), share >= 0.5)
    small = mask[:16, :16]
    np.testing.assert_array_equal(Letterbox(16, 16, 64).place_mask(small), np.kron(small, np.ones((4, 4))))


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(150, 700),
    width=st.integers(150, 700),
    size=st.sampled_from([64, 128, 256]),
    down=st.floats(0.3, 0.7),
    across=st.floats(0.3, 0.7),
)
def test_a_mask_finds_its_way_back(height, width, size, down, across):
    """Oracle: an ellipse returns to its place and size; a shift or a swap of the axes would show."""
    y, x = np.mgrid[:height, :width]
    lesion = ((y / height - down) / 0.2) ** 2 + ((x / width - across) / 0.25) ** 2 <= 1
    geometry = Letterbox(height, width, size)
    back = geometry.restore(geometry.place_mask(lesion).astype(np.float32)) >= 0.5
    assert back.shape == lesion.shape
    assert 2 * (back & lesion).sum() / (back.sum() + lesion.sum()) > 0.93
    off = np.subtract(center_of_mass(back), center_of_mass(lesion))
    assert np.abs(off).max() < 0.6 / geometry.scale + 0.5


@settings(max_examples=25, deadline=None)
@given(SIDES, SIDES, SIZES)
def test_restored_planes_have_the_original_shape_and_stay_within_range(height, width, size):
    """Oracle: a constant stays that constant; bilinear weights are not negative."""
    geometry = Letterbox(height, width, size)
    constant = geometry.restore(np.full((size, size), 0.3))
    assert constant.shape == (height, width)
    assert constant.dtype == np.float32
    np.testing.assert_allclose(constant, 0.3, atol=1e-6)
    wild = geometry.restore(np.random.default_rng(0).random((size, size)))
    assert -1e-6 <= wild.min() <= wild.max() <= 1 + 1e-6


@pytest.mark.parametrize(("height", "width"), [(1, 700), (700, 1), (1, 1), (2, 3)])
def test_strips_keep_at_least_a_pixel(height, width):
    geometry = Letterbox(height, width, 32)
    assert min(geometry.inner) >= 1
    assert geometry.place_mask(np.ones((height, width), dtype=bool)).any()
