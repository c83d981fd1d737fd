"""Pictures of the usual formats through Pillow, which decodes no other format here."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gcsam_med.config import Frames
from gcsam_med.images.picture import ImageFault, Picture, check_size, chosen_frames, grey_if_grey

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")

# A deep grey image is divided by the full scale of the smallest of these depths that holds its maximum,
# so that a 12-bit radiograph in a 16-bit file is neither black nor stretched to its own extremes.
BIT_DEPTHS = (8, 10, 12, 14, 16)
LARGEST_LABEL = 20  # a mask whose maximum is not above this is a map of label numbers, not a picture


def decode_raster(data: bytes, name: str, frames: Frames = "first") -> Iterator[Picture]:
    """Decode a picture to 8-bit grey or colour.

    Transparency is dropped, not blended. Greys deeper than 8 bits are mapped from 0 .. 2^b - 1 to 0 .. 255,
    where b is the smallest of 8, 10, 12, 14, 16 that holds the image's maximum. EXIF orientation is applied.
    A colour image whose three channels agree everywhere is grey. Pages of a TIFF are frames.

    Raises
    ------
    ImageFault
        If the file cannot be used.
    """
    with _opened(data, name) as image:
        kind, n_frames = str(image.format).lower(), int(getattr(image, "n_frames", 1))
    several = ("multi-frame",) if n_frames > 1 and frames != "all" else ()
    for frame in chosen_frames(frames, n_frames, name):
        with _opened(data, name) as image:
            pixels, notes = _page(image, frame, name)
        yield Picture(pixels=pixels, kind=kind, notes=notes + several, frame=frame, n_frames=n_frames)


def decode_raster_mask(data: bytes, name: str) -> np.ndarray:
    """Decode a mask of any mode to bool (H, W); see `gcsam_med.images.decode_mask`."""
    with _opened(data, name) as image:
        lossy = image.format == "JPEG"
        pixels, _ = _page(image, 0, name)
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    top = int(grey.max())
    if lossy:
        return grey > 127
    return grey > (0 if top <= LARGEST_LABEL else top / 2)


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """Open an image with every failure, also of later loading, turned into an `ImageFault`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is either refused below or harmless
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                check_size(*image.size, name)
                # Pillow stops decoding once all rows are there; flipped bits show in a PNG's checksums only.
                image.verify()
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                yield image
    except ImageFault:
        raise
    except UnidentifiedImageError:
        raise ImageFault(
            "not-an-image", name, "no image of a format that is read was found in the file."
        ) from None
    except (Image.DecompressionBombError, MemoryError):
        raise ImageFault("too-large", name, "the image would not fit into memory.") from None
    except Exception as error:
        # Decoders of damaged data raise nearly anything; the kind of error is all that is worth telling.
        early = "truncated" in str(error).lower() or isinstance(error, EOFError)
        reason, what = ("truncated", "the file ends early") if early else ("corrupt", "the data are damaged")
        detail = f"{what} ({type(error).__name__})."
        raise ImageFault(reason, name, detail, "Copy the file again from its source.") from None


def _page(image: Image.Image, frame: int, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """8-bit grey (H, W) or colour (H, W, 3) of one page, and notes."""
    if frame:
        image.seek(frame)
    check_size(*image.size, name)
    image.load()
    upright = ImageOps.exif_transpose(image)
    mode = upright.mode
    if mode.startswith("I"):
        return _from_deep(np.asarray(upright), name), ("deep-grey",)
    if mode == "F":
        raise ImageFault("float-pixels", name, "pixels are floating-point numbers of an unknown range.")
    if mode in ("1", "L"):
        return np.asarray(upright.convert("L")), ()
    if mode in ("LA", "La"):
        return np.asarray(upright.getchannel(0)), ("alpha-dropped",)
    if mode in ("RGBA", "RGBa", "RGBX"):
        return grey_if_grey(np.asarray(upright)[..., :3]), ("alpha-dropped",)
    return grey_if_grey(np.asarray(upright.convert("RGB"))), ()


def _from_deep(values: np.ndarray, name: str) -> np.ndarray:
    top, bottom = int(values.max()), int(values.min())
    if bottom < 0 or top >= 2**16:
        raise ImageFault("range", name, f"pixel values {bottom} to {top}; 0 to 65535 was expected.")
    bits = next(b for b in BIT_DEPTHS if top < 2**b)
    scaled = values.astype(np.float32) * np.float32(255.0 / (2**bits - 1))
    return np.rint(scaled).astype(np.uint8)
