"""A prepared data set on disk: a manifest, facts about the whole, and pixels that are read row by row."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, field_validator

from gcsam_med.errors import InputError
from gcsam_med.escape import plain_cell
from gcsam_med.fields import Name, check_name
from gcsam_med.reading import faults, open_image, open_plain, read_csv, read_json, read_plain, validate
from gcsam_med.transforms.letterbox import Letterbox

SCHEMA = 1
IMAGES, MASKS, ORIGINAL_MASKS = "images.npy", "masks.npy", "original_masks"
MANIFEST, INFO, AUDIT = "manifest.csv", "dataset.json", "audit.json"
CENTRE = "centre"  # the column of a merged set that tells where a case is from

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
_AGAIN = "Run prepare again with --force."
MOST_MASK_BYTES = 256 * 2**20
MOST_INFO_BYTES, MOST_MANIFEST_BYTES, MOST_PIXELS_A_SIDE = 8 * 2**20, 4 * 2**30, 100_000
_SPACING = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?x\d+(\.\d+)?(e[+-]?\d+)?")
AUDIT_SUMMARY = {
    "random_split_leak",
    "images_in_groups_of_several",
    "groups_of_several",
    "exact_duplicate_pairs",
    "near_duplicate_pairs",
    "label_conflicts",
    "groups_on_both_sides",
    "images_with_marks",
    "images_with_coloured_overlay",
    "shortcut_suspects",
    "quarantined",
}
"""What an audit counts at least."""
LEAST_MM, MOST_MM = 1e-6, 1e3  # from below any microscope's pixel to above any radiograph's
HEADER_BYTES = 128  # what NumPy's format gives the header of any array that fits on a disk


class Part(BaseModel):
    """A file of a prepared data set, or a folder of files, as `prepare` left it."""

    model_config = ConfigDict(extra="forbid")

    sha256: str = Field(min_length=64, max_length=64, description="Of the bytes; of a folder, of all files.")
    pixels_sha256: str = Field(default="", description="Of the pixels of a folder of PNGs.")
    files: int = Field(ge=0, description="Number of files.")
    bytes: int = Field(ge=0, description="Their size.")
    newest: int = Field(description="When the newest was written, in ns since 1970.")


class DatasetInfo(BaseModel):
    """The facts about a prepared data set (``dataset.json``)."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_version: Literal[1] = Field(
        default=1, alias="schema", description="Version of this file's layout."
    )
    name: Name = Field(description="Name under DATA_ROOT/prepared.")
    title: str = Field(default="", description="The data set's name for people.")
    classes: list[str] = Field(description="Class names; a label's number is its place here.")
    positive_class: str = Field(
        default="", description="The class that is the finding; empty where it is not known."
    )
    negative_classes: list[str] = Field(
        default_factory=list, description="Classes without the finding: healthy."
    )
    empty_mask_classes: list[str] = Field(
        default_factory=list, description="Classes whose images may hold nothing to outline."
    )
    modality: Literal["ultrasound", "xray", "photo"] = Field(description="Chooses the transforms.")
    channels: Literal[1, 3] = Field(description="1 grey, 3 colour.")
    size: int = Field(ge=1, le=MOST_PIXELS_A_SIDE, description="Side of the stored images in pixels.")
    n_cases: int = Field(ge=1, description="Rows of the manifest.")
    has_masks: bool = Field(description="Whether masks are stored, so that segmentation is possible.")
    mask_target: str = Field(default="lesion", description="What the masks outline: lesion, lung, ...")
    synthetic: bool = Field(description="True for generated demonstration images.")
    group_kind: Literal["patient", "near-duplicate", "image"] = Field(
        description="What splits kept together."
    )
    counts: dict[str, Any] = Field(default_factory=dict, description="Cases by split and class.")
    seed: int = Field(description="Seed of the split.")
    split_from: Literal["", "drawn", "source", "file"] = Field(
        default="", description="Drawn by class, given by the source, or by --splits; empty: not recorded."
    )
    folds: int = Field(description="Number of folds over the cases that are not test.")
    tool_version: str = Field(description="Version of gcsam-med that wrote it.")
    content_sha256: str = Field(
        default="",
        description="Hash of all that training and evaluation see: pixels, masks, manifest, size, ...",
    )
    parts: dict[str, Part] = Field(default_factory=dict, description="Files with their hashes.")
    licence: str = Field(default="", description="The source's licence.")
    citation: str = Field(default="", description="What to cite when these data are used.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options prepare ran with.")


