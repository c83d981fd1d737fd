"""What a source tells: which cases there are, where their files lie, and what is known about each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gcsam_med.errors import Fault, InputError, unknown_name

Modality = Literal["ultrasound", "xray", "photo"]
MaskSize = Literal["refuse", "resize"]

# "lesion (1)_mask_2.png", "x_segmentation.png": the image's name and a mark that it is a mask.
MASK_STEM = re.compile(r"^(?P<image>.+?)_(mask|segmentation|seg)(_\d+)?$", re.IGNORECASE)

# Class names of images without a finding, in lower case, for sources whose classes are not known before.
HEALTHY = frozenset(
    {"normal", "normals", "healthy", "negative", "no finding", "no_finding", "nofinding", "no tumor"}
    | {"notumor", "no_tumor", "no lesion", "no_lesion", "control", "controls", "neg"}
)
BENIGN, MALIGNANT = frozenset({"benign"}), frozenset({"malignant", "cancer", "malign"})

# What stands for "not known" where a patient's id should be, in lower case.
PLACEHOLDERS = frozenset(
    {"", "na", "n/a", "nan", "none", "null", "unknown", "?", "-", "anonymous", "anonymized", "anonymised"}
    | {"anon", "no id", "noid", "not available", "0", "patient", "patientid", "patient id", "removed"}
)


@dataclass(frozen=True, slots=True)
class RawPixels:
    """Pixels that lie in a file without a format of their own (CIFAR's batches, .npy, JSRT's .IMG)."""

    offset: int  #: Where in the file the image begins.
    shape: tuple[int, ...]  #: (H, W), (H, W, 3), or (3, H, W) if `planar`.
    dtype: Literal["u1", ">u2"] = "u1"  #: Bytes, or 16-bit words, most significant byte first.
    planar: bool = False  #: Whether all red values come first, then green, then blue.
    white_is_zero: bool = False  #: Whether 0 is white.


@dataclass(frozen=True, slots=True)
class Case:
    """One image of a source."""

    name: str  #: Unique within the source; a public source's case id.
    image: str  #: The image file, relative to the source's root, with ``/``.
    masks: tuple[str, ...] = ()  #: Mask files; the mask is their union.
    label: str = ""  #: Class name, or empty.
    patient: str = ""  #: Who the image is of, or empty where that is not known.
    split: str = ""  #: ``train``, ``val`` or ``test`` where the source gives a split, else empty.
    #: Fold number where the source gives folds; -1 where it gives folds and this is a test case.
    fold: int | None = None
    #: What else is known (device, BI-RADS, ...); become subgroups of the report.
    attributes: Mapping[str, str] = field(default_factory=dict)
    raw: RawPixels | None = None  #: Where `image` is no picture by itself: where in it the pixels lie.
    #: A mask as run lengths instead of files, the union of several: gap and length in turns, down the columns
    #: from the top left. Empty for a black mask, None where there is none.
    runs: tuple[str, ...] | None = None
    spacing: tuple[float, float] | None = None  #: Millimetres (row, column), where the file does not tell.


@dataclass(frozen=True)
class Listing:
    """All cases of a source, and what is wrong with its layout."""

    root: Path  #: Folder that the cases' paths are relative to.
    cases: tuple[Case, ...]  #: In a stable order.
    classes: tuple[str, ...]  #: Class names in order of their number; empty without labels.
    faults: tuple[Fault, ...] = ()  #: E.g. a mask without an image.
    notes: tuple[str, ...] = ()  #: What a person should know about the layout that was found.
    unused: tuple[Fault, ...] = ()  #: Image files that are neither image nor mask, and why.
    #: positive, negative, mask_target: Where an option decides them, in place of those of the row of
    #: `DATASETS`.
    positive: str = ""
    negative: tuple[str, ...] = ()
    mask_target: str = ""


@dataclass(frozen=True)
class Download:
    """A public address of a source's archive."""

    url: str  #: Where it is.
    known_hash: str | None = None  #: ``algorithm:hex``; without one the hash found is recorded.


@dataclass(frozen=True)
class ClassRoles:
    """Which class is the finding, which are without it."""

    positive: str  #: The finding; empty where it is not known, or classes are no disease against health.
    negative: tuple[str, ...]  #: Classes without the finding: healthy.
    empty_masks: tuple[str, ...]  #: Classes whose images may hold nothing to outline.
    note: str  #: What a person should know about it; empty if there is nothing to say.


