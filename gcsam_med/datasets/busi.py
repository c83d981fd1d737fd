"""BUSI: breast ultrasound images in ``benign/``, ``malignant/``, ``normal/`` with masks beside them.

``benign (1).png`` has ``benign (1)_mask.png``, and some have further lesions in ``..._mask_1.png``. There are
no patient ids.
"""

from __future__ import annotations

from pathlib import Path

from gcsam_med.datasets.case import MASK_STEM, Case, Listing, image_files, locate, masks_by_image, no_image
from gcsam_med.errors import Fault

CLASSES = ("benign", "malignant", "normal")


def list_cases(source: Path) -> Listing:
    """List BUSI's cases; see the module's text for the layout."""
    root, _ = locate(source, [CLASSES, CLASSES[:2]], "BUSI")
    cases: list[Case] = []
    faults: list[Fault] = []
    for label in CLASSES:
        files = image_files(root / label)
        masks = masks_by_image([p for p in files if MASK_STEM.match(p.stem)])
        for path in files:
            if MASK_STEM.match(path.stem):
                continue
            own = tuple(m.relative_to(root).as_posix() for m in masks.pop(path.stem, ()))
            image = path.relative_to(root).as_posix()
            if not own and label != "normal":
                faults.append(Fault(image, "no-mask", "a lesion image without a mask."))
            else:
                cases.append(Case(name=path.stem, image=image, masks=own, label=label))
        faults += no_image(root, masks)
    return Listing(root=root, cases=tuple(cases), classes=CLASSES, faults=tuple(faults))
