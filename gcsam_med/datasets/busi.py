"""BUSI: breast ultrasound images in ``benign/``, ``malignant/``, ``normal/`` with masks beside them.

``benign (1).png`` has ``benign (1)_mask.png``, and some have further lesions in ``..._mask_1.png``. There are
no patient ids.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from gcsam_med.datasets.case import MASK_STEM, Case, Listing, locate, paired
from gcsam_med.errors import Fault
from gcsam_med.images import find_images

CLASSES = ("benign", "malignant", "normal")


def list_cases(source: Path) -> Listing:
    """List BUSI's cases; see the module's text for the layout."""
    root = locate(source, [CLASSES, CLASSES[:2]], "BUSI")
    cases: list[Case] = []
    faults: list[Fault] = []
    for label in CLASSES:
        files = find_images(root / label, nested=False)
        masks = [p for p in files if MASK_STEM.match(p.stem)]
        pairs, orphans = paired(root, [p for p in files if not MASK_STEM.match(p.stem)], masks)
        for image, own in pairs:
            if own or label == "normal":
                cases.append(Case(PurePosixPath(image).stem, image, own, label))
            else:
                faults.append(Fault(image, "no-mask", "a lesion image without a mask."))
        faults += orphans
    return Listing(root, tuple(cases), CLASSES, tuple(faults))