@dataclass(frozen=True)
class SourceSpec:
    """A data set that `prepare` knows: one row of `DATASETS`."""

    title: str  #: The data set's name for people.
    list_cases: Callable[..., Listing]  #: From the source's folder (or CSV file) to a `Listing`.
    #: {"ultrasound", "xray", "photo"}: Chooses transforms and channels (photo: 3, else 1).
    modality: Modality
    layout: str  #: What the source should look like, in one line.
    #: {"breast", "lung", ""}: Where findings lie, for the codes of DICOM objects; empty: the image must say.
    anatomy: Literal["breast", "lung", ""]
    licence: str  #: To be quoted with results; what the source says where it names no licence.
    citation: str  #: What to cite with results.
    page: str = ""  #: Where people find it; empty where that is not known.
    known_faults: str = ""  #: What is known to be wrong with it; empty where nothing has been published.
    positive: str = ""  #: The class that is the finding; empty where classes are not disease against health.
    negative_classes: tuple[str, ...] = ()  #: Classes without the finding, beside those recognised by name.
    mask_target: str = "lesion"  #: What masks outline.
    #: {"refuse", "resize"}: Whether masks of another size than their image are a fault or are brought to the
    #: image's size.
    mask_size: MaskSize = "refuse"
    #: The user's own images: names are hashed with a secret key before they become case ids.
    private: bool = False
    takes: tuple[str, ...] = ()  #: Options of `PrepareOptions` that `list_cases` takes by name.
    download: Download | None = None  #: Public address.
    kaggle: str = ""  #: Kaggle's name of the data set, where it is there.
    published: tuple[str, ...] = ()  #: MD5 sums of the archives as published, where one is checked.

    def roles(self, classes: Sequence[str], positive: str = "", negative: Sequence[str] = ()) -> ClassRoles:
        """Say which class is positive and which are negative: as given, by this row, or by usual names.

        Raises
        ------
        InputError
            If `positive` or `negative` names no class, or one class is both.
        """
        for name in (positive, *negative):
            if name and name not in classes:
                raise unknown_name("class", name, classes)
        if positive in negative:
            raise InputError(f"'{positive}' cannot be both positive and negative.", "Name it once.")
        known = HEALTHY | {name.casefold() for name in self.negative_classes}
        without = {c for c in classes if any(_negates(c, other) for other in classes)}
        healthy = [
            c for c in classes if c in negative or (c != positive and (c.casefold() in known or c in without))
        ]
        others = [c for c in classes if c not in healthy]
        found = [c for c in others if positive in ("", c) and c.casefold() == self.positive.casefold()]
        if not found and any(c.casefold() in BENIGN for c in classes):
            found = [c for c in others if c.casefold() in MALIGNANT]
        if not found and len(classes) == 2 and len(others) == 1:
            found = others
        chosen = positive or (found[0] if len(found) == 1 else "")
        lesions = self.mask_target != "lung"
        empty_masks = tuple(c for c in healthy if lesions and c.casefold() not in BENIGN)
        known_before = bool(positive) or chosen.casefold() == self.positive.casefold() != ""
        note = "" if known_before else _role_note(classes, chosen, healthy)
        return ClassRoles(chosen, tuple(healthy), empty_masks, note)


def _negates(name: str, other: str) -> bool:
    """Whether a class is named as the lack of another: ``no cancer``, ``nonCOVID``, ``without_mass``."""
    plain, finding = (re.sub(r"[^a-z0-9]", "", c.casefold()) for c in (name, other))
    return bool(finding) and plain in {word + finding for word in ("no", "non", "not", "without")}


def _role_note(classes: Sequence[str], positive: str, negative: Sequence[str]) -> str:
    if positive:
        others = f", {' and '.join(repr(n) for n in negative)} negative" if negative else ""
        return f"'{positive}' is taken as the positive class{others}; --positive and --negative change it."
    if len(classes) == 2:
        return (
            f"Which of '{classes[0]}' and '{classes[1]}' is the finding is not known; a classification needs "
            "it. Say it with --positive NAME."
        )
    return ""


def locate(source: Path, layouts: Sequence[Sequence[str]], what: str) -> Path:
    """Find the folder that holds all names (or patterns) of one of `layouts`: the source or two levels below.

    Raises
    ------
    InputError
        If there is none; `what` names the data set.
    """
    if not source.is_dir():
        missing = "is not there" if not source.exists() else "is a file; a folder or an archive was expected"
        raise InputError(f"The source {source} {missing}.", "Check --source.")
    for folder in (source, *sorted(source.glob("*/")), *sorted(source.glob("*/*/"))):
        if any(all(any(folder.glob(name)) for name in needed) for needed in layouts):
            return folder
    found = sorted(p.name for p in source.iterdir())[:8]
    wanted = " or ".join(" + ".join(needed) for needed in layouts)
    raise InputError(
        f"{what} should hold {wanted}; {source} holds {', '.join(found) or 'nothing'}.",
        "Point --source at the data set in its original layout.",
    )


def paired(
    root: Path, images: Sequence[Path], masks: Sequence[Path]
) -> tuple[list[tuple[str, tuple[str, ...]]], list[Fault]]:
    """Give each image its masks, which have its stem, or its stem and a mark that they are masks.

    Returns image and masks of each as paths relative to `root`, and a fault for each mask without image.
    """
    by_stem: dict[str, list[str]] = {}
    for path in masks:
        match = MASK_STEM.match(path.stem)
        name = path.relative_to(root).as_posix()
        by_stem.setdefault(match["image"] if match else path.stem, []).append(name)
    pairs = [(p.relative_to(root).as_posix(), tuple(by_stem.pop(p.stem, ()))) for p in images]
    left = (path for paths in by_stem.values() for path in paths)
    return pairs, [Fault(path, "no-image", "a mask without its image.") for path in left]


def is_placeholder(name: str) -> bool:
    """Whether a patient's id says only that there is none."""
    return name.strip().strip("^_").casefold() in PLACEHOLDERS
