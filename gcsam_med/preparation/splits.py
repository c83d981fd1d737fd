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
    """Where each case goes."""

    split: np.ndarray  #: ndarray of str, shape (n,): ``train``, ``val`` or ``test``.
    #: ndarray of int64, shape (n,): 0 .. folds - 1; -1 for test. The default validation split is fold 0.
    fold: np.ndarray

    @property
    def folds(self) -> int:
        """Number of folds."""
        return int(self.fold.max(initial=-1)) + 1


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
    _check_groups(groups, TEST_PARTS + folds, f"A test set and {folds} folds")
    strata = _strata(labels)
    test = _parts(strata, groups, TEST_PARTS, seed) == 0
    return _fold_rest(strata, groups, test, np.full(len(strata), False), folds, seed)


def complete(
    labels: Sequence[str],
    groups: np.ndarray,
    given: Sequence[str],
    given_folds: Sequence[int | None],
    folds: int,
    seed: int,
) -> Division:
    """Honour a split that the source gives, and draw only what it leaves open.

    Given folds stay as they are (-1 is test, fold 0 validation). Of a given split, ``test`` and ``val`` stay:
    ``val`` becomes fold 0 and ``train`` is divided into the other folds; without ``val``, all folds are drawn
    from ``train``. Groups of the source that lie on both sides are not torn out of its split; the audit
    reports them.

    Parameters
    ----------
    labels, groups, folds, seed
        See `divide`.
    given : sequence of str, length n
        ``train``, ``val``, ``test``, or empty in all cases but test where folds are given.
    given_folds : sequence of int or None, length n
        Fold numbers, or None in all cases.

    Returns
    -------
    Division
        A split and a fold for each case.
    """
    strata, split = _strata(labels), np.asarray(given)
    test, val = split == "test", split == "val"
    if all(fold is not None for fold in given_folds):
        fold = np.array([fold if fold is not None else -1 for fold in given_folds], dtype=np.int64)
        return _named(fold, fold == -1)
    return _fold_rest(strata, groups, test, val, folds, seed)


def _fold_rest(
    strata: np.ndarray, groups: np.ndarray, test: np.ndarray, val: np.ndarray, folds: int, seed: int
) -> Division:
    """Draw folds over what is not test; a given validation set is fold 0."""
    fold = np.full(len(strata), -1, dtype=np.int64)
    fold[val] = 0
    rest = np.flatnonzero(~test & ~val)
    first, parts = (1, folds - 1) if val.any() else (0, folds)
    if len(rest):
        _check_groups(groups[rest], parts, f"{parts} folds of the training cases")
        drawn = _parts(strata[rest], groups[rest], parts, seed + 1) if parts > 1 else 0
        fold[rest] = first + drawn
    return _named(fold, test)


def _named(fold: np.ndarray, test: np.ndarray) -> Division:
    split = np.where(test, "test", np.where(fold == 0, "val", "train"))
    return Division(split=split, fold=fold)


def _strata(labels: Sequence[str]) -> np.ndarray:
    return np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1]


def _check_groups(groups: np.ndarray, needed: int, what: str) -> None:
    there = len(np.unique(groups))
    if there < needed:
        raise InputError(
            f"{what} need at least {needed} independent groups of images; there are {there}.",
            "Give more images, or fewer --folds.",
        )


def _parts(strata: np.ndarray, groups: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """Part number of each case, groups whole, strata balanced (scikit-learn's StratifiedGroupKFold)."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed % 2**32)
    number = np.empty(len(strata), dtype=np.int64)
    # The splitter refuses classes that are all rarer than the number of parts; then balance cannot be had.
    usable = strata if np.bincount(strata).max(initial=0) >= parts else np.zeros_like(strata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class rarer than the number of parts
        for part, (_, chosen) in enumerate(splitter.split(usable, usable, groups)):
            number[chosen] = part
    return number
