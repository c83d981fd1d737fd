"""Read every case of a source once, in several processes: decode, hash, measure, letterbox."""

from __future__ import annotations

import hashlib
import io
import math
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from gcsam_med.datasets import Case
from gcsam_med.datasets.case import MaskSize
from gcsam_med.devices import usable_cores
from gcsam_med.errors import Fault
from gcsam_med.images import (
    Frames,
    ImageFault,
    MaskRule,
    Picture,
    decode_frames,
    decode_mask,
    orientation,
    raw_picture,
    read_bytes,
)
from gcsam_med.metrics.regions import MIN_SHARE, specks
from gcsam_med.pools import processes
from gcsam_med.preparation.marks import find_marks, inpaint
from gcsam_med.preparation.privacy import keyed_id, patient_id
from gcsam_med.reading import open_plain
from gcsam_med.transforms.letterbox import Letterbox

EMPTY_HINT = " --empty-masks healthy takes such images as normal."
THUMB = 128  # side of the thumbnails on which pairs are compared
COLOUR_SPREAD = 32  # grey levels between channels from which a pixel counts as coloured


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Perceptual hashes of an image and of its mirror image."""

    #: dhash, phash, dhash_mirrored, phash_mirrored: 64 bits each: gradient hash and DCT hash as in the
    #: imagehash library.
    dhash: int
    phash: int
    dhash_mirrored: int
    phash_mirrored: int


def fingerprint(grey: np.ndarray) -> Fingerprint:
    """Hash a grey image, uint8 (H, W)."""
    import imagehash

    image = Image.fromarray(grey)
    # The library's own first steps, done once for the image and its mirror image.
    small, middle = (image.resize(size, Image.Resampling.LANCZOS) for size in ((9, 8), (32, 32)))
    flip = Image.Transpose.FLIP_LEFT_RIGHT
    return Fingerprint(
        _bits(imagehash.dhash(small).hash),
        _bits(imagehash.phash(middle).hash),
        _bits(imagehash.dhash(small.transpose(flip)).hash),
        _bits(imagehash.phash(middle.transpose(flip)).hash),
    )


def _bits(flags: np.ndarray) -> int:
    return int.from_bytes(np.packbits(flags.ravel()).tobytes(), "big")


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """Squeeze a grey image, uint8 (H, W), into uint8 (128, 128) whatever its aspect ratio."""
    return np.asarray(Image.fromarray(grey).resize((THUMB, THUMB), Image.Resampling.BOX))


def statistics(pixels: np.ndarray, grey: np.ndarray, mask: np.ndarray | None, marks: int) -> dict[str, float]:
    """Numbers that tell an unusual image or mask from the rest.

    ``mean``, ``sd`` (0..255), ``black``, ``white``, ``colour`` (fractions of pixels), ``marks`` (the count of
    characters and calipers), and with a mask ``mask_fraction``, ``mask_parts``, ``mask_specks``,
    ``mask_at_edge``.
    """
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    total, levels = counts.sum(), np.arange(256)
    mean = float((counts * levels).sum() / total)
    values = {
        "mean": mean,
        "sd": float(np.sqrt((counts * (levels - mean) ** 2).sum() / total)),
        "black": float(counts[:8].sum() / total),
        "white": float(counts[250:].sum() / total),
        "colour": colour_fraction(pixels),
        "marks": float(marks),
    }
    if mask is not None:
        values |= _mask_statistics(mask)
    return values


def colour_fraction(pixels: np.ndarray) -> float:
    """Fraction of pixels whose channels differ by more than a compression artefact explains."""
    if pixels.ndim == 2:
        return 0.0
    red, green, blue = (pixels[..., i] for i in range(3))
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return float((spread > COLOUR_SPREAD).mean())


def _mask_statistics(mask: np.ndarray) -> dict[str, float]:
    from scipy import ndimage

    small = mask[:: max(1, mask.shape[0] // 512), :: max(1, mask.shape[1] // 512)]
    edge = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    return {
        "mask_fraction": float(mask.mean()),
        "mask_parts": float(ndimage.label(small)[1]),
        "mask_specks": float(specks(mask, MIN_SHARE * mask.size)),
        "mask_at_edge": float(edge),
        "mask_corners": float(mask[0, 0] and mask[0, -1] and mask[-1, 0] and mask[-1, -1]),
    }


# Below this number of cases starting processes costs more than it gains.
POOL_FROM = 64
CHUNK = 4  # cases a task: sending a task costs about as much as reading a tiny picture


@dataclass(frozen=True)
class ScanJob:
    """What a reading process needs to know apart from the case."""

    root: Path  #: Folder that the cases' paths are relative to.
    size: int  #: Side of the letterboxed image.
    channels: int  #: 1 or 3.
    empty_mask_classes: tuple[str, ...] = ()  #: Classes whose masks may be empty.
    #: {"refuse", "resize"}: What to do with masks of another size than their image.
    mask_size: MaskSize = "refuse"
    frames: Frames = "first"  #: Which frames of multi-frame files.
    rule: MaskRule = field(default_factory=MaskRule)  #: What is foreground in a mask file.
    empty_masks: Literal["refuse", "healthy"] = "refuse"  #: Of images without a class.
    exif: Literal["refuse", "apply", "ignore"] = "refuse"  #: Where image and mask are turned otherwise.
    inpaint: bool = False  #: Whether text and calipers are painted over in grey images.
    key: bytes | None = None  #: Key for ids of private sources; None for public ones.


@dataclass(frozen=True, slots=True)
class Facts:
    """What is kept in memory of one case: everything but pixels."""

    case: Case  #: As listed.
    case_id: str  #: Safe to print.
    patient: str  #: Safe to print; empty where not known.
    #: height, width: Original size.
    height: int
    width: int
    spacing: tuple[float, float] | None  #: Millimetres (row, column).
    has_mask: bool  #: Whether the case has mask files.
    #: source_sha256, mask_sha256: Of the files' bytes.
    source_sha256: str
    mask_sha256: str
    mask_files: tuple[str, ...]  #: SHA-256 of each mask file.
    pixel_sha256: str  #: Of the decoded pixels: equal for exact duplicates whatever the file format.
    fingerprint: Fingerprint  #: Perceptual hashes.
    statistics: dict[str, float]  #: See `gcsam_med.preparation.scan.statistics`.
    attributes: dict[str, str]  #: Subgroups: those of the listing and technical DICOM tags.
    notes: tuple[str, ...]  #: From reading.


@dataclass(frozen=True)
class Scanned:
    """One case, read: its facts and its pixels."""

    facts: Facts  #: What is kept.
    image: np.ndarray  #: Letterboxed: (size, size) or (size, size, 3).
    original: np.ndarray | None  #: As `image`, before marks were painted over; None where they are left.
    mask: np.ndarray | None  #: Letterboxed: (size, size), 0 or 1.
    mask_png: bytes  #: The mask at its original resolution, 1-bit PNG; empty without a mask.
    thumb: np.ndarray  #: (128, 128), for comparing pairs.


Result = list[Scanned] | list[Fault]


def scan(cases: Sequence[Case], job: ScanJob, workers: int | None = None) -> Iterator[Result]:
    """Read cases in order; each gives its images (several for frames), or its faults instead.

    `workers` is the number of processes; default: one a core, none for few cases.
    """
    count = workers if workers is not None else usable_cores()
    if count <= 1 or len(cases) < POOL_FROM:
        yield from (scan_case(case, job) for case in cases)
        return
    chunks = [cases[i : i + CHUNK] for i in range(0, len(cases), CHUNK)]
    results = (result for chunk in _in_order(chunks, job, count) for result in chunk)
    yield from (_settled(result, case) for result, case in zip(results, cases, strict=True))


def _settled(result: Result, case: Case) -> Result:
    """Share what all cases have, of which another process sent copies: the listing, the names of numbers."""
    return [  # type: ignore[return-value]
        item
        if isinstance(item, Fault)
        else replace(
            item,
            facts=replace(
                item.facts,
                case=case,
                statistics={sys.intern(name): value for name, value in item.facts.statistics.items()},
            ),
        )
        for item in result
    ]


def _in_order(chunks: Sequence[Sequence[Case]], job: ScanJob, count: int) -> Iterator[list[Result]]:
    """Results in order with few tasks under way, so that memory stays flat.

    Where a decoder takes its process down with it, the cases at hand are read again one by one, so that the
    bad file is named and the others are kept.
    """
    left = deque(chunks)
    while left:
        with processes(count) as pool:
            pending: deque[tuple[Sequence[Case], Future[list[Result]]]] = deque()
            try:
                while left or pending:
                    while left and len(pending) < 4 * count:
                        pending.append((left[0], pool.submit(_scan_chunk, left[0], job)))
                        left.popleft()
                    results = pending[0][1].result()
                    pending.popleft()
                    yield results
                return
            except BrokenProcessPool:
                chunk = pending.popleft()[0] if pending else left.popleft()
                left.extendleft(again for again, _ in reversed(pending))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        yield _one_by_one(chunk, job)


def _one_by_one(cases: Sequence[Case], job: ScanJob) -> list[Result]:
    """Read cases in one process, and in a new one after a crash."""
    results: list[Result] = []
    while len(results) < len(cases):
        with processes(1) as pool:
            try:
                for case in cases[len(results) :]:
                    results.append(pool.submit(scan_case, case, job).result())
            except BrokenProcessPool:
                reason = "reading it crashed the decoder or ran out of memory."
                results.append([Fault(cases[len(results)].image, "crash", reason)])
    return results


def _scan_chunk(cases: Sequence[Case], job: ScanJob) -> list[Result]:
    return [scan_case(case, job) for case in cases]


def scan_case(case: Case, job: ScanJob) -> Result:
    """Read one case, or name everything that is wrong with it."""
    faults: list[Fault] = []
    pictures: list[Picture] = []
    source_sha256 = ""
    try:
        pictures, source_sha256 = _pictures(case, job)
    except ImageFault as fault:
        faults.append(Fault(case.image, fault.reason, f"{fault.detail} {fault.advice}".strip()))
    sizes = {p.pixels.shape[:2] for p in pictures}
    size = sizes.pop() if len(sizes) == 1 else None
    notes: list[str] = []
    union, digests, mask_faults = _mask_union(case, job, size, pictures[0].turned if pictures else 1, notes)
    faults += mask_faults
    healthy = case.label in job.empty_mask_classes or (job.empty_masks == "healthy" and not case.label)
    if union is not None and not union.any() and not healthy and not faults:
        what = f"the mask of a '{case.label}' image" if case.label else "the mask"
        hint = "" if case.label else EMPTY_HINT
        faults.append(Fault((*case.masks, case.image)[0], "empty-mask", f"{what} is empty.{hint}"))
    faults += [found for picture in pictures if (found := _picture_fault(case, job, picture))]
    if faults:
        return faults
    said = tuple(dict.fromkeys(notes))
    return [
        _scanned(case, job, replace(picture, notes=picture.notes + said), union, source_sha256, digests)
        for picture in pictures
    ]


def _pictures(case: Case, job: ScanJob) -> tuple[list[Picture], str]:
    """The case's images (several for frames) and the hash of their bytes."""
    path = job.root / case.image
    if case.raw is not None:
        raw, size = case.raw, math.prod(case.raw.shape) * np.dtype(case.raw.dtype).itemsize
        with open_plain(path) as file:
            file.seek(raw.offset)
            data = file.read(size)
        if len(data) != size:
            raise ImageFault("truncated", case.image, "the file ends before the image does.")
        values = np.frombuffer(data, dtype=raw.dtype).reshape(raw.shape)
        values = values.transpose(1, 2, 0) if raw.planar else values
        picture = raw_picture(values, case.image, white_is_zero=raw.white_is_zero)
        return [picture], hashlib.sha256(data).hexdigest()
    data = read_inside(job.root, case.image)
    frames = decode_frames(
        data, case.image, job.frames, partial(patient_id, job.key), upright=job.exif != "ignore"
    )
    pictures = list(frames)
    return pictures, hashlib.sha256(data).hexdigest()


