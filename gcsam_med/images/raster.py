"""PNG, JPEG, TIFF and BMP through Pillow, which decodes no other format here."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gcsam_med.images.picture import MAX_PIXELS, MIN_SIDE, ImageFault, Picture

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")

# A deep grey image is divided by the full scale of the smallest of these depths that holds its maximum,
# so that a 12-bit radiograph in a 16-bit file is neither black nor stretched to its own extremes.
BIT_DEPTHS = (8, 10, 12, 14, 16)


def decode_raster(data: bytes, name: str) -> Picture:
    """Decode a PNG, JPEG, TIFF or BMP to 8-bit grey or colour.

    Transparency is dropped, not blended. Greys deeper than 8 bits are mapped from 0 .. 2^b - 1 to 0 .. 255,
    where b is the smallest of 8, 10, 12, 14, 16 that holds the image's maximum. EXIF orientation is applied.
    A colour image whose three channels agree everywhere is grey.

    Raises
    ------
    ImageFault
        If the file cannot be used.
    """
    with _opened(data, name) as image:
        kind = str(image.format).lower()
        upright = ImageOps.exif_transpose(image)
        pixels, notes = _pixels(upright, name)
    return Picture(pixels=pixels, kind=kind, notes=notes)


def decode_raster_mask(data: bytes, name: str) -> np.ndarray:
    """Decode a mask of any mode to bool (H, W): brighter than half of its range, alpha not counted."""
    with _opened(data, name) as image:
        upright = ImageOps.exif_transpose(image)
        pixels, _ = _pixels(upright, name)
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    top = int(grey.max())
    # Label maps hold 1 (or another small number) for the foreground; pictures of masks hold 255.
    return grey > (127 if top > 127 else 0)


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """Open and load an image with every failure turned into an `ImageFault`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is either refused below or harmless
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image.size, name)
                image.load()
                yield image
    except ImageFault:
        raise
    except UnidentifiedImageError:
        raise ImageFault(
            "not-an-image", name, "no PNG, JPEG, TIFF, BMP or DICOM image was found in the file."
        ) from None
    except Image.DecompressionBombError:
        raise ImageFault("too-large", name, f"more than {MAX_PIXELS // 10**6} million pixels.") from None
    except MemoryError:
        raise ImageFault("too-large", name, "the image does not fit into memory.") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        EOFError,
        OverflowError,
    ) as error:
        reason = "truncated" if "truncated" in str(error).lower() else "corrupt"
        detail = "the file ends early." if reason == "truncated" else "the image data are damaged."
        raise ImageFault(reason, name, detail, "Copy the file again from its source.") from None


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageFault(
            "too-large",
            name,
            f"{width} x {height} pixels; at most {MAX_PIXELS // 10**6} million are read.",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageFault("too-small", name, f"{width} x {height} pixels; each side needs {MIN_SIDE}.")


def _pixels(image: Image.Image, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """8-bit grey (H, W) or colour (H, W, 3) of an opened image, and notes."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        return _from_deep(np.asarray(image), name), ("deep-grey",)
    if image.mode == "F":
        raise ImageFault("float-pixels", name, "pixels are floating-point numbers of an unknown range.")
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L")), ()
    if image.mode in ("LA", "La"):
        return np.asarray(image.getchannel(0)), ("alpha-dropped",)
    if image.mode in ("RGBA", "RGBa", "RGBX"):
        rgb = np.asarray(image)[..., :3]
        return _grey_if_grey(rgb), ("alpha-dropped",)
    return _grey_if_grey(np.asarray(image.convert("RGB"))), ()


def _from_deep(values: np.ndarray, name: str) -> np.ndarray:
    top, bottom = int(values.max()), int(values.min())
    if bottom < 0 or top >= 2**16:
        raise ImageFault("range", name, f"pixel values {bottom} to {top}; 0 to 65535 was expected.")
    bits = next(b for b in BIT_DEPTHS if top < 2**b)
    scaled = values.astype(np.float32) * (255.0 / (2**bits - 1))
    return np.rint(scaled).astype(np.uint8)


def _grey_if_grey(rgb: np.ndarray) -> np.ndarray:
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return np.ascontiguousarray(red)
    return np.ascontiguousarray(rgb)
