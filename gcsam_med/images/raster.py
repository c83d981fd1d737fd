"""Pictures of the usual formats through Pillow, which decodes no other format here."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gcsam_med.config import Frames
from gcsam_med.errors import InputError
from gcsam_med.images.picture import (
    BIT_DEPTHS,
    ImageFault,
    Picture,
    check_size,
    chosen_frames,
    grey_if_grey,
)
from gcsam_med.reading import open_image

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")

LARGEST_LABEL = 20  # a mask whose maximum is not above this is a map of label numbers, not a picture
MOST_LABELS = 64  # nor is one with every number from 0 to its maximum, below this
MOST_BETWEEN = 0.25  # share of pixels of a mask that may be neither dark nor bright
LEAST_LABEL_PIXELS, LEAST_LABEL_SHARE = 9, 5e-4
FEW_VALUES = 8  # a mask with no more values is no picture's: its darkest areas may be an object (0, 1, 255)
EXIF_ORIENTATION, TIFF_PHOTOMETRIC, MIN_IS_WHITE = 0x0112, 262, 0


@dataclass(frozen=True)
class MaskRule:
    """What is foreground in a mask file."""

    values: str = ""  #: Grey values ("1-255", "127,255") or "alpha"; empty: found by itself.
    invert: bool = False  #: Whether foreground and background change places.
    upright: bool = True  #: Whether an EXIF mark turns the mask.

    def numbers(self) -> list[int]:
        """The grey values that `values` lists."""
        found: list[int] = []
        for part in self.values.split(","):
            match = re.fullmatch(r" *(\d{1,3})(?: *- *(\d{1,3}))? *", part, re.ASCII)
            if match is None:
                raise InputError(
                    f"--mask-values takes grey values such as 255, 127,255 or 1-255, or alpha; not "
                    f"'{self.values}'."
                )
            found += range(int(match[1]), int(match[2] or match[1]) + 1)
        return found


def decode_raster(
    data: bytes, name: str, frames: Frames = "first", *, upright: bool = True
) -> Iterator[Picture]:
    """Decode a picture to 8-bit grey or colour.

    Transparency is dropped, not blended. Greys deeper than 8 bits are mapped from 0 .. 2^b - 1 to 0 .. 255,
    where b is the smallest of 8, 10, 12, 14, 16 that holds the image's maximum. EXIF orientation is applied
    if `upright`. A colour image whose three channels agree everywhere is grey. Pages of a TIFF are frames.

    Raises
    ------
    ImageFault
        If the file cannot be used.
    """
    with _opened(data, name) as image:
        kind, n_frames = str(image.format).lower(), int(getattr(image, "n_frames", 1))
        halved = _is_halved(image)
        turned = int(image.getexif().get(EXIF_ORIENTATION) or 1)
        wanted = chosen_frames(frames, n_frames, name)
        page = _page(image, wanted[0], name, upright=upright, halved=halved)
    several = ("multi-frame",) if n_frames > 1 and frames != "all" else ()
    for frame in wanted:
        if frame != wanted[0]:
            with _opened(data, name) as image:
                page = _page(image, frame, name, upright=upright, halved=halved)
        pixels, notes = page
        yield Picture(pixels, kind, notes=notes + several, frame=frame, n_frames=n_frames, turned=turned)


def raw_picture(values: np.ndarray, name: str, *, white_is_zero: bool = False) -> Picture:
    """Make a picture of values that come without a format: (H, W) or (H, W, 3), 8 or 16 bits.

    Values deeper than 8 bits are mapped as those of `decode_raster`; with `white_is_zero` they are turned
    round within that range.
    """
    check_size(values.shape[1], values.shape[0], name)
    deep = values.dtype.itemsize > 1
    pixels = _from_deep(values, name) if deep else values
    pixels = 255 - pixels if white_is_zero else pixels
    grey = pixels if pixels.ndim == 2 else grey_if_grey(pixels)
    return Picture(np.ascontiguousarray(grey), "raw", notes=("deep-grey",) if deep else ())


def decode_raster_mask(data: bytes, name: str, rule: MaskRule, notes: list[str] | None = None) -> np.ndarray:
    """Decode a mask of any mode to bool (H, W); see `gcsam_med.images.decode_mask`."""
    with _opened(data, name) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise ImageFault("several-pages", name, "a mask should be one picture, but has several pages.")
        lossy, halved = image.format in ("JPEG", "JPEG2000", "WEBP"), _is_halved(image)
        turned = ImageOps.exif_transpose(image) if rule.upright else image
        alpha = np.asarray(turned.getchannel("A")) if "A" in image.getbands() else None
        pixels, _ = _page(image, 0, name, upright=rule.upright, halved=halved)
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    if rule.values == "alpha":
        if alpha is None:
            raise ImageFault("no-alpha", name, "--mask-values alpha, but the mask has no transparency.")
        chosen = alpha > 127
    elif rule.values:
        chosen = np.isin(grey, rule.numbers())
    else:
        _check_mask(grey, alpha, name, lossy=lossy)
        top = int(grey.max())
        labels = not lossy and _are_labels(grey, top)
        chosen = grey > (127 if lossy else 0 if labels else top / 2)
        several = _n_values(grey) > 2 if labels else not lossy and _n_colours(pixels, chosen) > 1
        if notes is not None and several:
            notes.append("mask-labels")
    return ~chosen if rule.invert else chosen


def _are_labels(grey: np.ndarray, top: int) -> bool:
    """Tell a map of label numbers (0, 1, 2, ...) from a picture."""
    return top <= LARGEST_LABEL or (top < MOST_LABELS and _n_values(grey) == top + 1)


def _n_values(grey: np.ndarray) -> int:
    """How many different values a grey image of 8 bits has."""
    return int(np.count_nonzero(np.bincount(grey.ravel(), minlength=256)))


def _n_colours(pixels: np.ndarray, chosen: np.ndarray) -> int:
    """How many colours the foreground of a mask has; 1 of a grey one, whose edge may be smooth."""
    return 1 if pixels.ndim == 2 else len(np.unique(pixels[chosen], axis=0))


def _check_mask(grey: np.ndarray, alpha: np.ndarray | None, name: str, *, lossy: bool) -> None:
    """Refuse what can be a mask in several ways, or in none."""
    top = int(grey.max())
    if alpha is not None and grey.min() == top and alpha.min() < 128 <= alpha.max():
        said = "the mask has one colour; its outline is in the transparency."
        raise ImageFault("alpha", name, said, "--mask-values alpha takes it from there.")
    if top <= LARGEST_LABEL or _n_values(grey) <= 2 or _are_labels(grey, top):
        return
    between = (grey > 0.1 * top) & (grey < 0.9 * top)
    if between.mean() > MOST_BETWEEN:
        raise ImageFault(
            "not-a-mask",
            name,
            "it has many grey values, as a picture has; are images and masks swapped?",
            "--images GLOB and --masks GLOB say which is which.",
        )
    if lossy:
        return
    # Greys from interpolation change from pixel to pixel; a label is the same all around.
    from scipy.ndimage import maximum_filter, minimum_filter

    odd = (grey > 0) & (grey < 0.9 * top) if _n_values(grey) <= FEW_VALUES else between
    flat = odd & (maximum_filter(grey, 3) == minimum_filter(grey, 3))
    if flat.sum() >= max(LEAST_LABEL_PIXELS, LEAST_LABEL_SHARE * grey.size):
        levels = [0, *np.unique(grey[flat]).tolist()[:4], top]
        raise ImageFault(
            "levels",
            name,
            f"areas of the grey values {', '.join(map(str, levels))}; which of them are foreground?",
            f"--mask-values 1-{top} takes all but 0, --mask-values {top} only the brightest, --mask-values "
            f"{levels[1]} only those.",
        )


def orientation(data: bytes) -> int:
    """The EXIF orientation of a picture that can be read: 1 (or absent) is upright."""
    with open_image(io.BytesIO(data), FORMATS) as image:
        return int(image.getexif().get(EXIF_ORIENTATION) or 1)


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """Open an image with every failure, also of later loading, turned into an `ImageFault`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is either refused below or harmless
            with open_image(io.BytesIO(data), FORMATS) as image:
                check_size(*image.size, name)
                # Pillow stops decoding once all rows are there; flipped bits show in a PNG's checksums only.
                image.verify()
            with open_image(io.BytesIO(data), FORMATS) as image:
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


