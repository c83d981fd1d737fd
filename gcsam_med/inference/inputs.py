"""From the command's arguments to images ready for the network.

Files, folders, patterns and .zip archives are searched for images; each gets a name of its own, is decoded,
letterboxed to the network's size and compared with the training images.
"""

from __future__ import annotations

import glob
import hashlib
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from gcsam_med.datasets import DATASETS
from gcsam_med.errors import InputError
from gcsam_med.images import (
    IMAGE_SUFFIXES,
    Frames,
    ImageFault,
    Picture,
    decode_frames,
    find_images,
    read_bytes,
)
from gcsam_med.images.picture import MAX_FILE_BYTES, to_grey
from gcsam_med.images.read import is_image_name, may_be_dicom
from gcsam_med.reading import open_plain
from gcsam_med.runs.references import image_statistics
from gcsam_med.transforms.letterbox import Letterbox

if TYPE_CHECKING:
    from gcsam_med.inference.ensemble import Ensemble
    from gcsam_med.runs import ModelCard

ARCHIVE_SUFFIX = ".zip"
MAX_NAME = 120
# Grey images hold a few coloured pixels of overlays and marks; above this share an image is flagged.
COLOURED = 0.2
# Images have more pixels between black and white than this share; masks have none but for compression.
MASK_LIKE = 0.005
UNLIKE, OTHER_ANATOMY = "unlike the training images", "another modality or body part"
KINDS = {"ultrasound": "ultrasound images", "xray": "X-ray images", "photo": "photographs"}
# DICOM's words that agree with a model (Modality, PS3.3 C.7.3.1.1.1; parts of Body Part Examined), and words
# that say nothing.
MODALITIES = {"ultrasound": ("US",), "xray": ("CR", "DX", "RG")}
BODY_PARTS = {"breast": ("BREAST", "MAMM"), "lung": ("CHEST", "LUNG", "THORAX")}
UNSAID = frozenset({"", "OT", "SC", "OTHER", "UNKNOWN"})
PREDICTIONS, MASKS, OVERLAYS = "predictions.csv", "masks", "overlays"  # what predict writes
_DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{i}" for kind in ("com", "lpt") for i in range(1, 10))}


@dataclass(frozen=True)
class Input:
    """One image to predict."""

    label: str  #: How the user knows it: a path, or ``archive.zip/member``.
    name: str  #: Stem of its output files; of no other input's, in upper or lower case.
    key: str  #: Hash of path, size and time: changes when the file does.
    load: Callable[[], bytes]  #: Gives the file's bytes, or raises `ImageFault`.


@dataclass(frozen=True)
class Inputs:
    """All images to predict."""

    items: tuple[Input, ...]  #: In a fixed order.
    renamed: int  #: How many share their stem with another and were given longer names.


@dataclass(frozen=True)
class DecodedImage:
    """An image on its way through the network."""

    item: Input  #: Where it comes from.
    pixels: np.ndarray  #: uint8, shape (H, W) or (H, W, 3): the original.
    letterboxed: np.ndarray  #: uint8, shape (size, size) or (size, size, 3): what the network sees.
    geometry: Letterbox  #: Where the original lies in the letterbox.
    spacing: tuple[float, float] | None  #: Row and column in mm.
    notes: tuple[str, ...] = ()  #: How it was read.
    flags: tuple[str, ...] = ()  #: How it differs from the training images.
    unlikeness: float | None = None  #: Distance from the training images over the limit; above 1 is flagged.


@dataclass(frozen=True)
class _Found:
    label: str
    inner: PurePosixPath  # path below what was given: makes the name unique where the stem is not
    key: str
    load: Callable[[], bytes]


def find_inputs(arguments: Sequence[str | Path], output: Path | None = None) -> Inputs:
    """Find the images in files, folders (hidden ones left out), patterns (``scans/*.png``) and archives.

    A file that was given twice is taken once; what lies in `output` is not taken from a folder.

    Raises
    ------
    InputError
        If an argument matches nothing, or no image is found at all.
    """
    found: dict[str, _Found] = {}
    for argument in arguments:
        for item in _expand(str(argument), output):
            found.setdefault(item.key, item)
    if not found:
        raise InputError(
            f"No images were found in: {', '.join(map(str, arguments))}.",
            f"Give files, folders, patterns or .zip archives with {', '.join(IMAGE_SUFFIXES)} files.",
        )
    return _name(list(found.values()))


