"""Read every case of a source once, in several processes: decode, hash, place into the square."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from gcsam_med.datasets import Case
from gcsam_med.errors import Fault
from gcsam_med.geometry import Geometry
from gcsam_med.images import ImageFault, decode_image, decode_mask
from gcsam_med.images.picture import to_grey
from gcsam_med.images.read import read_bytes

T = TypeVar("T")
R = TypeVar("R")

# Below this number of cases starting processes costs more than it gains.
POOL_FROM = 48


@dataclass(frozen=True)
class ScanJob:
    """What a reading process needs to know apart from the case.

    Parameters
    ----------
    root : Path
        Folder that the cases' paths are relative to.
    size : int
        Side of the square.
    channels : int
        1 or 3.
    negative_classes : tuple of str
        Classes whose masks may be empty.
    """

    root: Path
    size: int
    channels: int
    negative_classes: tuple[str, ...]


@dataclass(frozen=True)
class Scanned:
    """One case, read.

    Parameters
    ----------
    case : Case
        As listed.
    square : ndarray of uint8
        (size, size) or (size, size, 3).
    mask_square : ndarray of uint8 or None
        (size, size), 0 or 1.
    mask_png : bytes
        The mask at its original resolution, 1-bit PNG; empty without a mask.
    height, width : int
        Original size.
    spacing : tuple of float or None
        Millimetres (row, column).
    source_sha256, mask_sha256 : str
        Of the files' bytes.
    pixel_sha256 : str
        Of the decoded pixels: equal for exact duplicates whatever the file format.
    """

    case: Case
    square: np.ndarray
    mask_square: np.ndarray | None
    mask_png: bytes
    height: int
    width: int
    spacing: tuple[float, float] | None
    source_sha256: str
    mask_sha256: str
    pixel_sha256: str


def scan(cases: Sequence[Case], job: ScanJob, workers: int | None = None) -> Iterator[Scanned | list[Fault]]:
    """Read cases in order; a bad one gives its faults instead.

    Parameters
    ----------
    cases : sequence of Case
        What to read.
    job : ScanJob
        How.
    workers : int, optional
        Processes; default: one a core, none for few cases.
    """
    count = workers if workers is not None else (os.cpu_count() or 1)
    if count <= 1 or len(cases) < POOL_FROM:
        yield from (scan_case(case, job) for case in cases)
        return
    # Not fork: the caller may have threads (progress bars, torch) that a forked child inherits half alive.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        yield from _in_order(pool, lambda case: pool.submit(scan_case, case, job), cases, window=4 * count)


def _in_order(
    pool: ProcessPoolExecutor, submit: Callable[[T], Future[R]], items: Iterable[T], window: int
) -> Iterator[R]:
    """Results in order of `items` with at most `window` under way, so that memory stays flat."""
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(submit(item))
            if len(pending) >= window:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def scan_case(case: Case, job: ScanJob) -> Scanned | list[Fault]:
    """Read one case, or name everything that is wrong with it."""
    faults: list[Fault] = []
    picture, source_sha256 = None, ""
    try:
        data = read_bytes(job.root / case.image)
        source_sha256 = hashlib.sha256(data).hexdigest()
        picture = decode_image(data, case.image)
    except ImageFault as fault:
        faults.append(Fault(case.image, fault.reason, fault.detail))
    union, digest = None, hashlib.sha256()
    for path in case.masks:
        try:
            data = read_bytes(job.root / path)
            digest.update(hashlib.sha256(data).digest())
            mask = decode_mask(data, path)
            expected = picture.pixels.shape[:2] if picture is not None else mask.shape
            if mask.shape != expected:
                raise ImageFault("size-differs", path, _size_differs(mask.shape, expected))
            union = mask if union is None else union | mask
        except ImageFault as fault:
            faults.append(Fault(path, fault.reason, fault.detail))
    if union is not None and not union.any() and case.label not in job.negative_classes and not faults:
        faults.append(
            Fault(case.masks[0], "empty-mask", f"the mask of a {case.label or 'lesion'} image is empty.")
        )
    if faults or picture is None:
        return faults
    pixels = picture.pixels if job.channels == 3 else picture.grey
    if job.channels == 3 and pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    height, width = pixels.shape[:2]
    geometry = Geometry(height, width, job.size)
    return Scanned(
        case=case,
        square=geometry.place_image(pixels),
        mask_square=None if union is None else geometry.place_mask(union),
        mask_png=b"" if union is None else _png(union),
        height=height,
        width=width,
        spacing=picture.spacing,
        source_sha256=source_sha256,
        mask_sha256=digest.hexdigest() if case.masks else "",
        pixel_sha256=hashlib.sha256(
            repr(picture.pixels.shape).encode() + to_grey(pixels).tobytes()
        ).hexdigest(),
    )


def _size_differs(found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    return f"the mask has {found[1]} x {found[0]} pixels, its image {expected[1]} x {expected[0]}."


def _png(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG")
    return buffer.getvalue()
