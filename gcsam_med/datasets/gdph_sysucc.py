"""GDPH&SYSUCC: 2,405 breast ultrasound images of two hospitals, without patients and masks.

``GDPH/benign(443).png``, ``SYSUCC/malignant(0).png``, and ``BIRADS&FOLD.xlsx`` with the sheet ``prediction``
(ID, BIRADS-reader1, BIRADS-reader2, fold). A public audit found 507 duplicates and 39 label conflicts.
"""

from __future__ import annotations

import re
from pathlib import Path

from gcsam_med.datasets.case import Case, Listing, locate
from gcsam_med.datasets.table import read_table
from gcsam_med.errors import Fault
from gcsam_med.images import find_images

CLASSES = ("benign", "malignant")
SITES = ("GDPH", "SYSUCC")
READERS = ("BIRADS-reader1", "BIRADS-reader2")


def list_cases(source: Path) -> Listing:
    """List the cases of both hospitals; see the module's text for the layout."""
    root = locate(source, [SITES], "GDPH&SYSUCC")
    readings = _readings(root / "BIRADS&FOLD.xlsx")
    cases: list[Case] = []
    faults: list[Fault] = []
    for site in SITES:
        for path in find_images(root / site, nested=False):
            image, match = f"{site}/{path.name}", re.match(r"(benign|malignant)\(\d+\)$", path.stem)
            if match is None:
                faults.append(Fault(image, "label-unknown", "names here are like benign(443)."))
                continue
            attributes = {"site": site, **readings.get(path.stem, {})}
            cases.append(Case(path.stem, image, label=match[1], attributes=attributes))
    known = {case.name for case in cases}
    faults += [Fault(name, "missing", "BIRADS&FOLD.xlsx lists it.") for name in readings if name not in known]
    return Listing(root, tuple(cases), CLASSES, tuple(faults))


def _readings(sheet: Path) -> dict[str, dict[str, str]]:
    """What two readers and the paper's folds say of each image; empty without a sheet."""
    if not sheet.is_file():
        return {}
    table = read_table(sheet, ("ID", *READERS, "fold"), "prediction")
    return {
        row["ID"].removesuffix(".png"): {
            "birads_reader1": row[READERS[0]].lower(),
            "birads_reader2": row[READERS[1]].lower(),
            "paper_fold": row["fold"],
        }
        for row in table.to_dict("records")
    }