def _is_halved(image: Image.Image) -> bool:
    """Whether Pillow will keep only the upper half of 16-bit colours; to be asked before it loads any."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _page(
    image: Image.Image, frame: int, name: str, *, upright: bool, halved: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """8-bit grey (H, W) or colour (H, W, 3) of one page, and notes."""
    if frame:
        image.seek(frame)
    check_size(*image.size, name)
    image.load()
    seen = ImageOps.exif_transpose(image) if upright else image
    mode = seen.mode
    if mode.startswith("I"):
        values = np.asarray(seen)
        if getattr(image, "tag_v2", {}).get(TIFF_PHOTOMETRIC) == MIN_IS_WHITE:  # Pillow inverts 8 bits only
            values = 2**16 - 1 - values.astype(np.int32)
        return _from_deep(values, name), ("deep-grey",)
    if mode == "F":
        raise ImageFault("float-pixels", name, "pixels are floating-point numbers of an unknown range.")
    if mode in ("1", "L"):
        return np.asarray(seen.convert("L")), ()
    if mode in ("LA", "La"):
        return np.asarray(seen.getchannel(0)), ("alpha-dropped",)
    alpha = mode in ("RGBA", "RGBa", "RGBX")
    colour = np.asarray(seen)[..., :3] if alpha else np.asarray(seen.convert("RGB"))
    if halved and colour.max() < 2 ** (BIT_DEPTHS[-2] - 8):
        # Pillow keeps the upper half of each 16-bit word: a picture of 12 bits would be nearly black.
        raise ImageFault(
            "deep-colour",
            name,
            f"of the 16 bits of each colour only the lowest {8 + int(colour.max()).bit_length()} are used.",
            "Save it with 8 bits a colour, or as 16-bit grey.",
        )
    return grey_if_grey(colour), ("alpha-dropped",) if alpha else ()


def _from_deep(values: np.ndarray, name: str) -> np.ndarray:
    top, bottom = int(values.max()), int(values.min())
    if bottom < 0 or top >= 2**16:
        raise ImageFault("range", name, f"pixel values {bottom} to {top}; 0 to 65535 was expected.")
    bits = next(b for b in BIT_DEPTHS if top < 2**b)
    scaled = values.astype(np.float32) * np.float32(255.0 / (2**bits - 1))
    return np.rint(scaled).astype(np.uint8)
