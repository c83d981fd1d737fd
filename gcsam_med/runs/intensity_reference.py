"""What the training images looked like, so that an image unlike them gets a flag instead of a silent answer.

Eight plain statistics of each image are compared by their Mahalanobis distance, with the covariance shrunk
(Ledoit and Wolf, J Multivariate Analysis 88(2), 2004). That notices another modality, another exposure, a
photograph of a screen, an empty or inverted image. It cannot notice a rare disease on a usual image: no flag
is no proof.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gcsam_med.errors import CheckpointError
from gcsam_med.files import read_json, write_durably
from gcsam_med.transforms.letterbox import Letterbox

REFERENCE = "training_images.json"
FEATURES = (
    "mean", "contrast", "dark share", "bright share", "entropy", "sharpness", "aspect", "size",
)  # fmt: skip
# Below this many images a covariance of eight statistics says little.
MIN_IMAGES = 40


class Reference(BaseModel):
    """``model/training_images.json``: statistics over the training images; nothing of any single one."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_version: int = Field(default=1, alias="schema", description="Version of this file's layout.")
    features: list[str] = Field(description="Names of the statistics.")
    mean: list[float] = Field(description="Mean of each.")
    precision: list[list[float]] = Field(description="Inverse of their covariance, shrunk.")
    limit: float = Field(gt=0, description="Distance that 1 % of training and validation images exceed.")
    n: int = Field(description="Training images.")
    dataset_sha256: str = Field(description="The data set they belong to.")

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Return the Mahalanobis distance of images, shape (n,), from their statistics, shape (n, 8)."""
        off = np.asarray(features, dtype=np.float64) - np.asarray(self.mean)
        square = np.einsum("ni,ij,nj->n", off, np.asarray(self.precision), off)
        return np.sqrt(np.maximum(square, 0.0))


def image_features(square: np.ndarray, geometry: Letterbox) -> np.ndarray:
    """Return the statistics of one image.

    Parameters
    ----------
    square : ndarray of uint8, shape (size, size) or (size, size, 3)
        As the network sees it; padding is left out.
    geometry : Letterbox
        How the original lies in it.

    Returns
    -------
    ndarray of float64, shape (8,)
        In the order of ``FEATURES``.
    """
    top, left, bottom, right = geometry.box
    inner = square[top:bottom, left:right]
    grey = (inner if inner.ndim == 2 else inner @ np.array([0.299, 0.587, 0.114])).astype(np.float32) / 255
    share = np.bincount((grey.ravel() * 31.999).astype(np.uint8), minlength=32) / grey.size
    known = share[share > 0]
    # Differences of neighbours against the contrast: blur lowers it, noise raises it.
    steps = np.concatenate([np.diff(grey, axis=0).ravel(), np.diff(grey, axis=1).ravel()])
    contrast = float(grey.std())
    roughness = float(np.sqrt(np.mean(steps**2))) if steps.size else 0.0
    return np.array(
        [
            float(grey.mean()),
            contrast,
            float(share[:2].sum()),
            float(share[-2:].sum()),
            float(-(known * np.log(known)).sum()),
            float(np.log((roughness + 1e-3) / (contrast + 1e-2))),
            float(np.log(geometry.width / geometry.height)),
            float(np.log(max(geometry.width, geometry.height))),
        ]
    )


def fit_reference(training: np.ndarray, validation: np.ndarray, dataset_sha256: str) -> Reference | None:
    """Summarise the training images.

    Parameters
    ----------
    training, validation : ndarray of float, shape (n, 8)
        Statistics of each image. The limit takes both, because training images fit their own mean too well.
    dataset_sha256 : str
        The data set they belong to.

    Returns
    -------
    Reference or None
        None for fewer than ``MIN_IMAGES`` training images.
    """
    from sklearn.covariance import LedoitWolf

    if len(training) < MIN_IMAGES:
        return None
    # Scaled first: shrinkage pulls towards a sphere, which only means something in one unit.
    scale = np.maximum(training.std(axis=0), 1e-3)
    fitted = LedoitWolf().fit(training / scale)
    precision = fitted.precision_ / np.outer(scale, scale)
    found = Reference(
        features=list(FEATURES),
        mean=training.mean(axis=0).tolist(),
        precision=precision.tolist(),
        limit=1.0,
        n=len(training),
        dataset_sha256=dataset_sha256,
    )
    known = [part for part in (training, validation) if len(part)]
    limit = max(float(np.quantile(found.distance(part), 0.99)) for part in known)
    return found.model_copy(update={"limit": max(limit, 1e-6)})


def save_reference(folder: Path, reference: Reference) -> None:
    """Write ``training_images.json`` into a model folder."""
    write_durably(folder / REFERENCE, (reference.model_dump_json(by_alias=True) + "\n").encode())


def load_reference(folder: Path, dataset_sha256: str) -> Reference | None:
    """Read a model folder's reference; None if there is none, or it is of other data.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    path = folder / REFERENCE
    if not path.is_file():
        return None
    try:
        reference = Reference.model_validate(read_json(path))
    except (OSError, ValueError, ValidationError) as error:
        raise CheckpointError(
            f"{path} cannot be read or is damaged.", "Delete it, or make it anew with: gcsam-med evaluate"
        ) from error
    return reference if reference.dataset_sha256 == dataset_sha256 else None