def find_input(label: str) -> tuple[Input, int]:
    """Find the input that a row of ``predictions.csv`` names, and its frame.

    Raises
    ------
    InputError
        If it is not where it was.
    """
    path, frame = Path(label), 0
    numbered = re.fullmatch(r"(.+)#(\d{1,6})", label, re.DOTALL)
    if numbered and not path.exists():
        label, frame = numbered[1], int(numbered[2])
        path = Path(label)
    archives = [p for p in path.parents if p.suffix.lower() == ARCHIVE_SUFFIX and p.is_file()]
    for place in [path] if path.is_file() else archives:
        for item in find_inputs([place]).items:
            if item.label == label:
                return item, frame
    raise InputError("The image is not where it was when it was predicted.", "Put it back, or predict again.")


def _expand(argument: str, output: Path | None) -> Iterator[_Found]:
    path = Path(argument)
    if path.is_dir():
        yield from _walk(path, output)
    elif path.exists() or not any(c in argument for c in "*?["):
        if not path.exists():
            raise InputError(f"There is no file or folder {argument}.", "Check the spelling and the folder.")
        yield from _open(path, PurePosixPath(path.name))
    else:
        # Unlike Path.glob this one passes over hidden files, as a shell does.
        matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207
        if not matches:
            raise InputError(f"The pattern '{argument}' matches no file.", "Check it, or give a folder.")
        for match in matches:
            if match.is_dir():
                yield from _walk(match, output)
            else:
                yield from _open(match, PurePosixPath(match.as_posix().lstrip("/")))


def _walk(folder: Path, output: Path | None) -> Iterator[_Found]:
    """Search a folder for images and archives; what predict wrote, now or before, is no input."""
    archives = (p for p in folder.rglob("*") if p.name.lower().endswith(ARCHIVE_SUFFIX) and p.is_file())
    written = [p.parent for p in folder.rglob(PREDICTIONS) if (p.parent / MASKS).is_dir()]
    for path in sorted({*find_images(folder, leave_out=output), *archives}):
        inner = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inner.parts)
        if path.is_file() and not hidden and not any(path.is_relative_to(place) for place in written):
            yield from _open(path, PurePosixPath(folder.name, *inner.parts))


def _open(path: Path, inner: PurePosixPath) -> Iterator[_Found]:
    if path.suffix.lower() == ARCHIVE_SUFFIX and _is_zip(path):
        yield from _members(path)
        return
    state = path.stat()
    key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"
    yield _Found(_text(path), inner, key, lambda: read_bytes(path))


def _is_zip(path: Path) -> bool:
    try:
        with open_plain(path) as file:
            return zipfile.is_zipfile(file)
    except OSError:
        return False


def _text(path: Path) -> str:
    """The path as text that any file takes: bytes of a name that are none are shown as such."""
    return str(path).encode(errors="backslashreplace").decode()


