"""Which cases take part: the one rule for training, calibration, evaluation, preview and sharpness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gcsam_med.datasets.prepared import DatasetInfo, PreparedDataset, Split
from gcsam_med.errors import InputError


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
        Segmentation takes cases with a mask, and healthy ones: of a class whose images hold nothing to
        outline, with a black mask or without one.
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
        unmasked = ~cases["has_mask"].to_numpy(dtype=bool)
        # Some sets, BUSI among them, ship a black mask beside each healthy image; others ship none.
        nothing = np.isin(label, dataset.info.empty_mask_classes)
        masked = np.flatnonzero(nothing & ~unmasked)
        nothing[masked] = [not dataset.masks([row]).any() for row in np.asarray(rows)[masked]]
        if classes is not None:
            leave_out(~np.isin(label, list(classes)), "of a class the run leaves out")
        elif not healthy:
            leave_out(nothing, f"without a {dataset.info.mask_target}")
        leave_out(unmasked & ~nothing, "without a mask")
    else:
        leave_out(label == "", "without a label")
        known = dataset.info.classes if classes is None else list(classes)
        leave_out(~np.isin(label, known), "of a class the model does not know")
    return Selection(np.asarray(rows)[keep], excluded)


def training_cases(
    dataset: PreparedDataset,
    task: str,
    classes: Sequence[str] | None,
    folds: tuple[int | None, int | None, str | None] = (None, None, None),
) -> dict[Split, Selection]:
    """Choose the cases that train and validate a run; healthy ones take no part in a segmentation's training.

    `classes` as in `select_cases`; `folds` as in `PreparedDataset.rows`.
    """
    parts: tuple[Split, ...] = ("train", "val")
    return {
        split: select_cases(dataset, dataset.rows(split, *folds), task, classes, healthy=False)
        for split in parts
    }


def took_part(selections: Mapping[Split, Selection]) -> dict[str, int]:
    """Count the cases of each split that take part, then those left out, by reason."""
    found: dict[str, int] = {split: len(selection.rows) for split, selection in selections.items()}
    for selection in selections.values():
        for reason, n in selection.excluded.items():
            found[reason] = found.get(reason, 0) + n
    return found


def positive_class(names: Sequence[str], info: DatasetInfo) -> str:
    """Return the positive one of two classes of a classification; empty for more than two.

    Raises
    ------
    InputError
        If the data set does not say it: sensitivity, threshold and more depend on it.
    """
    if len(names) != 2:
        return ""
    if info.positive_class in names:
        return info.positive_class
    left = [name for name in names if name not in info.negative_classes]
    if len(left) == 1:
        return left[0]
    raise InputError(
        f"The data set '{info.name}' does not say which of '{names[0]}' and '{names[1]}' is the finding; "
        "sensitivity, threshold and other metrics depend on it.",
        "Say it with: gcsam-med prepare ... --positive NAME (the split and trained models stay as they are).",
    )


def class_order(names: Sequence[str], positive: str) -> tuple[int, ...]:
    """Return the order of a model's classes in which, of two, the second is the positive one."""
    return (1, 0) if positive and names[0] == positive else tuple(range(len(names)))
