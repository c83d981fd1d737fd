"""Kermany's paediatric chest X-rays: ``chest_xray/{train,test,val}/{NORMAL,PNEUMONIA}``, 5,856 images.

``person1946_bacteria_4874.jpeg`` tells the patient and the cause, ``IM-0115-0001.jpeg`` and
``NORMAL2-IM-0381-0001.jpeg`` the patient. The given split is honoured; its val has 16 images.
"""

from __future__ import annotations

import re
from pathlib import Path

from gcsam_med.datasets.case import Case, Listing, locate
from gcsam_med.errors import Fault
from gcsam_med.images import find_images

CLASSES = ("NORMAL", "PNEUMONIA")
NAME = re.compile(r"(?P<patient>person\d+)_(?P<cause>bacteria|virus)_|(?P<normal>(NORMAL2-)?IM-\d+)")


def list_cases(source: Path) -> Listing:
    """List the cases; see the module's text for the layout."""
    root = locate(source, [("train/NORMAL", "test/NORMAL")], "Kermany's chest X-rays")
    cases: list[Case] = []
    faults: list[Fault] = []
    for split in ("train", "val", "test"):
        for label in CLASSES:
            folder = root / split / label
            for path in find_images(folder, nested=False) if folder.is_dir() else ():
                image, match = f"{split}/{label}/{path.name}", NAME.match(path.stem)
                if match is None:
                    said = "names here are like person1_virus_6 or IM-0115-0001."
                    faults.append(Fault(image, "patient-unknown", said))
                    continue
                patient, cause = match["patient"] or match["normal"], match["cause"] or "none"
                known = {"cause": cause}
                cases.append(Case(path.stem, image, (), label, patient, split, attributes=known))
    return Listing(root, tuple(cases), CLASSES, tuple(faults))
