"""Who made a DICOM object: this software, a model, its weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import highdicom as hd
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from gcsam_med import __version__
from gcsam_med.inference.dicom.codes import SCHEME
from gcsam_med.runs import ModelCard

NAME = "gcsam-med"
USE = "Research only, not for clinical use"


@dataclass(frozen=True)
class Maker:
    """The algorithm, as it is named in every object."""

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
        """What the result depends on, by name."""
        digests = {f"weights_sha256 {i}": digest for i, digest in enumerate(self.weights, 1)}
        return {"threshold": f"{self.threshold:.6g}", "postprocessing": self.steps, **digests}

    @property
    def serial(self) -> str:
        """Tells models apart: the weights' hash."""
        return hashlib.sha256("".join(self.weights).encode()).hexdigest()[:16]

    @property
    def device_uid(self) -> str:
        """The same for the same software and weights."""
        return str(generate_uid(prefix=None, entropy_srcs=[NAME, __version__, self.serial]))

    def series(self, number: int) -> dict[str, Any]:
        """Return what highdicom wants to know of a new object in a new series."""
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
