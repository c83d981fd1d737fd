import numpy as np
import pytest
from scipy import ndimage

from gcsam_med.reporting.drawing import PREDICTION, TRUTH, draw_outlines, outlines, overlay


def ring(shape=(40, 50)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    r = np.hypot(y - 20, x - 25)
    return (r < 14) & (r > 6)


def test_an_outline_runs_around_each_region_and_hole():
    """Oracle: every point lies half a pixel from the mask's edge; a ring has two outlines."""
    mask = ring()
    lines = outlines(mask)
    assert len(lines) == 2
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    for x, y in np.concatenate(lines):
        near = [round(y), round(x)]
        assert min(inside[tuple(near)], outside[tuple(near)]) <= 1.5
    assert outlines(np.zeros((5, 5), bool)) == []


def test_a_mask_at_the_border_is_closed():
    """Oracle: first and last point of its outline agree."""
    (line,) = outlines(np.ones((6, 9), bool))
    np.testing.assert_allclose(line[0], line[-1])
    assert line.min() == pytest.approx(-0.5)


def test_both_colours_show_and_the_image_stays_elsewhere():
    """Oracle: pixels far from any outline are the image's own; the original is not changed."""
    image = np.full((40, 50), 120, np.uint8)
    mask = ring()
    drawn = draw_outlines(image, [(mask, TRUTH, False), (np.roll(mask, 8, axis=1), PREDICTION, True)])
    assert drawn.shape == (40, 50, 3)
    for colour in (TRUTH, PREDICTION):
        assert (drawn == colour).all(axis=2).any()
    assert (drawn[:3] == 120).all()
    assert (image == 120).all()


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["ring", "border", "noise"])
def test_an_overlay_s_line_lies_on_the_edge_and_has_its_width(name, width):
    """Oracle: scipy's erosion (outside counts as background) and dilation with a cross."""
    rng = np.random.default_rng(0)
    mask = {"ring": ring(), "border": np.ones((6, 9), bool), "noise": rng.random((30, 40)) > 0.5}[name]
    image = rng.integers(0, 256, mask.shape).astype(np.uint8)
    drawn = np.asarray(overlay(image, mask, width=width).convert("RGB"))
    near = ndimage.binary_dilation(mask, iterations=width // 2) if width > 1 else mask
    rim = near & ~ndimage.binary_erosion(mask, iterations=width - width // 2)
    np.testing.assert_array_equal((drawn == PREDICTION).all(axis=2), rim)
    np.testing.assert_array_equal(drawn[~rim], np.minimum(image, 254)[~rim][:, None].repeat(3, axis=1))
