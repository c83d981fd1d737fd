"""What the training images are like, so that `predict` can flag an image unlike them (out-of-distribution).

Two references lie beside the weights. Neither says anything about a single image.

- Intensities: eight plain statistics of each image, compared by their Mahalanobis distance with the
  covariance shrunk (Ledoit and Wolf, J Multivariate Analysis 88(2), 2004). They notice another modality,
  another exposure, a photograph of a screen, an empty or inverted image.
- Features: the vectors that the network computes (see `gcsam_med.networks.hooks`), taken as
  normally distributed, with a covariance that is free along the first principal axes and equal in all other
  directions (probabilistic PCA: Tipping and Bishop, J R Statist Soc B 61(3), 1999), again compared by their
  Mahalanobis distance (Lee 2018, arXiv 1807.03888; one normal distribution for all classes: Kamoi and
  Kobayashi 2020, arXiv 2003.00402).

Neither can notice a rare disease on a usual image: no flag is no proof.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gcsam_med.errors import CheckpointError
from gcsam_med.files import SEAL, sealed, write_durably, write_json
from gcsam_med.reading import faults, parse_json, read_safetensors, validate
from gcsam_med.runs.calibration import MAKE_AGAIN, read_fitted
from gcsam_med.transforms.letterbox import Letterbox

if TYPE_CHECKING:
    from gcsam_med.networks.hooks import FeatureLayer

# Below this many images a covariance of eight statistics, or of the features, says little.
MIN_IMAGES = 40

INTENSITY_FILE, FEATURE_FILE = "training_images.json", "training_features.safetensors"
MOST_AXES = 32  # Principal axes of the features.
MOST_FEATURE_BYTES = 64 * 2**20
STATISTICS = (
    "mean", "contrast", "dark share", "bright share", "entropy", "sharpness", "aspect", "size",
)  # fmt: skip


class IntensityReference(BaseModel):
    """``model/training_images.json``: statistics over the training images; nothing of any single one."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_version: Literal[1] = Field(
        default=1, alias="schema", description="Version of this file's layout."
    )
    features: list[str] = Field(description="Names of the statistics.")
    mean: list[float] = Field(description="Mean of each.")
    precision: list[list[float]] = Field(description="Inverse of their covariance, shrunk.")
    limit: float = Field(gt=0, description="Distance that 1 % of training and validation images exceed.")
    n: int = Field(description="Training images.")
    dataset_sha256: str = Field(description="The data set they belong to.")

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        n = len(STATISTICS)
        if self.features != list(STATISTICS) or len(self.mean) != n or len(self.precision) != n:
            raise ValueError("should hold the eight statistics")
        if any(len(row) != n for row in self.precision):
            raise ValueError("precision should be a square of the eight statistics")
        if np.linalg.eigvalsh(np.asarray(self.precision)).min() <= 0:
            raise ValueError("precision should be positive definite")
        return self

    def distance(self, features: np.ndarray, without: Sequence[str] = ()) -> np.ndarray:
        """Return the Mahalanobis distance of images, shape (n,), from their statistics, shape (n, 8).

        Statistics named in `without` are left out of the distribution.
        """
        off = np.asarray(features, dtype=np.float64) - np.asarray(self.mean)
        precision = np.asarray(self.precision)
        if without:
            kept = [i for i, name in enumerate(STATISTICS) if name not in without]
            precision = np.linalg.inv(np.linalg.inv(precision)[np.ix_(kept, kept)])
            off = off[:, kept]
        square = np.einsum("ni,ij,nj->n", off, precision, off)
        return np.sqrt(np.maximum(square, 0.0))


def image_statistics(square: np.ndarray, geometry: Letterbox) -> np.ndarray:
    """Return the statistics of one image in the order of ``STATISTICS``, float64 (8,).

    `square` is what the network sees, uint8 (size, size) or (size, size, 3); its padding is left out.
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


def fit_intensities(
    training: np.ndarray, validation: np.ndarray, dataset_sha256: str
) -> IntensityReference | None:
    """Summarise the statistics of training images, (n, 8); None for fewer than ``MIN_IMAGES``.

    The limit takes training and validation images, because training images fit their own mean too well.
    """
    from sklearn.covariance import LedoitWolf

    if len(training) < MIN_IMAGES:
        return None
    # Scaled first: shrinkage pulls towards a sphere, which only means something in one unit.
    scale = np.maximum(training.std(axis=0), 1e-3)
    fitted = LedoitWolf().fit(training / scale)
    precision = fitted.precision_ / np.outer(scale, scale)
    found = IntensityReference(
        features=list(STATISTICS),
        mean=training.mean(axis=0).tolist(),
        precision=precision.tolist(),
        limit=1.0,
        n=len(training),
        dataset_sha256=dataset_sha256,
    )
    known = [part for part in (training, validation) if len(part)]
    limit = max(float(np.quantile(found.distance(part), 0.99)) for part in known)
    return found.model_copy(update={"limit": max(limit, 1e-6)})


def save_intensities(folder: Path, reference: IntensityReference) -> None:
    """Write ``training_images.json`` into a model folder."""
    write_json(folder / INTENSITY_FILE, reference.model_dump(mode="json", by_alias=True))


def load_intensities(folder: Path, dataset_sha256: str) -> IntensityReference | None:
    """Read a model folder's reference; None if there is none, or it is of other data.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    reference = read_fitted(folder / INTENSITY_FILE, IntensityReference)
    return reference if reference is not None and reference.dataset_sha256 == dataset_sha256 else None


