"""Examining a classification: the network's answers on the examined cases and on validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.evaluation.network_outputs import answers
from gcsam_med.evaluation.setup import Examination, select
from gcsam_med.progress import Track, silent

DEFAULT_THRESHOLD = 0.5
MIN_VALIDATION_CASES = 10


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
    stream = answers(exam.model, dataset, rows, batch_size=batch_size, track=track, what=what)
    found = [probability[list(exam.order)] for _, probability in stream]
    return Answered(
        rows,
        exam.labels(dataset, rows),
        np.array(found, dtype=np.float64).reshape(len(rows), len(exam.classes)),
    )


def answer_validation(exam: Examination, *, batch_size: int | None, track: Track = silent) -> Answered | None:
    """Ask about the validation split of the run's own data set; None where that is not at hand or empty."""
    home = exam.home
    if home is None:
        return None
    rows = select(home, home.rows("val", exam.config.fold), exam.model, exam.config).rows
    if not len(rows):
        return None
    return answer(exam, home, rows, batch_size=batch_size, track=track, what="Choosing the operating point")


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
