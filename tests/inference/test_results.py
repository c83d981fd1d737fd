import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gcsam_med.inference.results import write_mask, write_png


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_mask_comes_back_from_its_file(tmp_path_factory, height, width, seed, share):
    """Oracle: Pillow reads an 8-bit grey PNG whose checksums hold, with 255 where the mask is."""
    mask = np.random.default_rng(seed).random((height, width)) < share
    path = tmp_path_factory.getbasetemp() / "mask.png"
    write_mask(path, mask)
    with Image.open(path) as image:
        image.verify()
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(image), mask * 255)


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_png_is_there_whole(tmp_path, mode):
    """Oracle: the pixels read back; nothing else is left in the folder."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    write_png(tmp_path / "a.png", image)
    with Image.open(tmp_path / "a.png") as back:
        np.testing.assert_array_equal(np.asarray(back.convert("RGB")), np.asarray(image.convert("RGB")))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
