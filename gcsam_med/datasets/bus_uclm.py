"""BUS-UCLM: 683 breast ultrasound images of 38 patients.

``images/ALWI_000.png``, ``masks/`` with the same names (black normal, green benign, red malignant) and
``INFO.csv`` with ``;`` (Image, Label, Doppler, Combined). The patient is the name's prefix. Doppler and
combined images are kept and marked in columns.
"""

from __future__ import annotations

from pathlib import Path

from gcsam_med.datasets.case import Case, Listing, locate
from gcsam_med.datasets.table import read_table
from gcsam_med.errors import Fault
from gcsam_med.images import find_images

CLASSES = ("benign", "malignant", "normal")


def list_cases(source: Path) -> Listing:
    """List BUS-UCLM's cases; see the module's text for the layout."""
    root = locate(source, [("images", "masks", "INFO.csv")], "BUS-UCLM")
    cases: list[Case] = []
    faults: list[Fault] = []
    for row in read_table(root / "INFO.csv", ("Image", "Label")).to_dict("records"):
        name, label = Path(row["Image"].strip()).stem, row["Label"].strip().lower()
        image, mask = f"images/{name}.png", f"masks/{name}.png"
        missing = [path for path in (image, mask) if not (root / path).is_file()]
        if label not in CLASSES:
            faults.append(Fault(image, "label-unknown", f"Label is '{label}'."))
        elif missing:
            faults.append(Fault(f"INFO.csv: {name}", "missing", f"there is no {missing[0]}."))
        else:
            marks = {key.lower(): row.get(key, "").strip() for key in ("Doppler", "Combined")}
            cases.append(Case(name, image, (mask,), label, name.split("_")[0], attributes=marks))
    listed = {case.image for case in cases} | {fault.path for fault in faults}
    left = (f"images/{p.name}" for p in find_images(root / "images", nested=False))
    faults += [Fault(p, "not-listed", "INFO.csv does not list it.") for p in left if p not in listed]
    marked = sum("yes" in (mark.lower() for mark in case.attributes.values()) for case in cases)
    note = f"{marked} images are Doppler or combined ones; the columns doppler and combined mark them."
    return Listing(root, tuple(cases), CLASSES, tuple(faults), (note,) if marked else ())
