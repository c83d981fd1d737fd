"""What the network made of the training images, so that an image it sees as unlike them gets a flag.

The vectors (see `gcsam_med.networks.hooks`) are taken as normally distributed, with a covariance
that is free along the first principal axes and round in the rest (probabilistic PCA: Tipping and Bishop, J
R Statist Soc B 61(3), 1999); an image is as far off as its Mahalanobis distance (Lee 2018, arXiv
1807.03888; one normal distribution for all classes: Kamoi and Kobayashi 2020, arXiv 2003.00402).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gcsam_med.errors import CheckpointError
from gcsam_med.files import write_durably

if TYPE_CHECKING:
    from gcsam_med.networks.hooks import FeatureLayer

FEATURES = "training_features.safetensors"
MOST_AXES = 32
# Below this many images an axis would be fitted on fewer than four.
MIN_IMAGES = 40


@dataclass(frozen=True)
class TrainingFeatures:
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
) -> TrainingFeatures | None:
    """Fit the distribution.

    Parameters
    ----------
    training, validation : ndarray of float, shape (n, D)
        One vector an image. Mean and covariance take the first, the limit both, because training images fit
        their own distribution too well.
    place : FeatureLayer
        Where they were taken.
    weights_sha256 : str
        The weights they belong to.

    Returns
    -------
    TrainingFeatures or None
        None for fewer than ``MIN_IMAGES`` training images, or where all have the same vector.
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
    found = TrainingFeatures(
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
    return TrainingFeatures(**(found.__dict__ | {"limit": limit}))


def save_features(folder: Path, features: TrainingFeatures) -> None:
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
    write_durably(folder / FEATURES, save(whole, {"training_features": json.dumps(facts)}))


def load_features(folder: Path, weights_sha256: str) -> TrainingFeatures | None:
    """Read a model folder's features; None if there are none, or they are of other weights.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    from gcsam_med.networks.hooks import FeatureLayer

    path = folder / FEATURES
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads(file.metadata()["training_features"])
            mean, axes, variance = (file.get_tensor(name) for name in ("mean", "axes", "variance"))
        found = TrainingFeatures(
            FeatureLayer(str(facts["layer"]), "input" if facts["side"] == "input" else "output"),
            mean,
            axes,
            variance,
            float(facts["rest"]),
            float(facts["limit"]),
            str(facts["weights_sha256"]),
        )
        if not (found.limit > 0 and found.rest > 0 and (variance > 0).all()):
            raise ValueError("a spread is not positive")
        found.distance(mean[None])  # shapes that do not fit fail here
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read or is damaged.", "Delete it, or make it anew with: gcsam-med evaluate"
        ) from error
    return found if found.weights_sha256 == weights_sha256 else None