SEEN = (MANIFEST, IMAGES, MASKS, ORIGINAL_MASKS)
"""What training and evaluation see of a set, besides `dataset.json`."""
_NOT_CONTENT = {
    "name", "title", "counts", "seed", "tool_version", "content_sha256", "parts", "licence", "citation",
    "options",
}  # fmt: skip


def with_fingerprint(root: Path, info: DatasetInfo) -> DatasetInfo:
    """Return `info` with the hashes of the files that were written to `root`, and of the content as a whole.

    Two sets of one content have the same ``content_sha256``, wherever and whenever they were prepared.
    """
    parts = {name: _part(root / name, pixels=True) for name in SEEN if (root / name).exists()}
    named = info.model_copy(update={"parts": parts})
    return named.model_copy(update={"content_sha256": _content_sha256(named)})


def _content_sha256(info: DatasetInfo) -> str:
    content = info.model_dump(mode="json", by_alias=True, exclude=_NOT_CONTENT)
    content["parts"] = {name: part.pixels_sha256 or part.sha256 for name, part in info.parts.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _part(path: Path, *, pixels: bool = False) -> Part:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    digests, seen = hashlib.sha256(), hashlib.sha256()
    for file in files:
        with open_plain(file, follow=False) as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            digests.update(f"{file.name} {digest}\n".encode())
            if pixels and path.is_dir():
                opened.seek(0)
                with open_image(opened) as image:
                    seen.update(f"{file.name} {image.size}\n".encode() + image.convert("L").tobytes())
    count, size, newest = _state(path)
    return Part(
        sha256=digests.hexdigest() if path.is_dir() else digest,
        pixels_sha256=seen.hexdigest() if pixels and path.is_dir() else "",
        files=count,
        bytes=size,
        newest=newest,
    )


def _state(path: Path) -> tuple[int, int, int]:
    """Number, size and newest time of a file, or of the files of a folder."""
    if not path.is_dir():
        states = [path.lstat()]
    else:
        with os.scandir(path) as entries:
            states = [entry.stat(follow_symlinks=False) for entry in entries]
    newest = max((state.st_mtime_ns for state in states), default=0)
    return len(states), sum(state.st_size for state in states), newest


def _check_parts(root: Path, info: DatasetInfo, *, deep: bool) -> None:
    """Refuse a set whose files are not those that `prepare` wrote.

    The bytes of a file are read again where its size or time has changed, as by copying; with `deep`, always.
    """
    if _content_sha256(info) != info.content_sha256:
        raise InputError(f"{root / INFO} was changed: its content hash does not fit what it says.", _AGAIN)
    there = {name for name in SEEN if (root / name).exists()}
    for name in sorted(there ^ info.parts.keys()):
        raise InputError(f"{root / name} is {'one file too many' if name in there else 'not there'}.", _AGAIN)
    for name, part in info.parts.items():
        with faults(root / name, _AGAIN):
            stated = (part.files, part.bytes, part.newest)
            if (deep or _state(root / name) != stated) and _part(root / name).sha256 != part.sha256:
                raise ValueError("it is not what prepare wrote (its SHA-256 differs)")


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Conflict(_Record):
    first: str
    second: str
    kind: str
    agreement: float


class _Suspect(_Record):
    feature: str
    suspicious: bool
    auc: float | None = None
    cramers_v: float | None = None


class _Probe(_Record):
    view: str
    auc: float
    ci95: tuple[float, float]
    predicts_class: bool
    named: str = Field(alias="class")


class _Audit(_Record):
    """``audit.json``, as far as it is read again."""

    schema_version: Literal[1] = Field(alias="schema")
    summary: dict[str, int | float]
    conflicts: list[_Conflict]
    shortcuts: list[_Suspect]
    notes: list[dict[str, str | int]]
    probes: list[_Probe] = []

    @field_validator("summary")
    @classmethod
    def _whole(cls, summary: dict[str, int | float]) -> dict[str, int | float]:
        missing = sorted(AUDIT_SUMMARY - summary.keys())
        if missing:
            raise ValueError(f"lacks {missing[0]}")
        return summary


def read_audit(root: Path) -> dict[str, Any]:
    """Read a prepared data set's ``audit.json``.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    content: dict[str, Any] = read_json(root / AUDIT, dict[str, Any], _AGAIN)
    with faults(root / AUDIT, _AGAIN):
        validate(content, _Audit)
    return content


class PreparedDataset:
    """Reads a prepared data set.

    Parameters
    ----------
    root : Path
        The folder that holds ``dataset.json``.

    Attributes
    ----------
    info : DatasetInfo
        Facts about the whole.
    manifest : pandas.DataFrame
        One row for each case; row i is plane i of the pixel files. ``label`` is a class name or ``""``.

    deep : bool
        Read all bytes to compare their hashes with those that `prepare` recorded, also of files whose size
        and time are as they were.

    Raises
    ------
    InputError
        If the folder is not a prepared data set, or its files are not those that `prepare` wrote.
    """

    def __init__(self, root: Path, *, deep: bool = False) -> None:
        self.root = Path(root)
        self.info = _read_info(self.root)
        self.manifest = _read_manifest(self.root, self.info)
        side, n = self.info.size, self.info.n_cases
        colour = (3,) if self.info.channels == 3 else ()
        self._images = PlaneReader(self.root / IMAGES, (n, side, side, *colour))
        self._masks = PlaneReader(self.root / MASKS, (n, side, side)) if self.info.has_masks else None
        _check_parts(self.root, self.info, deep=deep)

    def __len__(self) -> int:
        return self.info.n_cases

    def rows(
        self,
        split: Split,
        fold: int | None = None,
        test_fold: int | None = None,
        leave_out: str | None = None,
    ) -> np.ndarray:
        """Row numbers of a split.

        Parameters
        ----------
        split : {"train", "val", "test"}
            Which part.
        fold : int, optional
            Take this fold as validation and the other folds as training instead of the default split.
        test_fold : int, optional
            Take this fold as test. The test split then trains, and the next fold validates if `fold` names no
            other.
        leave_out : str, optional
            Take this centre as test, all of it. The other centres validate by `fold`, or by the default
            split, and their remaining cases train; those of a group that the centre has a part in (a picture
            that it shares) are in no split.

        Returns
        -------
        ndarray of int64, shape (n,)
            In manifest order.

        Raises
        ------
        InputError
            If there is no such fold or centre, or one fold is to be both.
        """
        given, folds = self.manifest["split"], self.manifest["fold"]
        for number in (fold, test_fold):
            if number is not None and not 0 <= number < self.info.folds:
                raise InputError(
                    f"Fold {number} was asked for; '{self.info.name}' has folds 0 to {self.info.folds - 1}.",
                    "Choose one of them, or prepare the data set anew with --folds.",
                )
        if test_fold is not None and fold is None:
            fold = (test_fold + 1) % self.info.folds
        if fold is not None and fold == test_fold:
            raise InputError(f"Fold {fold} cannot both validate and test.", "Give another --fold.")
        if leave_out is not None:
            test = self._of_centre(leave_out)
            shared = self.manifest["group_id"].isin(self.manifest["group_id"][test]) & ~test
            val = (given == "val" if fold is None else folds == fold) & ~test
            chosen = test if split == "test" else ~shared & (val if split == "val" else ~val & ~test)
        elif fold is None:
            chosen = given == split
        else:
            test = given == "test" if test_fold is None else folds == test_fold
            val = folds == fold
            chosen = {"test": test, "val": val, "train": ~test & ~val}[split]
        return np.flatnonzero(chosen.to_numpy())

    @property
    def centres(self) -> tuple[str, ...]:
        """Where the cases are from; empty where the set does not tell it."""
        return tuple(sorted(set(self.manifest[CENTRE]))) if CENTRE in self.manifest else ()

    def _of_centre(self, name: str) -> pd.Series:
        if name not in self.centres or len(self.centres) < 2:
            raise InputError(
                f"'{self.info.name}' has no centre '{name}' to leave out"
                + (f"; it has {', '.join(self.centres)}." if self.centres else ": it does not tell any."),
                "Several sets as one have centres: gcsam-med prepare --merge A,B",
            )
        return self.manifest[CENTRE] == name

    def labels(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Class numbers, shape (n,), int64; -1 where a case has no label."""
        number = {name: i for i, name in enumerate(self.info.classes)}
        return np.array([number.get(x, -1) for x in self.manifest["label"].to_numpy()[rows]], dtype=np.int64)

    def images(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Stored images, letterboxed: uint8, shape (n, size, size) or (n, size, size, 3)."""
        return self._images(rows)

    def masks(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Stored masks, uint8 0 or 1, shape (n, size, size); zeros for a case without a mask."""
        if self._masks is None:
            raise InputError(
                f"'{self.info.name}' has no masks.", "Segmentation needs them; use --task classification."
            )
        return self._masks(rows)

    def original_mask(self, row: int) -> np.ndarray:
        """Mask at the original resolution, bool, shape (height, width); all False without a mask."""
        geometry = self.geometry(row)
        expected = (geometry.height, geometry.width)
        path = self.root / ORIGINAL_MASKS / f"{row:06d}.png"
        if not path.exists():
            return np.zeros(expected, dtype=bool)
        try:
            data = io.BytesIO(read_plain(path, MOST_MASK_BYTES, follow=False))
            with open_image(data) as image:
                if image.size != expected[::-1]:
                    raise ValueError(f"it should be {expected}, but is {image.size[::-1]} (height, width)")
                # Through "L": in an array of mode "1" Pillow stores True as 255, which torch takes as 255.
                mask = np.asarray(image.convert("L")) > 127
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            # Pillow raises the first three for damaged PNGs.
            raise InputError(f"{path.name} is damaged: {error}.", _AGAIN) from error
        return mask

    def geometry(self, row: int) -> Letterbox:
        """How this case's original lies in its stored image."""
        case = self.manifest.iloc[row]
        return Letterbox(int(case["height"]), int(case["width"]), self.info.size)

    def spacing(self, row: int) -> tuple[float, float] | None:
        """Original pixel spacing (row, column) in mm, or None where it is not known."""
        text = str(self.manifest["pixel_spacing"].iloc[row])
        if not text:
            return None
        down, across = (float(part) for part in text.split("x"))
        return down, across


class PlaneReader:
    """Reads uint8 planes of a ``.npy`` file by row, with ``pread``.

    Pages of a memory map that were touched count as the process's memory; these do not. The file is opened at
    each call: an open file must not be shared with a forked process, nor pickled.

    Parameters
    ----------
    path : Path
        The file.
    shape : tuple of int, optional
        The array's shape, if it is known from elsewhere; another one is refused.
    """

    def __init__(self, path: Path, shape: tuple[int, ...] | None = None) -> None:
        self.path = path
        try:
            with open_plain(path) as file:
                np.lib.format.read_magic(file)
                found, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                self.offset, state = file.tell(), os.fstat(file.fileno())
        except (OSError, ValueError) as error:
            raise InputError(f"{path.name} is missing or damaged: {error}.", _AGAIN) from error
        whole = state.st_size == self.offset + math.prod(found)
        self._identity = _identity(state)
        if found != (shape or found) or fortran or dtype != np.uint8 or not whole:
            raise InputError(
                f"{path.name} should hold uint8 {shape or found}, but holds {dtype} {found}"
                + ("." if whole else " and not all of it."),
                _AGAIN,
            )
        self.count, self.plane = int(found[0]), tuple(found[1:])

    def __call__(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Planes by row number: uint8, shape (n, *plane)."""
        planes = np.empty((len(rows), *self.plane), dtype=np.uint8)
        size = math.prod(self.plane)
        with open_plain(self.path) as file:
            descriptor = file.fileno()
            if _identity(os.fstat(descriptor)) != self._identity:
                raise InputError(
                    f"{self.path} was replaced while it was in use.", "Run the command again on the new data."
                )
            for plane, row in zip(planes, rows, strict=True):
                if not 0 <= row < self.count:
                    raise IndexError(f"row {row} of {self.count}")
                if os.preadv(descriptor, [plane.data.cast("B")], self.offset + int(row) * size) != size:
                    raise InputError(f"{self.path.name} ends early.", _AGAIN)
        return planes


def _identity(state: os.stat_result) -> tuple[int, int, int, int]:
    """What tells a file from one that took its place, or was written anew."""
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


class PlaneWriter:
    """Appends uint8 planes to a ``.npy`` file whose length is known only at the end.

    Parameters
    ----------
    path : Path
        File to create.
    plane : tuple of int
        Shape of one plane.
    """

    def __init__(self, path: Path, plane: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        self._file.write(b"\0" * HEADER_BYTES)
        self.plane = plane
        self.count = 0

    def append(self, plane: np.ndarray) -> None:
        """Write one plane."""
        if plane.shape != self.plane or plane.dtype != np.uint8:
            raise ValueError(f"expected a uint8 plane {self.plane}, got {plane.dtype} {plane.shape}")
        self._file.write(np.ascontiguousarray(plane).data)
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                shape = (self.count, *self.plane)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(self._file, header)
                if self._file.tell() != HEADER_BYTES:
                    raise ValueError(f"the header of {shape} is not {HEADER_BYTES} bytes long")


def prepared_root(data_root: Path, name: str) -> Path:
    """Folder of the prepared data set `name`."""
    return Path(data_root) / "prepared" / check_name(name, "a prepared data set")


def open_prepared(data_root: Path, name: str, *, deep: bool = False) -> PreparedDataset:
    """Open the prepared data set `name` (see `PreparedDataset`), or say how to prepare it.

    Raises
    ------
    InputError
        If it is not there.
    """
    root = prepared_root(data_root, name)
    if not (root / INFO).is_file():
        parent = root.parent
        there = sorted(p.parent.name for p in parent.glob(f"[!.]*/{INFO}")) if parent.is_dir() else []
        near = difflib.get_close_matches(name.lower(), there, n=2, cutoff=0.5)
        hint = f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        raise InputError(
            f"No prepared data set '{name}' under {parent}"
            + (f" (there: {', '.join(there)})." if there else "."),
            hint or f"Make it with: gcsam-med prepare --dataset {name} --source FOLDER",
        )
    return PreparedDataset(root, deep=deep)


def _is_spacing(text: str) -> bool:
    if not text:
        return True
    return bool(_SPACING.fullmatch(text)) and all(LEAST_MM < float(x) < MOST_MM for x in text.split("x"))


def _read_info(root: Path) -> DatasetInfo:
    path = root / INFO
    return read_json(path, DatasetInfo, _AGAIN, most=MOST_INFO_BYTES)


def _read_manifest(root: Path, info: DatasetInfo) -> pd.DataFrame:
    path = root / MANIFEST
    table = read_csv(path, [], _AGAIN, most=MOST_MANIFEST_BYTES).map(plain_cell).rename(columns=plain_cell)
    needed = {"case_id", "group_id", "label", "split", "fold", "height", "width", "pixel_spacing", "has_mask"}
    missing = sorted(needed - set(table.columns))
    if missing or len(table) != info.n_cases:
        raise InputError(
            f"{path} should have {info.n_cases} rows and the columns {', '.join(sorted(needed))}; it has "
            f"{len(table)} rows" + (f" and lacks {', '.join(missing)}." if missing else "."),
            _AGAIN,
        )
    for column in ("fold", "height", "width"):
        try:
            numbers = pd.to_numeric(table[column])
            if column != "fold" and not numbers.between(1, MOST_PIXELS_A_SIDE).all():
                raise ValueError("sizes from 1 pixel to the largest image that is read")
            table[column] = numbers.astype("int64")
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"{path} holds other things than sensible whole numbers in '{column}'.", _AGAIN
            ) from error
    if not table["pixel_spacing"].map(_is_spacing).all():
        raise InputError(f"{path} holds a pixel_spacing that is not two lengths in mm, as 0.1x0.1.", _AGAIN)
    unknown = set(table["split"]) - set(SPLITS)
    if unknown:
        raise InputError(f"{path} has the splits {sorted(unknown)} beside {list(SPLITS)}.", _AGAIN)
    table["has_mask"] = table["has_mask"].isin(("1", "true", "True"))
    return table
