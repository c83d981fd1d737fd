"""What the training images look like, kept beside the weights for `predict`."""

from __future__ import annotations

import numpy as np

from gcsam_med.datasets.prepared import PreparedDataset, Split
from gcsam_med.evaluation.setup import Examination
from gcsam_med.progress import Track
from gcsam_med.runs.feature_reference import TrainingFeatures, fit_features, load_features
from gcsam_med.runs.intensity_reference import FEATURES, Reference, fit_reference, image_features

# More training images than this would not move the statistics.
MOST = 4000
_BLOCK = 256
# Every one of these costs a forward pass.
MOST_SEEN, _SEEN_AT_ONCE = 512, 16


def reference_of(exam: Examination) -> Reference | None:
    """Summarise the run's own training images; None where they are not at hand or too few."""
    home = exam.home
    if home is None:
        return None
    parts = [_features(home, home.rows(split, exam.config.fold)) for split in ("train", "val")]
    return fit_reference(parts[0], parts[1], home.info.content_sha256)


def _features(dataset: PreparedDataset, rows: np.ndarray) -> np.ndarray:
    if len(rows) > MOST:
        rows = np.random.default_rng(0).choice(rows, MOST, replace=False)
    found = [
        image_features(square, dataset.geometry(int(row)))
        for start in range(0, len(rows), _BLOCK)
        for row, square in zip(
            rows[start : start + _BLOCK], dataset.images(rows[start : start + _BLOCK]), strict=True
        )
    ]
    return np.array(found).reshape(len(rows), len(FEATURES))


def features_of(exam: Examination, track: Track) -> TrainingFeatures | None:
    """See the run's own training images through its network.

    None where they are not at hand or too few, or where it has been done for these weights.
    """
    from gcsam_med.networks.hooks import FeatureTap, find_feature_layer

    home, model = exam.home, exam.model
    if home is None or load_features(exam.run.model, model.card.weights_sha256) is not None:
        return None
    size = model.card.size
    example = model.tensor(np.zeros((1, size, size), dtype=np.uint8))
    place = find_feature_layer(model.network, model.card.task, example)
    tap = FeatureTap(model.network, place)
    vectors = []
    wanted: tuple[tuple[Split, int], ...] = (("train", MOST_SEEN), ("val", MOST_SEEN // 2))
    for split, most in wanted:
        rows = home.rows(split, exam.config.fold)
        if len(rows) > most:
            rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
        seen = []
        starts = range(0, len(rows), _SEEN_AT_ONCE)
        for start in track(starts, f"Seeing {split} images", total=len(starts)):
            model.probabilities(model.tensor(home.images(rows[start : start + _SEEN_AT_ONCE])))
            seen.append(tap.take().cpu().numpy())
        vectors.append(np.concatenate(seen) if seen else np.empty((0, 1)))
    return fit_features(vectors[0], vectors[1], place, model.card.weights_sha256)
