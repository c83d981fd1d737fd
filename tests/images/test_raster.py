"""PNG, JPEG, TIFF and BMP of every mode become the grey or colour that they stand for."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from gcsam_med.errors import InputError
from gcsam_med.images import ImageFault, MaskRule, decode_frames, decode_mask, read_frames, read_image
from tests.images.malformed import encoded, picture

GREY = picture()
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)


def decoded(data: bytes) -> np.ndarray:
    return next(decode_frames(data, "test")).pixels


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_lossless_formats_give_the_pixels_that_were_written(kind: str, mode: str) -> None:
    """Oracle: the array that was encoded; Pillow's own palette conversion for P."""
    source = {
        "1": Image.fromarray(GREY > 127),
        "L": Image.fromarray(GREY),
        "P": Image.fromarray(COLOUR).quantize(64),
        "RGB": Image.fromarray(COLOUR),
    }[mode]
    expected = np.asarray(source.convert("RGB")) if mode in ("P", "RGB") else np.asarray(source.convert("L"))
    np.testing.assert_array_equal(decoded(encoded(source, kind)), expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped_and_not_blended(mode: str) -> None:
    """A fully transparent pixel keeps its colour."""
    alpha = np.zeros_like(GREY)
    bands = [GREY, alpha] if mode == "LA" else [*np.moveaxis(COLOUR, 2, 0), alpha]
    image = Image.merge(mode, [Image.fromarray(np.ascontiguousarray(b)) for b in bands])
    expected = GREY if mode == "LA" else COLOUR
    np.testing.assert_array_equal(decoded(encoded(image, "PNG")), expected)


def test_colour_that_is_grey_everywhere_becomes_one_channel() -> None:
    """A grey image saved as RGB or RGBA is grey."""
    image = Image.fromarray(np.repeat(GREY[..., None], 3, axis=2))
    assert decoded(encoded(image, "PNG")).shape == GREY.shape
    assert decoded(encoded(image.convert("RGBA"), "PNG")).shape == GREY.shape


def deep_colour(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a colour, put together by hand since Pillow writes none."""
    height, width, _ = values.shape
    rows = values.astype(">u2").tobytes()
    size = len(rows) // height
    packed = zlib.compress(b"".join(b"\0" + rows[i * size : (i + 1) * size] for i in range(height)))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", packed),
        (b"IEND", b""),
    )
    parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_sixteen_bits_a_colour_are_read_and_twelve_of_them_refused() -> None:
    """Oracle: the upper byte of each word. A picture of 12 bits would be black, in silence."""
    np.testing.assert_array_equal(decoded(deep_colour(COLOUR.astype(int) * 257)), COLOUR)
    with pytest.raises(ImageFault, match="lowest 12 are used") as caught:
        decoded(deep_colour(COLOUR.astype(int) * 16))
    assert caught.value.reason == "deep-colour"


@given(arrays(np.uint16, (12, 16), elements=st.integers(0, 65535)))
def test_deep_grey_is_scaled_by_the_smallest_depth_that_holds_it(values: np.ndarray) -> None:
    """Oracle: the documented rule, computed with Python integers."""
    top = int(values.max())
    full = next(2**b - 1 for b in (8, 10, 12, 14, 16) if top < 2**b)
    got = decoded(encoded(Image.fromarray(values), "PNG"))
    exact = values.astype(np.float64) * 255 / full
    assert np.abs(got - exact).max() <= 0.5 + 1e-4


def test_twelve_bit_radiograph_is_neither_black_nor_stretched() -> None:
    """A 12-bit image in a 16-bit file: half of its full scale is half of ours."""
    values = np.full((16, 16), 2048, dtype=np.uint16)
    values[0, 0] = 4000
    assert decoded(encoded(Image.fromarray(values), "PNG"))[8, 8] == 128


def test_exif_orientation_is_applied() -> None:
    """Orientation 6 means: turn by 90 degrees clockwise to view."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(GREY), "PNG", exif=exif)
    np.testing.assert_array_equal(decoded(data), np.rot90(GREY, -1))


def test_pages_of_a_tiff_are_frames(tmp_path: Path) -> None:
    """First, middle, a number, all; and a number that is not there."""
    pages = [Image.fromarray(picture(seed=i)) for i in range(5)]
    path = tmp_path / "pages.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    for frame, number in (("first", 0), ("middle", 2), (4, 4)):
        read = read_image(path, frame=frame)  # type: ignore[arg-type]
        np.testing.assert_array_equal(read.pixels, np.asarray(pages[number]))
        assert (read.frame, read.n_frames, read.notes) == (number, 5, ("multi-frame",))
    assert [p.frame for p in read_frames(path)] == [0, 1, 2, 3, 4]
    with pytest.raises(ImageFault, match="frame 5 was asked for; there are 5"):
        read_image(path, frame=5)


def test_jpeg_is_close_to_its_source() -> None:
    """JPEG at quality 95 of smooth noise: mean error of a few levels."""
    got = decoded(encoded(Image.fromarray(GREY), "JPEG", quality=95))
    assert np.abs(got.astype(int) - GREY).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_masks_of_every_mode_have_the_same_foreground(kind: str, mode: str) -> None:
    """Alpha never counts: it is opaque everywhere here, transparent nowhere foreground."""
    mask = GREY > 140
    image = Image.fromarray(mask.astype(np.uint8) * 255).convert(mode)
    if mode == "RGBA" and kind == "BMP":
        pytest.skip("Pillow writes RGBA bitmaps without marking the alpha channel")
    np.testing.assert_array_equal(decode_mask(encoded(image, kind), "mask"), mask)


def test_transparent_foreground_counts_and_opaque_background_does_not() -> None:
    """Only colour tells."""
    mask = GREY > 140
    values = mask.astype(np.uint8) * 255
    rgba = np.dstack([values, values, values, 255 - values])
    np.testing.assert_array_equal(decode_mask(encoded(Image.fromarray(rgba), "PNG"), "mask"), mask)


@pytest.mark.parametrize("foreground", [1, 2, 20, 100, 128, 255])
def test_masks_of_any_foreground_value(foreground: int) -> None:
    """Label numbers and brightness alike."""
    mask = GREY > 140
    image = Image.fromarray(mask.astype(np.uint8) * np.uint8(foreground))
    np.testing.assert_array_equal(decode_mask(encoded(image, "PNG"), "mask"), mask)


def test_every_label_of_a_map_is_foreground_and_interpolated_greys_are_halved() -> None:
    """Labels 0, 1, 2: both count. Greys between 0 and 255: from 128 on."""
    labels = np.zeros((16, 16), dtype=np.uint8)
    labels[:4], labels[8:12] = 1, 2
    np.testing.assert_array_equal(decode_mask(encoded(Image.fromarray(labels), "PNG"), "m"), labels > 0)
    ramp = np.tile((np.arange(600) - 250).clip(0, 85) * 3, (16, 1)).astype(np.uint8)
    np.testing.assert_array_equal(decode_mask(encoded(Image.fromarray(ramp), "PNG"), "m"), ramp > 127)


def test_jpeg_noise_of_an_empty_mask_is_not_foreground() -> None:
    """Compression leaves small values in black areas."""
    noisy = (picture() // 40).astype(np.uint8)
    assert not decode_mask(encoded(Image.fromarray(noisy), "JPEG"), "mask").any()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "jfif"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "JPEG2000"])
def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path: Path, kind: str, suffix: str) -> None:
    """Oracle: Pillow with the format said."""
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.arange(0, 240, dtype=np.uint8).reshape(12, 20)).save(path, format=kind)
    with Image.open(path, formats=[kind]) as image:
        np.testing.assert_array_equal(read_image(path).grey, np.asarray(image.convert("L")))


