"""COVID-19 Radiography Database: ``CLASS/images``, ``CLASS/masks`` (256 x 256), ``CLASS.metadata.xlsx``.

Also without masks, without metadata, and with the images directly in the class folders. The metadata's URL
column tells which collection an image was taken from; it becomes the attribute ``collection``, since classes
that come from different collections can be told apart without looking at a lung.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from gcsam_med.datasets.case import Case, Listing, locate, paired
from gcsam_med.datasets.table import read_table
from gcsam_med.errors import Fault
from gcsam_med.images import find_images

CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


def list_cases(source: Path) -> Listing:
    """List the COVID-19 Radiography cases; see the module's text for the layout."""
    root = locate(source, [("COVID", "Normal")], "The COVID-19 Radiography Database")
    classes = tuple(c for c in CLASSES if (root / c).is_dir())
    cases: list[Case] = []
    faults: list[Fault] = []
    for label in classes:
        folder = root / label / "images" if (root / label / "images").is_dir() else root / label
        mask_folder = root / label / "masks"
        masks = find_images(mask_folder, nested=False) if mask_folder.is_dir() else []
        pairs, orphans = paired(root, find_images(folder, nested=False), masks)
        collections = _collections(root / f"{label}.metadata.xlsx")
        for image, own in pairs:
            name = PurePosixPath(image).stem
            if mask_folder.is_dir() and not own:
                faults.append(Fault(image, "no-mask", "the class has masks, but none for this image."))
                continue
            # The sheet writes some names in another case than the files (NORMAL-1 for Normal-1.png).
            attributes = {"collection": collections.get(name.lower(), "")} if collections else {}
            cases.append(Case(name, image, own, label, attributes=attributes))
        faults += orphans
    return Listing(root, tuple(cases), classes, tuple(faults))


def _collections(sheet: Path) -> dict[str, str]:
    """Collection by lower-case file name; empty without a sheet."""
    if not sheet.is_file():
        return {}
    table = read_table(sheet, ("FILE NAME", "URL"))
    return {name.lower(): url[:120] for name, url in zip(table["FILE NAME"], table["URL"], strict=True)}