def read_inside(root: Path, relative: str) -> bytes:
    """Read a file of the source; a link may not lead out of it, whatever lists the files."""
    path = root / relative
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise ImageFault("outside", relative, "a link that leads out of the source.")
    return read_bytes(path)


def _mask_union(
    case: Case, job: ScanJob, expected: tuple[int, int] | None, turned: int, notes: list[str]
) -> tuple[np.ndarray | None, tuple[str, ...], list[Fault]]:
    """Union of the case's masks, the hash of each file, and what is wrong with them."""
    if case.runs is not None:
        return _from_runs(case, expected)
    union: np.ndarray | None = None
    digests: list[str] = []
    faults: list[Fault] = []
    for path in case.masks:
        try:
            data = read_inside(job.root, path)
            digests.append(hashlib.sha256(data).hexdigest())
            mask = decode_mask(data, path, job.rule, notes)
            if job.exif == "refuse" and turned != orientation(data):
                raise ImageFault(
                    "rotated",
                    path,
                    "EXIF orientation turns the image, but not its mask in the same way.",
                    "--exif apply if the mask fits the turned image, --exif ignore if the image as it is "
                    "stored.",
                )
            if expected is not None and mask.shape != expected:
                mask = _fit(mask, expected, path, job.mask_size)
            union = mask if union is None else union | mask
        except ImageFault as fault:
            faults.append(Fault(path, fault.reason, f"{fault.detail} {fault.advice}".strip()))
    return union, tuple(digests), faults


