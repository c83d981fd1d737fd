"""From a path or bytes to pixels: choose the reader by what the bytes are, not by the file's name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np

from gcsam_med.images.picture import MAX_FILE_BYTES, ImageFault, Picture
from gcsam_med.images.raster import decode_raster, decode_raster_mask

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm")


def read_image(path: Path) -> Picture:
    """Read an image file.

    Parameters
    ----------
    path : Path
        PNG, JPEG, TIFF, BMP or DICOM.

    Returns
    -------
    Picture
        8-bit pixels, with pixel spacing where the file tells it.

    Raises
    ------
    ImageFault
        If the file cannot be used; ``reason`` says why.
    """
    return decode_image(read_bytes(path), path.name)


def decode_image(data: bytes, name: str) -> Picture:
    """Decode an image from its file's bytes; see `read_image`."""
    return decode_raster(data, name)


def read_mask(path: Path) -> np.ndarray:
    """Read a mask file: bool, shape (H, W); see `decode_mask`."""
    return decode_mask(read_bytes(path), path.name)


def decode_mask(data: bytes, name: str) -> np.ndarray:
    """Decode a mask from its file's bytes.

    Parameters
    ----------
    data : bytes
        A PNG, JPEG, TIFF or BMP file of any mode.
    name : str
        The file, for messages.

    Returns
    -------
    ndarray of bool, shape (H, W)
        Foreground: brighter than half of the mask's range; alpha does not count.

    Raises
    ------
    ImageFault
        If the file cannot be used.
    """
    return decode_raster_mask(data, name)


def read_bytes(path: Path) -> bytes:
    """Read a regular file of a sane size, without ever waiting on a pipe or device.

    Raises
    ------
    ImageFault
        Reasons ``missing``, ``not-a-file``, ``empty``, ``too-large``, ``unreadable``.
    """
    name = path.name
    try:
        # Without O_NONBLOCK the opening of a FIFO would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ImageFault("missing", name, "the file is not there.") from None
    except OSError as error:
        raise ImageFault("unreadable", name, f"the file cannot be opened: {error.strerror}.") from None
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ImageFault("not-a-file", name, "a regular file was expected, not a folder, pipe or device.")
        if state.st_size == 0:
            raise ImageFault("empty", name, "the file is empty (0 bytes).")
        if state.st_size > MAX_FILE_BYTES:
            raise ImageFault(
                "too-large",
                name,
                f"the file has {state.st_size // 2**20} MiB; at most {MAX_FILE_BYTES // 2**20} are read.",
            )
        try:
            return file.read()
        except OSError as error:
            raise ImageFault("unreadable", name, f"the file cannot be read: {error.strerror}.") from None
