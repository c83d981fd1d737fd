"""Divide cases into test, validation and training by group, with similar class shares everywhere."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gcsam_med.errors import InputError

TEST_PARTS = 5  # one of five parts is the test set


@dataclass(frozen=True)
class Division:
    """Where each case goes.

    Parameters
    ----------
    split : ndarray of str, shape (n,)
        ``train``, ``val`` or ``test``.
    fold : ndarray of int64, shape (n,)
        0 .. folds - 1; -1 for test. The default validation split is fold 0.
    """

    split: np.ndarray
    fold: np.ndarray


def divide(labels: Sequence[str], groups: np.ndarray, folds: int, seed: int) -> Division:
    """Draw a test set of a fifth and `folds` folds over the rest; no group is in two of them.

    Parameters
    ----------
    labels : sequence of str, length n
        Strata.
    groups : ndarray of int64, shape (n,)
        Cases of one number stay together.
    folds : int
        Folds over the cases that are not test.
    seed : int
        Determines the draw.

    Returns
    -------
    Division
        A split and a fold for each case.

    Raises
    ------
    InputError
        If there are fewer groups than needed.
    """
    n_groups = len(np.unique(groups))
    if n_groups < TEST_PARTS + folds:
        raise InputError(
            f"A test set and {folds} folds need at least {TEST_PARTS + folds} independent groups of images; "
            f"there are {n_groups}.",
            "Give more images, or fewer --folds.",
        )
    strata = np.unique(np.asarray(labels), return_inverse=True)[1]
    test = _parts(strata, groups, TEST_PARTS, seed) == 0
    fold = np.full(len(strata), -1, dtype=np.int64)
    rest = np.flatnonzero(~test)
    fold[rest] = _parts(strata[rest], groups[rest], folds, seed + 1)
    split = np.where(test, "test", np.where(fold == 0, "val", "train"))
    return Division(split=split, fold=fold)


def _parts(strata: np.ndarray, groups: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """Part number of each case, groups whole, strata balanced (scikit-learn's StratifiedGroupKFold)."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed % 2**32)
    number = np.empty(len(strata), dtype=np.int64)
    counts = np.bincount(strata)
    # The splitter refuses classes that are all rarer than the number of parts; then balance cannot be had.
    usable = strata if counts.max(initial=0) >= parts else np.zeros_like(strata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class rarer than the number of parts
        for part, (_, chosen) in enumerate(splitter.split(usable, usable, groups)):
            number[chosen] = part
    return number
