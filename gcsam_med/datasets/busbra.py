"""BUS-BRA: 1,875 breast ultrasound images of 1,064 patients, with BI-RADS, device and official folds.

``bus_data.csv`` (ID, Case = patient, Histology, Pathology, BIRADS, Device, Side, ...), ``5-fold-cv.csv``
(ID, kFold 1..5), ``Images/bus_0001-l.png``, ``Masks/mask_0001-l.png``.

The official cross-validation has no test set: fold 5 becomes the test set, folds 1 to 4 the folds 0 to 3. The
columns valid_1 .. valid_5, inner validation sets, are not used: they put images of one patient on both sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gcsam_med.datasets.case import Case, Listing, locate
from gcsam_med.datasets.table import read_table
from gcsam_med.errors import Fault
from gcsam_med.images import find_images

if TYPE_CHECKING:
    import pandas as pd

CLASSES = ("benign", "malignant")
TEST_FOLD = 5


def list_cases(source: Path) -> Listing:
    """List BUS-BRA's cases; see the module's text for the layout."""
    root = locate(source, [("bus_data.csv", "5-fold-cv.csv", "Images", "Masks")], "BUS-BRA")
    table = read_table(root / "bus_data.csv", ("ID", "Case", "Pathology"))
    folds = read_table(root / "5-fold-cv.csv", ("ID", "kFold")).drop_duplicates("ID").set_index("ID")["kFold"]
    cases: list[Case] = []
    faults: list[Fault] = []
    for row in table.to_dict("records"):
        case, fault = _case(root, {str(k): str(v) for k, v in row.items()}, folds)
        cases += [case] if case else []
        faults += [fault] if fault else []
    listed = {c.image for c in cases} | {f.path for f in faults}
    unlisted = (p.relative_to(root).as_posix() for p in find_images(root / "Images", nested=False))
    faults += [
        Fault(p, "not-listed", "an image that bus_data.csv does not list.")
        for p in unlisted
        if p not in listed
    ]
    return Listing(root=root, cases=tuple(cases), classes=CLASSES, faults=tuple(faults))


def _case(root: Path, row: dict[str, str], folds: pd.Series) -> tuple[Case | None, Fault | None]:
    name, label = row["ID"].strip(), row["Pathology"].strip().lower()
    image, mask = f"Images/{name}.png", f"Masks/{name.replace('bus', 'mask', 1)}.png"
    if "/" in name or not (root / image).is_file():
        return None, Fault(f"bus_data.csv: {name}", "missing", f"there is no {image}.")
    if label not in CLASSES:
        return None, Fault(
            image, "label-unknown", f"Pathology is '{label}', not one of {', '.join(CLASSES)}."
        )
    if not (root / mask).is_file():
        return None, Fault(image, "no-mask", f"there is no {mask}.")
    fold = folds.get(name, "")
    if fold not in ("1", "2", "3", "4", "5"):
        return None, Fault(image, "no-fold", "5-fold-cv.csv gives no fold from 1 to 5 for it.")
    test = int(fold) == TEST_FOLD
    attributes = {key.lower(): row.get(key, "").strip() for key in ("Histology", "BIRADS", "Device", "Side")}
    return (
        Case(
            name=name,
            image=image,
            masks=(mask,),
            label=label,
            patient=row["Case"].strip(),
            split="test" if test else "",
            fold=-1 if test else int(fold) - 1,
            attributes=attributes,
        ),
        None,
    )
