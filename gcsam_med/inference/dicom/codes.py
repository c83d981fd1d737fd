"""What is said of an image, in the terms of SNOMED CT, DICOM and UCUM (pydicom's tables of PS3.16)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from gcsam_med.datasets import DATASETS
from gcsam_med.runs import ModelCard

SCHEME = "99GCSAMMED"
"""Private coding scheme (PS3.16 8.2: names that begin with 99) for what no standard table has."""

LARGEST_REGION = CodedConcept("largest-region", SCHEME, "Largest connected region")
PIXELS = CodedConcept("{pixels}", "UCUM", "pixels")
PREDICTED = CodedConcept("predicted-class", SCHEME, "Predicted class")
_CLASSES = {
    "benign": codes.SCT.Benign,
    "malignant": codes.SCT.Malignant,
    "normal": codes.SCT.Normal,
}


@dataclass(frozen=True)
class Terms:
    """The codes for a model's answers about one image."""

    #: category, kind: Of what is outlined (segmented property category and type); None where nothing is.
    category: Any | None
    kind: Any | None
    site: Any | None  #: Where it lies.
    procedure: Any  #: How the image was made.


def terms(card: ModelCard, body_part: str) -> Terms:
    """Choose the codes.

    Parameters
    ----------
    card : ModelCard
        What the model was trained on.
    body_part : str
        The image's Body Part Examined, or empty.

    Returns
    -------
    Terms
        A breast or lung is named only where the training data or the image say so.
    """
    anatomy = DATASETS[card.dataset].anatomy if card.dataset in DATASETS else ""
    breast = card.modality == "ultrasound" and (anatomy == "breast" or body_part.upper() == "BREAST")
    if card.modality == "xray":
        procedure = codes.SCT.ChestImaging
    else:
        procedure = codes.SCT.UltrasonographyOfBreast if breast else codes.SCT.DiagnosticUltrasonography
    lung = card.modality == "xray" and anatomy == "lung"
    site = codes.SCT.Breast if breast else codes.SCT.Lung if lung else None
    if card.task != "segmentation":
        return Terms(None, None, site, procedure)
    target = card.classes[0]
    if target == "lung":
        return Terms(codes.SCT.BodyStructure, codes.SCT.Lung, None, procedure)
    kind = codes.SCT.Lesion if target == "lesion" else own(target, target)
    return Terms(codes.SCT.MorphologicallyAbnormalStructure, kind, site, procedure)


def own(value: str, meaning: str) -> CodedConcept:
    """Return a code of the private scheme; a name of any length and alphabet becomes a code value."""
    return CodedConcept(re.sub(r"[^\w.-]+", "-", value)[:64], SCHEME, meaning[:64])


def class_code(name: str) -> Any:
    """Return the code of a class: SNOMED's where there is one."""
    return _CLASSES.get(name.lower()) or own(f"class-{name}", name)


def probability_code(name: str, calibrated: bool) -> CodedConcept:
    """Return the name of the probability of a class."""
    start = "Calibrated probability" if calibrated else "Probability"
    return own(f"{'calibrated' if calibrated else 'probability'}-{name}", f"{start} of class {name}")
