"""Which cases take part: the one rule for training, calibration, evaluation, preview and sharpness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gcsam_med.datasets.prepared import DatasetInfo, PreparedDataset


@dataclass(frozen=True)
class Selection:
    """The rows that take part, and why the others do not."""

    rows: np.ndarray  #: ndarray of int64, shape (n,): Rows of the manifest.
    excluded: dict[str, int] = field(default_factory=dict)  #: Number of cases left out, by reason.


def select_cases(
    dataset: PreparedDataset,
    rows: np.ndarray,
    task: str,
    classes: Sequence[str] | None = None,
    *,
    healthy: bool = True,
) -> Selection:
    """Choose the rows that take part in a task.

    Parameters
    ----------
    dataset : PreparedDataset
        The data set.
    rows : ndarray of int, shape (n,)
        The rows to choose from, such as a split.
    task : {"segmentation", "classification"}
        Segmentation takes cases with a mask, and healthy cases (of a negative class; they hold no lesion).
        Classification takes cases of the classes it knows.
    classes : sequence of str, optional
        Segmentation: take these alone. Classification: the classes it knows; default: all.
    healthy : bool
        Segmentation: whether healthy cases take part where `classes` does not name them.

    Returns
    -------
    Selection
        In the order of `rows`.
    """
    cases = dataset.manifest.iloc[rows]
    label = cases["label"].to_numpy(dtype=str)
    excluded: dict[str, int] = {}
    keep = np.ones(len(rows), dtype=bool)

    def leave_out(these: np.ndarray, reason: str) -> None:
        count = int((keep & these).sum())
        if count:
            excluded[reason] = count
            keep[these] = False

    if task == "segmentation":
        negative = np.isin(label, dataset.info.negative_classes)
        if classes is not None:
            leave_out(~np.isin(label, list(classes)), "of a class the run leaves out")
        elif not healthy:
            leave_out(negative, "of a class without lesions")
        leave_out(~cases["has_mask"].to_numpy(dtype=bool) & ~negative, "without a mask")
    else:
        leave_out(label == "", "without a label")
        known = dataset.info.classes if classes is None else list(classes)
        leave_out(~np.isin(label, known), "of a class the model does not know")
    return Selection(np.asarray(rows)[keep], excluded)


def class_order(names: Sequence[str], info: DatasetInfo) -> tuple[int, ...]:
    """Return the order of a model's classes in which, of two, the second is the positive one.

    The positive class is the one that is not negative by the data set's own word; else the second.
    """
    if len(names) == 2 and names[1] in info.negative_classes and names[0] not in info.negative_classes:
        return (1, 0)
    return tuple(range(len(names)))