def _from_runs(
    case: Case, size: tuple[int, int] | None
) -> tuple[np.ndarray | None, tuple[str, ...], list[Fault]]:
    """Draw a mask from its run lengths; also their hash, and what is wrong with them."""
    if size is None:
        return None, (), []
    union = np.zeros(math.prod(size), dtype=bool)
    digests = (hashlib.sha256(repr(case.runs).encode()).hexdigest(),)
    for text in case.runs or ():
        words = text.split()
        steps = np.array(words if all(map(str.isdecimal, words)) else [-1]).astype(np.int64)
        if len(steps) % 2 or (steps < 0).any() or steps.sum() > len(union):
            said = f"its run lengths are no mask of {size[1]} x {size[0]} pixels."
            return None, digests, [Fault(case.image, "bad-runs", said)]
        inside = np.repeat(np.arange(len(steps)) % 2 == 1, steps)
        union[: len(inside)] |= inside
    return np.ascontiguousarray(union.reshape(size[::-1]).T), digests, []


def _fit(mask: np.ndarray, expected: tuple[int, int], path: str, policy: MaskSize) -> np.ndarray:
    (height, width), found = expected, mask.shape
    same_shape = abs(found[0] * width - found[1] * height) <= 0.02 * found[0] * width
    if policy == "refuse" or not same_shape:
        detail = f"the mask has {found[1]} x {found[0]} pixels, its image {width} x {height}."
        hint = " --mask-size resize brings masks of the same aspect ratio to their image's size."
        raise ImageFault("size-differs", path, detail + (hint if same_shape else ""))
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(grey) >= 128


