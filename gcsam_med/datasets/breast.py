"""BrEaST: 256 breast ultrasound images, one a patient, with masks of tumours, BI-RADS and verification.

``case001.png``, ``case001_tumor.png``, ``case022_other1.png`` and the clinical sheet ``BrEaST-....xlsx``
(Image_filename, Mask_tumor_filename and Mask_other_filename with ``&`` between several, Classification,
Pixel_size in cm, ...).
The masks called other outline what is no tumour and are not used.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

from gcsam_med.datasets.case import Case, Listing, locate
from gcsam_med.datasets.table import read_table
from gcsam_med.errors import Fault, InputError
from gcsam_med.images import find_images

CLASSES = ("benign", "malignant", "normal")
MASKS = ("Mask_tumor_filename", "Mask_other_filename")
COLUMNS = ("CaseID", "Image_filename", *MASKS, "Classification", "BIRADS")


def list_cases(source: Path) -> Listing:
    """List BrEaST's cases; see the module's text for the layout."""
    root = locate(source, [("case*.png",)], "BrEaST")
    sheets = [*root.glob("BrEaST*.xlsx"), *root.parent.glob("BrEaST*.xlsx")]
    if not sheets:
        raise InputError(f"BrEaST's clinical sheet (BrEaST-Lesions-USG-....xlsx) is not in {root}.")
    cases: list[Case] = []
    faults: list[Fault] = []
    other: set[str] = set()
    for row in read_table(sheets[0], COLUMNS).to_dict("records"):
        image, label = row["Image_filename"], row["Classification"].lower()
        masks, more = (tuple(m.strip() for m in row[c].split("&") if m.strip()) for c in MASKS)
        other |= set(more)
        missing = [name for name in (image, *masks) if not (root / Path(name).name).is_file()]
        if label not in CLASSES:
            faults.append(Fault(image, "label-unknown", f"Classification is '{label}'."))
        elif missing:
            faults.append(Fault(image, "missing", f"there is no {missing[0]}."))
        elif not masks and label != "normal":
            faults.append(Fault(image, "no-mask", "a lesion image without a mask."))
        else:
            known = {"birads": row["BIRADS"], "verification": row.get("Verification", "")}
            name, patient, spacing = Path(image).stem, f"case {row['CaseID']}", _spacing(row)
            cases.append(Case(name, image, masks, label, patient, attributes=known, spacing=spacing))
    listed = {name for case in cases for name in (case.image, *case.masks)} | {f.path for f in faults}
    left = [p.name for p in find_images(root, nested=False) if p.name not in listed]
    why = "a mask of something that is no tumour."
    unused = tuple(Fault(name, "other-mask", why) for name in left if name in other)
    faults += [Fault(n, "not-listed", "the clinical sheet does not list it.") for n in left if n not in other]
    return Listing(root, tuple(cases), CLASSES, tuple(faults), unused=unused)


def _spacing(row: dict[Hashable, str]) -> tuple[float, float] | None:
    """Pixel spacing in mm from the sheet's centimetres, unless it is no size that ultrasound has."""
    try:
        size = 10 * float(row.get("Pixel_size", ""))
    except ValueError:
        return None
    return (size, size) if 0.01 < size < 1 else None
