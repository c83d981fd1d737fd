"""From a path or bytes to pixels: the reader is chosen by what the bytes are, not by the file's name."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from gcsam_med.config import Frames
from gcsam_med.images.dicom import decode_dicom, is_dicom
from gcsam_med.images.picture import MAX_FILE_BYTES, ImageFault, Picture
from gcsam_med.images.raster import MaskRule, decode_raster, decode_raster_mask
from gcsam_med.reading import open_plain

BY_ITSELF = MaskRule()
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2",
    ".pgm", ".ppm", ".dcm", ".dicom", ".ima",
)  # fmt: skip
# Files that come with images and are none; whatever else has a foreign name is looked into for DICOM.
OTHER_SUFFIXES = (
    ".csv",
    ".xlsx",
    ".xls",
    ".txt",
    ".json",
    ".xml",
    ".md",
    ".pdf",
    ".npy",
    ".npz",
    ".zip",
    ".html",
)


def find_images(folder: Path, *, nested: bool = True, leave_out: Path | None = None) -> list[Path]:
    """Image files in a folder, in natural order (2 before 10): by suffix, and DICOM by content.

    Scanners name DICOM files without a suffix, or by UIDs whose last number looks like one. Hidden files and
    folders are passed over, and what lies in `leave_out` (a command's own output).
    """
    found = []
    for path in folder.rglob("*") if nested else folder.glob("*"):
        inner = path.relative_to(folder)
        if any(part.startswith((".", "__MACOSX")) for part in inner.parts) or path.is_dir():
            continue
        if leave_out is not None and path.resolve().is_relative_to(leave_out.resolve()):
            continue
        if is_image_name(path.name) or (may_be_dicom(path.name) and _starts_as_dicom(path)):
            found.append(path)
    return sorted(found, key=lambda p: natural(p.as_posix()))


def is_image_name(name: str) -> bool:
    """Tell an image by its suffix."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def may_be_dicom(name: str) -> bool:
    """Tell whether to look into a file that has no image's name."""
    return not name.lower().endswith(OTHER_SUFFIXES)


def _starts_as_dicom(path: Path) -> bool:
    try:
        with open_plain(path) as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key by the numbers in a name, so that 2 comes before 10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))


def has_two_values(path: Path) -> bool:
    """Tell a picture with one or two values, as a mask has; False for what cannot be read."""
    try:
        grey = read_image(path).grey
    except ImageFault:
        return False
    return len(np.unique(grey)) <= 2


def read_image(path: Path, *, frame: Literal["first", "middle"] | int = "first") -> Picture:
    """Read one image of a file, 8-bit pixels with pixel spacing where the file tells it.

    `frame`, from 0, is which one of a multi-frame file.

    Raises
    ------
    ImageFault
        If the file cannot be used; ``reason`` says why.
    """
    return next(decode_frames(read_bytes(path), path.name, frame))


def read_frames(path: Path, frames: Frames = "all") -> Iterator[Picture]:
    """Read several frames of a file one after the other; see `read_image`."""
    return decode_frames(read_bytes(path), path.name, frames)


def decode_frames(
    data: bytes,
    name: str,
    frames: Frames = "first",
    identify: Callable[[str], str] | None = None,
    *,
    upright: bool = True,
) -> Iterator[Picture]:
    """Decode frames from a file's bytes, at least one; `name` is the file as the user knows it, for messages.

    `identify` turns a DICOM patient id into something safe to keep (a keyed hash); without it the id is not
    read. With `upright`, an EXIF mark turns a picture.

    Raises
    ------
    ImageFault
        If the file cannot be used.
    """
    if is_dicom(data, name):
        return decode_dicom(data, name, frames, identify)
    return decode_raster(data, name, frames, upright=upright)


def read_mask(path: Path) -> np.ndarray:
    """Read a mask file: bool, shape (H, W); see `decode_mask`."""
    return decode_mask(read_bytes(path), path.name)


def decode_mask(
    data: bytes, name: str, rule: MaskRule = BY_ITSELF, notes: list[str] | None = None
) -> np.ndarray:
    """Decode a mask from its file's bytes (`name` is the file, for messages): bool, shape (H, W).

    Foreground is what `rule` says. Without a rule, it is every number but 0 of a map of small label numbers
    (0, 1, 2, ...), and of a picture what is brighter than half of its maximum, so that greys from
    interpolation fall to the nearer side. Alpha does not count. `notes` is appended to: ``mask-labels`` where
    several numbers or colours were taken together.

    Raises
    ------
    ImageFault
        If the file cannot be used, or can be read in several ways. Reasons besides those of images:
        ``mask-format`` (DICOM), ``several-pages``, ``alpha``, ``levels``, ``not-a-mask``.
    """
    if is_dicom(data, name):
        raise ImageFault("mask-format", name, "a mask should be a PNG, TIFF, BMP or JPEG, but is DICOM.")
    return decode_raster_mask(data, name, rule, notes)


def read_bytes(path: Path) -> bytes:
    """Read a regular file of a sane size, without ever waiting on a pipe or device.

    Raises
    ------
    ImageFault
        Reasons ``missing``, ``not-a-file``, ``empty``, ``too-large``, ``unreadable``.
    """
    name = path.name
    try:
        with open_plain(path, MAX_FILE_BYTES) as file:
            data = file.read(os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise ImageFault("missing", name, "the file is not there.") from None
    except IsADirectoryError:
        raise ImageFault("not-a-file", name, "a regular file was expected, not a folder.") from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            detail = f"the file is too large; at most {MAX_FILE_BYTES // 2**20} MiB are read."
            raise ImageFault("too-large", name, detail) from None
        if error.errno in (errno.EINVAL, errno.ENXIO):
            detail = "a regular file was expected, not a pipe or device."
            raise ImageFault("not-a-file", name, detail) from None
        raise ImageFault("unreadable", name, f"the file cannot be read: {error.strerror}.") from None
    except ValueError:
        raise ImageFault("unreadable", name, "its name is not valid.") from None
    if not data:
        raise ImageFault("empty", name, "the file is empty (0 bytes).")
    return data