def _picture_fault(case: Case, job: ScanJob, picture: Picture) -> Fault | None:
    """Find masks that are given as images."""
    low, high = int(picture.pixels.min()), int(picture.pixels.max())
    if job.channels == 3 or high - low < 128 or case.raw is not None:
        return None
    if np.isin(picture.pixels, (low, high)).all():
        said = "it has two values only, as a mask has. --masks GLOB or --mask-suffix says what is a mask."
        return Fault(case.image, "two-valued", said)
    return None


def _scanned(
    case: Case,
    job: ScanJob,
    picture: Picture,
    mask: np.ndarray | None,
    source_sha256: str,
    mask_digests: tuple[str, ...],
) -> Scanned:
    grey = picture.grey
    pixels = grey if job.channels == 1 else picture.pixels
    if job.channels == 3 and pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    height, width = grey.shape
    letterbox = Letterbox(height, width, job.size)
    n_marks, marks = find_marks(grey)
    original = letterbox.place_image(pixels) if job.inpaint else None
    if job.inpaint and n_marks and job.channels == 1:
        pixels = inpaint(grey, marks)
    case_id, patient = case.name, case.patient
    if job.key is not None:
        case_id = keyed_id(job.key, "case", case_id)
        patient = patient_id(job.key, patient)
    elif picture.patient:  # a published set's DICOM knows better than its list or its file names
        patient = picture.patient
    several = picture.n_frames > 1 and job.frames == "all"
    content = f"{height}x{width}:".encode() + (picture.pixels if job.channels == 3 else grey).tobytes()
    facts = Facts(
        case=case,
        case_id=f"{case_id}-f{picture.frame:04d}" if several else case_id,
        # All frames of a file show one patient, whoever that is.
        patient=patient or picture.patient or (case_id if several else ""),
        height=height,
        width=width,
        spacing=picture.spacing or case.spacing,
        has_mask=mask is not None,
        source_sha256=source_sha256,
        mask_sha256=_together(mask_digests),
        mask_files=mask_digests if case.masks else (),
        pixel_sha256=hashlib.sha256(content).hexdigest(),
        fingerprint=fingerprint(grey),
        statistics=statistics(picture.pixels, grey, mask, n_marks),
        attributes={**_device(picture), **case.attributes},
        notes=picture.notes + (("single-valued",) if grey.min() == grey.max() else ()),
    )
    return Scanned(
        facts=facts,
        image=letterbox.place_image(pixels),
        original=original,
        mask=None if mask is None else letterbox.place_mask(mask),
        mask_png=b"" if mask is None else _png(mask),
        thumb=thumbnail(grey),
    )


def _together(digests: tuple[str, ...]) -> str:
    """One hash of several; empty of none."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest() if digests else ""


def _device(picture: Picture) -> dict[str, str]:
    """Subgroup of a DICOM image: which machine made it."""
    parts = (picture.tags.get("Manufacturer", ""), picture.tags.get("ManufacturerModelName", ""))
    device = " ".join(part for part in parts if part)
    return {"device": device} if device else {}


def _png(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG")
    return buffer.getvalue()