def test_sixteen_bit_tiff_with_white_as_zero(tmp_path: Path) -> None:
    """Oracle: the same picture with black as zero."""
    values = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    Image.fromarray(values).save(tmp_path / "black.tif")
    Image.fromarray(65535 - values).save(tmp_path / "white.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(
        read_image(tmp_path / "white.tif").pixels, read_image(tmp_path / "black.tif").pixels
    )


def mask_levels(*levels: int) -> np.ndarray:
    """Blocks of 10 x 10 pixels of these values on 0."""
    grey = np.zeros((40, 60), dtype=np.uint8)
    for i, level in enumerate(levels):
        grey[10:20, 10 * i + 5 : 10 * i + 15] = level
    return grey


def alpha_mask() -> Image.Image:
    whole = Image.new("RGBA", (60, 40), "white")
    whole.putalpha(Image.fromarray(mask_levels(255)))
    return whole


AMBIGUOUS: dict[str, tuple[Image.Image, str, dict[str, int]]] = {
    "levels": (Image.fromarray(mask_levels(127, 255)), "levels", {"1-255": 200, "255": 100, "127": 100}),
    "an object of value 1, a rim of 255": (
        Image.fromarray(mask_levels(1, 255)),
        "levels",
        {"1-255": 200, "255": 100, "1": 100},
    ),
    "alpha": (alpha_mask(), "alpha", {"alpha": 100}),
    "a picture": (Image.fromarray(picture(40, 60)), "not-a-mask", {}),
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_a_mask_that_can_be_read_in_several_ways_is_refused_with_the_option(kind: str) -> None:
    """Oracle: the pixels of each value, counted by hand."""
    image, reason, rules = AMBIGUOUS[kind]
    data = encoded(image, "PNG")
    with pytest.raises(ImageFault) as caught:
        decode_mask(data, "m.png")
    assert caught.value.reason == reason
    assert "--" in caught.value.advice
    for values, pixels in rules.items():
        assert decode_mask(data, "m.png", MaskRule(values)).sum() == pixels
        assert decode_mask(data, "m.png", MaskRule(values, invert=True)).sum() == 2400 - pixels


def test_greys_of_interpolation_and_of_jpeg_and_instance_numbers_are_no_levels() -> None:
    """Oracle: the mask that they were made from."""
    plain = mask_levels(255, 255)
    large = Image.fromarray(plain).resize((240, 160), Image.Resampling.BICUBIC)
    expected = np.asarray(Image.fromarray(plain).resize((240, 160), Image.Resampling.NEAREST)) > 0
    smooth = decode_mask(encoded(large, "PNG"), "m.png")
    assert (smooth != expected).mean() < 0.02
    jpeg = decode_mask(encoded(Image.fromarray(plain), "JPEG", quality=70), "m.jpg")
    assert (jpeg != (plain > 0)).sum() <= 4
    numbers = np.arange(30, dtype=np.uint8).repeat(80).reshape(40, 60)
    assert decode_mask(encoded(Image.fromarray(numbers), "PNG"), "m.png").sum() == 2400 - 80


def test_several_labels_of_a_mask_are_noted() -> None:
    """Numbers 1 and 2, a palette of two colours; not one number, one colour, or smooth greys."""
    two = Image.fromarray(mask_levels(1, 2))
    colours = Image.fromarray(mask_levels(1, 2))
    colours.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    one = Image.fromarray(mask_levels(1, 1))
    red = Image.fromarray(mask_levels(1, 1))
    red.putpalette([0, 0, 0, 200, 0, 0])
    smooth = Image.fromarray(mask_levels(255, 255)).resize((240, 160), Image.Resampling.BICUBIC)
    for image, expected in ((two, 1), (colours, 1), (one, 0), (red, 0), (smooth, 0)):
        notes: list[str] = []
        decode_mask(encoded(image, "PNG"), "m.png", notes=notes)
        assert notes == ["mask-labels"] * expected


def test_several_pages_are_no_mask() -> None:
    stream = io.BytesIO()
    page = Image.fromarray(mask_levels(255))
    page.save(stream, format="TIFF", save_all=True, append_images=[page])
    with pytest.raises(ImageFault, match="several pages"):
        decode_mask(stream.getvalue(), "m.tif")


@pytest.mark.parametrize("values", ["1-", "red", "1;2", "9999"])
def test_mask_values_are_grey_values(values: str) -> None:
    with pytest.raises(InputError, match="takes grey values"):
        MaskRule(values).numbers()
