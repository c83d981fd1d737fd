"""Hashes, marks and statistics of one image."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from gcsam_med.preparation import marks as features
from gcsam_med.preparation.marks import find_marks, inpaint
from gcsam_med.preparation.scan import (
    colour_fraction,
    fingerprint,
    statistics,
    thumbnail,
)
from tests.datasets.layouts import blob, speckle


def as_int(hashed: imagehash.ImageHash) -> int:
    return int(str(hashed), 16)


@pytest.mark.parametrize("seed", range(5))
def test_fingerprints_are_those_of_imagehash(seed: int) -> None:
    """Oracle: imagehash's dhash and phash of the image, and of its mirror image (up to rounding ties)."""
    image = Image.fromarray(speckle(seed, 90, 120))
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    found = fingerprint(np.asarray(image))
    assert found.dhash == as_int(imagehash.dhash(image))
    assert found.phash == as_int(imagehash.phash(image))
    assert (found.dhash_mirrored ^ as_int(imagehash.dhash(mirrored))).bit_count() <= 1
    assert (found.phash_mirrored ^ as_int(imagehash.phash(mirrored))).bit_count() <= 1


def test_opening_is_scipys() -> None:
    """Oracle: scipy.ndimage's grey opening away from the border, where conventions differ."""
    image = speckle(1, 60, 80)
    ours = features._dilate(features._erode(image, 7), 7)
    theirs = ndimage.grey_opening(image, (7, 7))
    np.testing.assert_array_equal(ours[7:-7, 7:-7], theirs[7:-7, 7:-7])


def test_characters_and_calipers_are_counted_and_tissue_is_not() -> None:
    """Text drawn on smooth tissue; the same tissue without it."""
    tissue = ndimage.gaussian_filter(speckle(3, 240, 320).astype(float), 3).astype(np.uint8) // 2
    image = Image.fromarray(tissue)
    pen = ImageDraw.Draw(image)
    pen.text((20, 200), "LEFT BREAST 1.2 cm", fill=255)
    for x, y in ((100, 80), (180, 120)):
        pen.line([(x - 6, y), (x + 6, y)], fill=255)
        pen.line([(x, y - 6), (x, y + 6)], fill=255)
    drawn = np.asarray(image)
    count, where = find_marks(drawn)
    assert count >= 10
    assert find_marks(tissue) == (0, pytest.approx(np.zeros(tissue.shape)))
    changed = drawn != tissue
    assert where[changed].mean() > 0.8
    painted = inpaint(drawn, where)
    assert np.abs(painted[changed].astype(int) - tissue[changed]).mean() < 15
    far = ~ndimage.binary_dilation(where, iterations=8)
    np.testing.assert_array_equal(painted[far], drawn[far])


def test_letters_that_touch_are_a_line_of_text() -> None:
    """Six bright bars of a letter's size in a row, all joined at their feet by a fainter bridge."""
    image = np.full((120, 200), 30, dtype=np.uint8)
    image[58:60, 40:112] = 105
    for k in range(6):
        image[50:60, 40 + 12 * k : 46 + 12 * k] = 200
    assert find_marks(image)[0] == 6


def test_statistics_of_a_known_image() -> None:
    """By hand: half black, half white; a quarter of the pixels coloured; a mask of two parts at the edge."""
    grey = np.zeros((20, 40), dtype=np.uint8)
    grey[:, 20:] = 255
    pixels = np.repeat(grey[..., None], 3, axis=2)
    pixels[:10, :20] = (200, 0, 0)
    mask = np.zeros((20, 40), dtype=bool)
    mask[:4, :5] = mask[10:12, 30:40] = True
    found = statistics(pixels, grey, mask, 3)
    assert found["mean"] == 127.5
    assert found["sd"] == 127.5
    assert (found["black"], found["white"], found["colour"]) == (0.5, 0.5, 0.25)
    assert (found["mask_fraction"], found["mask_parts"], found["mask_at_edge"]) == (40 / 800, 2, 1)
    assert colour_fraction(grey) == 0


def test_thumbnails_have_one_size() -> None:
    """Whatever the aspect ratio."""
    assert thumbnail(speckle(0, 30, 300)).shape == (128, 128)
    assert blob(0).any()
