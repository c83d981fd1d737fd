"""Shenzhen and Montgomery chest X-rays with lung masks: ``cxr/`` (or ``CXR_png/``) and ``masks/``.

``CHNCXR_0001_0.png`` is Shenzhen, ``MCUCXR_...`` Montgomery; the last digit is 0 for normal and 1 for
tuberculosis. A mask has its image's name, or that name with ``_mask``. Some images have none.
"""

from __future__ import annotations

import re
from pathlib import Path

from gcsam_med.datasets.case import Case, Listing, image_files, locate, masks_by_image, no_image
from gcsam_med.errors import Fault

CLASSES = ("normal", "tuberculosis")
SITES = {"CHNCXR": "Shenzhen", "MCUCXR": "Montgomery"}
NAME = re.compile(r"^(?P<site>CHNCXR|MCUCXR)_\d+_(?P<label>[01])$")


def list_cases(source: Path) -> Listing:
    """List the lung cases; see the module's text for the layout."""
    layouts = [("cxr", "masks"), ("CXR_png", "masks")]
    root, index = locate(source, layouts, "The lung data set")
    masks = masks_by_image(image_files(root / "masks"))
    cases: list[Case] = []
    faults: list[Fault] = []
    for path in image_files(root / layouts[index][0]):
        image, match = path.relative_to(root).as_posix(), NAME.match(path.stem)
        own = tuple(m.relative_to(root).as_posix() for m in masks.pop(path.stem, ()))
        if match is None:
            faults.append(
                Fault(image, "label-unknown", "names here are like CHNCXR_0001_0 or MCUCXR_0108_1.")
            )
            continue
        cases.append(
            Case(
                name=path.stem,
                image=image,
                masks=own,
                label=CLASSES[int(match["label"])],
                attributes={"site": SITES[match["site"]]},
            )
        )
    without = sum(not case.masks for case in cases)
    notes = (f"{without} images have no mask; they serve classification only.",) if without else ()
    return Listing(root, tuple(cases), CLASSES, (*faults, *no_image(root, masks)), notes)
