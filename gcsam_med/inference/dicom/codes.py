"""A DICOM object's codes (SNOMED CT, DICOM and UCUM, from pydicom's tables of PS3.16) and its algorithm."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import highdicom as hd
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from gcsam_med import __version__
from gcsam_med.datasets import DATASETS
from gcsam_med.runs import ModelCard

NAME = "gcsam-med"
USE = "Research only, not for clinical use"

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
    """The codes for a model's predictions about one image."""

    category: Any | None  #: Segmented property category; None for a classification.
    kind: Any | None  #: Segmented property type; None for a classification.
    site: Any | None  #: Where the finding lies.
    procedure: Any  #: How the image was made.


def terms(card: ModelCard, body_part: str) -> Terms:
    """Choose the codes; `body_part` is the image's Body Part Examined, or empty.

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


@dataclass(frozen=True)
class Maker:
    """The algorithm that made an object: this software, a model, its weights."""

    card: ModelCard  #: The (first) model's card.
    weights: tuple[str, ...]  #: sha256 of each model's weights.
    threshold: float  #: The operating point.
    steps: str  #: Post-processing, in words.

    @property
    def name(self) -> str:
        """Name of the algorithm."""
        several = f", ensemble of {len(self.weights)}" if len(self.weights) > 1 else ""
        return f"{NAME} {self.card.model} on {self.card.dataset}{several}"[:64]

    @property
    def use(self) -> str:
        """What it is for; generated training data are named."""
        return "Synthetic training data, research only" if self.card.synthetic else USE

    @property
    def parameters(self) -> dict[str, str]:
        """What the result depends on."""
        digests = {f"weights_sha256 {i}": digest for i, digest in enumerate(self.weights, 1)}
        return {"threshold": f"{self.threshold:.6g}", "postprocessing": self.steps, **digests}

    @property
    def serial(self) -> str:
        """Hash of the weights: tells models apart."""
        return hashlib.sha256("".join(self.weights).encode()).hexdigest()[:16]

    @property
    def device_uid(self) -> str:
        """The same for the same software and weights."""
        return str(generate_uid(prefix=None, entropy_srcs=[NAME, __version__, self.serial]))

    def series(self, number: int) -> dict[str, Any]:
        """Return highdicom's arguments for a new object in a new series."""
        return {
            "series_instance_uid": hd.UID(),
            "series_number": number,
            "sop_instance_uid": hd.UID(),
            "instance_number": 1,
            "manufacturer": NAME,
            "manufacturer_model_name": self.name,
            "software_versions": __version__,
            "device_serial_number": self.serial,
        }

    def identification(self) -> Any:
        """Return the algorithm identification of a segment (PS3.3 10.16)."""
        return hd.AlgorithmIdentificationSequence(
            self.name,
            codes.DCM.ArtificialIntelligence,
            __version__,
            source=NAME,
            parameters=self.parameters,
        )

    def finish(self, dataset: Dataset, what: str, identity: Dataset) -> Dataset:
        """Add the patient's and the study's identity, the series' name, and what the private codes are.

        The identity is kept from highdicom and pydicom until here: both print names and dates they find odd.
        """
        dataset.update(identity)
        dataset.SeriesDescription = f"{what} ({self.use})"[:64]
        scheme = Dataset()
        scheme.CodingSchemeDesignator = SCHEME
        scheme.CodingSchemeName = "Terms of the software gcsam-med"
        dataset.CodingSchemeIdentificationSequence = [scheme]
        return dataset
