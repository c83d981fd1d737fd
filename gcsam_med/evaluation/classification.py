"""Examining a classification: the network's answers on the examined cases and on validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.evaluation.setup import Examination
from gcsam_med.progress import Track, silent
from gcsam_med.runs import network_outputs


@dataclass(frozen=True)
class Answered:
    """Labels and probabilities of cases."""

    rows: np.ndarray  #: ndarray of int64, shape (n,): Rows of the data set.
    labels: np.ndarray  #: ndarray of int64, shape (n,): In the order of the examination's classes.
    probabilities: np.ndarray  #: ndarray of float64, shape (n, classes): In the same order.


def answer(
    exam: Examination,
    dataset: PreparedDataset,
    rows: np.ndarray,
    *,
    batch_size: int | None,
    track: Track = silent,
    what: str,
) -> Answered:
    """Ask the network about every row."""
    stream = network_outputs(exam.model, dataset.images, rows, batch_size=batch_size, track=track, what=what)
    found = [probability[list(exam.order)] for _, probability in stream]
    return Answered(
        rows,
        exam.labels(dataset, rows),
        np.array(found, dtype=np.float64).reshape(len(rows), len(exam.classes)),
    )


def case_table(
    exam: Examination, answered: Answered, calls: np.ndarray, calibrated: np.ndarray | None
) -> pd.DataFrame:
    """Return ``cases.csv``: one row a case, in manifest order."""
    manifest = exam.dataset.manifest.iloc[answered.rows]
    table = pd.DataFrame(
        {column: manifest[column].to_numpy(dtype=str) for column in ("case_id", "group_id", "label")}
    )
    table["predicted"] = np.array(exam.classes)[calls]
    table["correct"] = (calls == answered.labels).astype(int)
    for k, name in enumerate(exam.classes):
        table[f"prob_{name}"] = answered.probabilities[:, k]
    if calibrated is not None:
        for k, name in enumerate(exam.classes):
            table[f"calibrated_{name}"] = calibrated[:, k]
    return table
