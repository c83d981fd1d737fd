"""Shenzhen and Montgomery chest X-rays with lung masks: ``cxr/`` (or ``CXR_png/``) and ``masks/``.

``CHNCXR_0001_0.png`` is Shenzhen, ``MCUCXR_...`` Montgomery; the last digit is 0 for normal and 1 for
tuberculosis. A mask has its image's name, or that name with ``_mask``. Some images have none.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from gcsam_med.datasets.case import Case, Listing, locate, paired
from gcsam_med.errors import Fault
from gcsam_med.images import find_images

CLASSES = ("normal", "tuberculosis")
SITES = {"CHNCXR": "Shenzhen", "MCUCXR": "Montgomery"}
NAME = re.compile(r"^(?P<site>CHNCXR|MCUCXR)_\d+_(?P<label>[01])$")


def list_cases(source: Path) -> Listing:
    """List the lung cases; see the module's text for the layout."""
    root = locate(source, [("cxr", "masks"), ("CXR_png", "masks")], "The lung data set")
    folder = root / ("cxr" if (root / "cxr").is_dir() else "CXR_png")
    pairs, faults = paired(root, find_images(folder, nested=False), find_images(root / "masks", nested=False))
    cases: list[Case] = []
    for image, masks in pairs:
        name = PurePosixPath(image).stem
        match = NAME.match(name)
        if match is None:
            said = "names here are like CHNCXR_0001_0 or MCUCXR_0108_1."
            faults.append(Fault(image, "label-unknown", said))
            continue
        site, label = SITES[match["site"]], CLASSES[int(match["label"])]
        cases.append(Case(name, image, masks, label, attributes={"site": site}))
    without = sum(not case.masks for case in cases)
    notes = (f"{without} images have no mask; they serve classification only.",) if without else ()
    return Listing(root, tuple(cases), CLASSES, tuple(faults), notes)
