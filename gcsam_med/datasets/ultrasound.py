"""Breast ultrasound in plain layouts: UDIAT, BUID, BUS_UC and the curated BUSI. None tells the patient.

- UDIAT (Dataset B): ``original/000001.png``, ``GT/000001.png``, ``DatasetB.xlsx`` (Image, Type).
- BUID: ``Benign/1 Benign Image.bmp``, ``1 Benign Mask.tif``; ``1 Benign Lesion.bmp``, the image with the
  outline drawn in, is not used.
- BUS_UC: ``Benign/images/``, ``Benign/masks/``, ``Malignant/...``; ``All/`` repeats them and is not used.
- Curated BUSI: ``images/benign_id_1.png``, ``masks/`` with the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from gcsam_med.datasets.case import Case, Listing, locate, paired
from gcsam_med.datasets.table import read_table
from gcsam_med.errors import Fault
from gcsam_med.images import find_images

CLASSES = ("benign", "malignant")
FOLDERS = ("Benign", "Malignant")
BUSI_NAME = re.compile(r"(benign|malignant|normal)(?=\W|_|\d|$)", re.IGNORECASE)


def list_udiat(source: Path) -> Listing:
    """List UDIAT's cases."""
    root = locate(source, [("original", "GT", "DatasetB.xlsx")], "UDIAT (Dataset B)")
    types: dict[str, str] = {}
    for row in read_table(root / "DatasetB.xlsx", ("Image", "Type")).to_dict("records"):
        types[row["Image"].strip().removesuffix(".png").zfill(6)] = row["Type"].strip().lower()
    pairs, faults = paired(root, find_images(root / "original"), find_images(root / "GT"))
    labelled = [(image, masks, types.get(PurePosixPath(image).stem, "")) for image, masks in pairs]
    there = {PurePosixPath(image).stem for image, _ in pairs}
    faults += [Fault(n, "missing", "DatasetB.xlsx lists it.") for n in types if n not in there]
    return _listing(root, labelled, faults, "DatasetB.xlsx gives no type benign or malignant for it.")


def list_buid(source: Path) -> Listing:
    """List BUID's cases."""
    root = locate(source, [FOLDERS], "BUID")
    labelled: list[tuple[str, tuple[str, ...], str]] = []
    faults: list[Fault] = []
    unused: list[Fault] = []
    for folder in FOLDERS:
        files: dict[str, dict[str, str]] = {"image": {}, "mask": {}}
        for path in find_images(root / folder, nested=False):
            number, _, kind = path.stem.lower().rpartition(" ")
            if kind == "lesion":
                said = "the image with its outline drawn in."
                unused.append(Fault(f"{folder}/{path.name}", "drawn-in", said))
            elif kind in files:
                files[kind][number] = f"{folder}/{path.name}"
        images, masks = files["image"], files["mask"]
        labelled += [(p, (masks[n],) if n in masks else (), folder.lower()) for n, p in images.items()]
        faults += [
            Fault(p, "no-image", "a mask without its image.") for n, p in masks.items() if n not in images
        ]
    return _listing(root, labelled, faults, "", unused)


def list_bus_uc(source: Path) -> Listing:
    """List BUS_UC's cases."""
    root = locate(source, [[f"{folder}/images" for folder in FOLDERS]], "BUS_UC")
    labelled: list[tuple[str, tuple[str, ...], str]] = []
    faults: list[Fault] = []
    for folder in FOLDERS:
        images, masks = (find_images(root / folder / kind) for kind in ("images", "masks"))
        pairs, orphans = paired(root, images, masks)
        labelled += [(image, own, folder.lower()) for image, own in pairs]
        faults += orphans
    repeated = (
        (p.relative_to(root).as_posix() for p in find_images(root / "All")) if (root / "All").is_dir() else ()
    )
    unused = [Fault(path, "repeated", "All repeats the other folders.") for path in repeated]
    return _listing(root, labelled, faults, "", unused)


def list_curated_busi(source: Path) -> Listing:
    """List the curated BUSI's cases."""
    root = locate(source, [("images", "masks")], "The curated BUSI")
    pairs, faults = paired(root, find_images(root / "images"), find_images(root / "masks"))
    labelled = [
        (image, masks, match[1].lower() if (match := BUSI_NAME.match(PurePosixPath(image).stem)) else "")
        for image, masks in pairs
    ]
    listing = _listing(root, labelled, faults, "names here are like benign_id_1.png.")
    return Listing(root, listing.cases, (*CLASSES, "normal"), listing.faults)


def _listing(
    root: Path,
    labelled: Iterable[tuple[str, tuple[str, ...], str]],
    faults: list[Fault],
    said: str,
    unused: Iterable[Fault] = (),
) -> Listing:
    """Cases of image, masks and class; `said` is what is wrong where the class is none."""
    cases: list[Case] = []
    for image, masks, label in labelled:
        if label not in (*CLASSES, "normal"):
            faults.append(Fault(image, "label-unknown", said))
        elif not masks and label != "normal":
            faults.append(Fault(image, "no-mask", "a lesion image without a mask."))
        else:
            cases.append(Case(PurePosixPath(image).stem, image, masks, label))
    return Listing(root, tuple(cases), CLASSES, tuple(faults), unused=tuple(unused))
