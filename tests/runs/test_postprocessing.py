import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from gcsam_med.runs.postprocessing import Postprocessing, to_mask

maps = hnp.arrays(np.float32, (9, 11), elements=st.floats(0, 1, width=32))
EIGHT = np.ones((3, 3), bool)


@given(maps, st.floats(0, 1))
def test_without_steps_it_is_the_threshold(probability, threshold):
    """Oracle: the comparison itself."""
    np.testing.assert_array_equal(to_mask(probability, threshold), probability >= threshold)


@given(maps)
def test_the_largest_region_is_one_region_of_the_largest_size(probability):
    """Oracle: scipy.ndimage's labels and sizes."""
    plain = probability >= 0.5
    kept = to_mask(probability, 0.5, Postprocessing(largest_component=True))
    labels, count = ndimage.label(plain, EIGHT)
    assert ndimage.label(kept, EIGHT)[1] == min(count, 1)
    assert not (kept & ~plain).any()
    assert kept.sum() == max((labels == k).sum() for k in range(1, count + 1)) if count else not kept.any()


@given(maps, st.integers(1, 30))
def test_small_regions_go_and_holes_are_filled(probability, least):
    """Oracle: scipy.ndimage on the result: no small region, no hole."""
    kept = to_mask(probability, 0.5, Postprocessing(fill_holes=True, min_area=least))
    labels, count = ndimage.label(kept, EIGHT)
    assert all((labels == k).sum() >= least for k in range(1, count + 1))
    # Dropping a region can open no hole: each was filled before.
    np.testing.assert_array_equal(ndimage.binary_fill_holes(kept) & ~kept, False)


def test_steps_are_named():
    """Oracle: by hand."""
    assert Postprocessing().name == "none"
    assert (
        Postprocessing(True, True, 5).name
        == "largest component, holes filled, regions under 5 pixels dropped"
    )


@given(maps)
def test_holes_are_filled_as_scipy_fills_them(probability):
    """Oracle: scipy.ndimage.binary_fill_holes."""
    expected = ndimage.binary_fill_holes(probability >= 0.5)
    np.testing.assert_array_equal(to_mask(probability, 0.5, Postprocessing(fill_holes=True)), expected)
