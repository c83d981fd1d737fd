"""BUSI: breast ultrasound images in ``benign/``, ``malignant/``, ``normal/`` with masks beside them.

``benign (1).png`` has ``benign (1)_mask.png``, and some have further lesions in ``..._mask_1.png``. There are
no patient ids.
"""

from __future__ import annotations

import re
from pathlib import Path

from gcsam_med.datasets.source import Case, Listing, locate
from gcsam_med.errors import Fault

CLASSES = ("benign", "malignant", "normal")
MASK = re.compile(r"^(?P<image>.+)_mask(_\d+)?$")


def list_cases(source: Path) -> Listing:
    """List BUSI's cases; see the module's text for the layout."""
    root = locate(source, ("benign", "malignant"), "BUSI")
    cases: list[Case] = []
    faults: list[Fault] = []
    for label in CLASSES:
        images, masks = _files(root / label)
        for stem in sorted(images, key=_natural):
            path = f"{label}/{images[stem]}"
            own = tuple(f"{label}/{m}" for m in sorted(masks.pop(stem, ()), key=_natural))
            if own or label == "normal":
                cases.append(Case(name=stem, image=path, masks=own, label=label))
            else:
                faults.append(Fault(path, "no-mask", "a lesion image without a mask."))
        for orphans in masks.values():
            faults += [Fault(f"{label}/{m}", "no-image", "a mask without its image.") for m in orphans]
    return Listing(root=root, cases=tuple(cases), classes=CLASSES, faults=tuple(faults))


def _files(folder: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Image files by stem, and mask files by the stem of their image."""
    images: dict[str, str] = {}
    masks: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.png")):
        match = MASK.match(path.stem)
        if match:
            masks.setdefault(match["image"], []).append(path.name)
        else:
            images[path.stem] = path.name
    return images, masks


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Order by the numbers in a name, so that 2 comes before 10."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))