class _FeatureFacts(BaseModel):
    """The metadata of ``model/training_features.safetensors``."""

    schema_version: Literal[1] = Field(alias="schema")
    layer: str = Field(max_length=300)
    side: Literal["input", "output"]
    rest: float = Field(gt=0)
    limit: float = Field(gt=0)
    weights_sha256: str
    arrays_sha256: str


@dataclass(frozen=True)
class FeatureReference:
    """A normal distribution of the training images' vectors."""

    place: FeatureLayer  #: Where in the network they are taken.
    mean: np.ndarray  #: ndarray of float32, shape (D,): Their mean.
    axes: np.ndarray  #: ndarray of float32, shape (K, D): First principal axes, of length 1.
    variance: np.ndarray  #: ndarray of float32, shape (K,): Along each.
    rest: float  #: Variance along any other direction.
    limit: float  #: Distance that 1 % of training or validation images exceed.
    weights_sha256: str  #: The weights they belong to.

    def distance(self, vectors: np.ndarray) -> np.ndarray:
        """Return the Mahalanobis distance of vectors (n, D), shape (n,), float64."""
        off = np.asarray(vectors, dtype=np.float64) - self.mean
        along = off @ self.axes.T.astype(np.float64)
        beside = np.maximum((off**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        return np.sqrt((along**2 / self.variance).sum(axis=1) + beside / self.rest)


def fit_features(
    training: np.ndarray, validation: np.ndarray, place: FeatureLayer, weights_sha256: str
) -> FeatureReference | None:
    """Fit the distribution of the training images' vectors, (n, D), taken at `place`.

    The limit takes training and validation images, because training images fit their own distribution too
    well. None for fewer than ``MIN_IMAGES`` training images, or where all have the same vector.
    """
    n, dimension = training.shape
    if n < MIN_IMAGES:
        return None
    off = training.astype(np.float64) - training.mean(axis=0)
    _, scale, axes = np.linalg.svd(off, full_matrices=False)
    variance = scale**2 / (n - 1)
    k = min(MOST_AXES, n // 10, dimension - 1)
    if k < 1 or not variance[k - 1] > 1e-12:
        return None
    rest = max(float(variance[k:].sum()) / (dimension - k), 1e-6 * float(variance[0]))
    found = FeatureReference(
        place,
        training.mean(axis=0).astype(np.float32),
        axes[:k].astype(np.float32),
        variance[:k].astype(np.float32),
        rest,
        1.0,
        weights_sha256,
    )
    known = [part for part in (training, validation) if len(part)]
    limit = max(float(np.quantile(found.distance(part), 0.99)) for part in known)
    return FeatureReference(**(found.__dict__ | {"limit": limit}))


def save_features(folder: Path, features: FeatureReference) -> None:
    """Write ``training_features.safetensors`` into a model folder."""
    from safetensors.numpy import save

    tensors = {"mean": features.mean, "axes": features.axes, "variance": features.variance}
    facts = {
        "schema": 1,
        "layer": features.place.layer,
        "side": features.place.side,
        "rest": features.rest,
        "limit": features.limit,
        "weights_sha256": features.weights_sha256,
    }
    whole = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()}
    facts |= {"arrays_sha256": _digest(whole)}
    said = json.dumps(sealed(facts))
    write_durably(folder / FEATURE_FILE, save(whole, {"training_features": said}))


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape}\n".encode() + arrays[name].tobytes())
    return digest.hexdigest()


def load_features(folder: Path, weights_sha256: str) -> FeatureReference | None:
    """Read a model folder's features; None if there are none, or they are of other weights.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    from gcsam_med.networks.hooks import FeatureLayer

    path = folder / FEATURE_FILE
    if not path.exists():
        return None
    arrays, metadata = read_safetensors(path, MAKE_AGAIN, fault=CheckpointError, most=MOST_FEATURE_BYTES)
    with faults(path, MAKE_AGAIN, CheckpointError):
        said = parse_json(metadata.get("training_features", ""))
        facts = validate(said, _FeatureFacts)
        if sealed(said)[SEAL] != said.get(SEAL) or _digest(arrays) != facts.arrays_sha256:
            raise ValueError("it was changed since it was written")
        if arrays.keys() != {"mean", "axes", "variance"}:
            raise ValueError("it should hold mean, axes and variance")
        mean, axes, variance = arrays["mean"], arrays["axes"], arrays["variance"]
        if mean.ndim != 1 or axes.shape != (len(variance), len(mean)) or variance.ndim != 1:
            raise ValueError("its shapes do not fit")
        if not (variance > 0).all():
            raise ValueError("a variance is not positive")
    found = FeatureReference(
        FeatureLayer(facts.layer, facts.side),
        mean,
        axes,
        variance,
        facts.rest,
        facts.limit,
        facts.weights_sha256,
    )
    return found if found.weights_sha256 == weights_sha256 else None
