"""What the training images look like, kept beside the weights for `predict` (see `runs.reference`)."""

from __future__ import annotations

import numpy as np

from gcsam_med.evaluation.examination import Examination
from gcsam_med.prepared import PreparedDataset
from gcsam_med.runs.reference import FEATURES, Reference, fit_reference, image_features

# More training images than this would not move the statistics.
MOST = 4000
_BLOCK = 256


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