def _members(path: Path) -> Iterator[_Found]:
    """List an archive's images. Nothing is unpacked to disk, so no member's name can lead anywhere."""
    state = path.stat()
    try:
        with open_plain(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise InputError(f"{path} is not a valid .zip archive: {error}.") from error
    for member in sorted(members, key=lambda m: m.filename):
        inner = PurePosixPath(member.filename.replace("\\", "/"))
        if member.is_dir() or not (is_image_name(inner.name) or _member_is_dicom(path, member)):
            continue
        if any(part.startswith((".", "__MACOSX")) and part != ".." for part in inner.parts):
            continue
        key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{member.filename}|{member.CRC}"
        yield _Found(
            f"{path}/{member.filename}", PurePosixPath(path.stem) / inner, key, _member_loader(path, member)
        )


def _member_is_dicom(path: Path, member: zipfile.ZipInfo) -> bool:
    if not may_be_dicom(member.filename):
        return False
    try:
        with open_plain(path) as whole, zipfile.ZipFile(whole) as archive, archive.open(member) as file:
            return file.read(132)[128:] == b"DICM"
    except (OSError, RuntimeError, NotImplementedError, EOFError, ValueError, zipfile.BadZipFile):
        return False


def _member_loader(path: Path, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    name = PurePosixPath(member.filename).name

    def load() -> bytes:
        if member.file_size > MAX_FILE_BYTES:
            raise ImageFault("too-large", name, f"more than {MAX_FILE_BYTES // 2**20} MiB when unpacked.")
        try:
            with open_plain(path) as whole, zipfile.ZipFile(whole) as archive, archive.open(member) as file:
                # What the archive says of a member's size need not be true.
                data = file.read(MAX_FILE_BYTES + 1)
        except (OSError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
            kind = "encrypted" if member.flag_bits & 1 else "unreadable"
            raise ImageFault(kind, name, f"the archive's member cannot be read: {error}.") from None
        if len(data) > MAX_FILE_BYTES:
            raise ImageFault("too-large", name, f"more than {MAX_FILE_BYTES // 2**20} MiB when unpacked.")
        if not data:
            raise ImageFault("empty", name, "the file is empty (0 bytes).")
        return data

    return load


def _name(found: list[_Found]) -> Inputs:
    """Give every input a name: its stem, and where stems meet, the way to it."""
    short = [safe_name(item.inner.stem) for item in found]
    taken = Counter(name.casefold() for name in short)
    alone = [taken[name.casefold()] == 1 and not _is_frame_of(name, taken) for name in short]
    used = {name.casefold() for name, single in zip(short, alone, strict=True) if single}
    items = []
    for item, name, single in zip(found, short, alone, strict=True):
        chosen = name if single else _free(_long_name(item.inner), used)
        used.add(chosen.casefold())
        # Hashed, since it is kept in the output and holds the whole path, which may name a person.
        key = hashlib.sha256(item.key.encode(errors="surrogateescape")).hexdigest()
        items.append(Input(item.label, chosen, key, item.load))
    return Inputs(tuple(items), renamed=alone.count(False))


def _is_frame_of(name: str, taken: Counter[str]) -> bool:
    """Whether a frame of another input may be given this name, as of ``a_f1.png`` beside ``a.dcm``."""
    frame = re.fullmatch(r"(.+)_f\d+", name.casefold())
    return frame is not None and frame[1] in taken


def _long_name(inner: PurePosixPath) -> str:
    parts = [part for part in inner.with_suffix("").parts if part not in ("..", ".", "/")]
    ending = inner.suffix.lstrip(".").lower()
    return safe_name("__".join(parts) + (f"_{ending}" if ending else ""))


def _free(name: str, used: set[str]) -> str:
    if name.casefold() not in used:
        return name
    number = 2
    while f"{name}-{number}".casefold() in used:
        number += 1
    return f"{name}-{number}"


def safe_name(text: str) -> str:
    """Turn any text into the stem of a file that every file system takes.

    Letters, digits and ``._-+() `` stay; anything else becomes ``_``. Names that are long, begin with a dot,
    or mean a device on Windows are changed, and marked by a hash of the whole where something was cut.
    """
    name = re.sub(r"[^\w.\-+() ]", "_", text).strip(" .") or "image"
    if name.split(".")[0].casefold() in _DEVICES:
        name = f"_{name}"
    # In bytes: a file system's limit of 255 counts those.
    if len(name.encode()) > MAX_NAME:
        mark = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]
        name = name.encode()[:MAX_NAME].decode(errors="ignore") + f"-{mark}"
    return name


def with_frame(item: Input, frame: int, n_frames: int) -> Input:
    """Return the input for one frame of a file of several."""
    digits = len(str(n_frames - 1))
    return replace(item, name=f"{item.name}_f{frame:0{digits}d}", label=f"{item.label}#{frame}")


def decode(
    item: Input, ensemble: Ensemble, frames: Frames = "first", *, force: bool = False
) -> Iterator[DecodedImage | ImageFault]:
    """Read one file, and yield its frames ready for the network.

    A fault is yielded, not raised, and ends the file; a fault in a later frame leaves the earlier ones. A
    DICOM file of another modality or body part than the model's is a fault, or with `force` is flagged.
    """
    try:
        for picture in decode_frames(item.load(), Path(item.label).name, frames):
            several = frames == "all" and picture.n_frames > 1
            named = with_frame(item, picture.frame, picture.n_frames) if several else item
            other = contradiction(picture.tags, ensemble.card)
            if other and not force:
                advice = "Give a model of such images, or predict it all the same with --force."
                raise ImageFault("other-anatomy", item.label, f"{other}. {advice}")
            prepared = prepare_picture(named, picture, ensemble)
            yield replace(prepared, flags=(OTHER_ANATOMY, *prepared.flags)) if other else prepared
    except ImageFault as fault:
        yield fault


def contradiction(tags: Mapping[str, str], card: ModelCard) -> str:
    """Say in which way a DICOM header contradicts what the model was trained on; empty if in none."""
    modality, part = (tags.get(key, "").strip().upper() for key in ("Modality", "BodyPartExamined"))
    anatomy = DATASETS[card.dataset].anatomy if card.dataset in DATASETS else ""
    allowed, names = MODALITIES.get(card.modality, ()), BODY_PARTS.get(anatomy, ())
    other_part = part and part not in UNSAID and names and not any(name in part for name in names)
    if not other_part and not (modality and modality not in UNSAID and allowed and modality not in allowed):
        return ""
    named = (("modality", modality), ("body part", part))
    said = ", ".join(f"{name} {value}" for name, value in named if value)
    trained = f"{KINDS[card.modality]} of the {anatomy}" if anatomy else KINDS[card.modality]
    return f"its header says {said}; the model was trained on {trained}"


def prepare_picture(item: Input, picture: Picture, ensemble: Ensemble) -> DecodedImage:
    """Letterbox a picture to the network's size and compare it with the training images."""
    colour = ensemble.card.modality == "photo"
    pixels = picture.pixels if colour else to_grey(picture.pixels)
    if colour and pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    geometry = ensemble.card.preprocessing.letterbox(*pixels.shape[:2])
    letterboxed = geometry.place_image(pixels)
    flags, unlikeness = _compare(picture.pixels, letterboxed, geometry, ensemble)
    return DecodedImage(
        item, picture.pixels, letterboxed, geometry, picture.spacing, picture.notes, tuple(flags), unlikeness
    )


def _compare(
    pixels: np.ndarray, letterboxed: np.ndarray, geometry: Letterbox, ensemble: Ensemble
) -> tuple[list[str], float | None]:
    coloured = ensemble.card.modality != "photo" and _coloured_share(pixels) > COLOURED
    odd = _no_picture(pixels)
    flags = [*(["coloured"] if coloured else []), *([odd] if odd else [])]
    reference = ensemble.reference
    if reference is None:
        return flags, None
    found = image_statistics(letterboxed, geometry)[None]
    distance = float(reference.distance(found)[0]) / reference.limit
    if distance > 1 and not odd:
        alone = float(reference.distance(found, without=("aspect", "size"))[0]) <= reference.limit
        flags.append("another size or shape than the training images" if alone else UNLIKE)
    return flags, round(distance, 4)


def _no_picture(pixels: np.ndarray) -> str:
    """Say if pixels are no picture: one grey value, or nearly all black or white as in a mask."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    levels = np.count_nonzero(counts)
    if levels == 1:
        return "one grey value only"
    return "looks like a mask" if levels == 2 or counts[9:247].sum() < MASK_LIKE * pixels.size else ""


def _coloured_share(pixels: np.ndarray) -> float:
    """Share of clearly coloured pixels (channels more than 24 of 255 apart), on a sample."""
    if pixels.ndim == 2:
        return 0.0
    sample = pixels[::4, ::4].astype(np.int16)
    return float((np.ptp(sample, axis=2) > 24).mean())
