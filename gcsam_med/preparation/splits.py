"""Divide cases into test, validation and training by group, with similar class shares everywhere.

A split can be handed over: ``splits.json`` names cases by the hash of their content. Applied on another
machine to the same images, under whatever names, it gives the same split.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gcsam_med.errors import InputError
from gcsam_med.reading import read_plain


def connected_groups(n: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """For each of `n` cases the smallest case number of its group: int64, shape (n,).

    A group is what `pairs` of cases that belong together (shared patients, duplicates) connect.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    _, first, number = np.unique(component, return_index=True, return_inverse=True)
    return first[number]


def same(keys: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs that chain cases of one key together; an empty key belongs to nobody."""
    first: dict[Hashable, int] = {}
    pairs = []
    for i, key in enumerate(keys):
        if key:
            other = first.setdefault(key, i)
            if other != i:
                pairs.append((other, i))
    return pairs


LEAST_FOLDS = 2
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

    `labels` are the strata, cases of one number in `groups` stay together, `seed` determines the draw.

    Raises
    ------
    InputError
        If there are fewer groups than needed.
    """
    _check_groups(groups, TEST_PARTS + folds, folds, f"A test set and {folds} folds")
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

    Given folds stay as they are (-1 is test, fold 0 validation). Of a given split (``train``, ``val``,
    ``test`` or empty), ``test`` and ``val`` stay: ``val`` becomes fold 0 and ``train`` is divided into the
    other folds; without ``val``, all folds are drawn from ``train``. Groups of the source that lie on both
    sides are not torn out of its split; the audit reports them. Other parameters: see `divide`.
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
        _check_groups(groups[rest], parts, folds, f"{parts} folds of the training cases")
        drawn = _parts(strata[rest], groups[rest], parts, seed + 1) if parts > 1 else 0
        fold[rest] = first + drawn
    return _named(fold, test)


def _named(fold: np.ndarray, test: np.ndarray) -> Division:
    split = np.where(test, "test", np.where(fold == 0, "val", "train"))
    return Division(split=split, fold=fold)


def _strata(labels: Sequence[str]) -> np.ndarray:
    return np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1]


def _check_groups(groups: np.ndarray, needed: int, folds: int, what: str) -> None:
    there = len(np.unique(groups))
    if there < needed:
        fewer = folds - (needed - there)
        raise InputError(
            f"{what} need at least {needed} independent groups of images; there are {there}.",
            f"Use --folds {fewer}, or give more images."
            if fewer >= LEAST_FOLDS
            else "Give images of more patients; or a split of your own (folders train, val, test, or a "
            "column split); or use --split-by image, with which every report is stamped.",
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


SPLIT_FILE = "splits.json"
MOST_BYTES = 2**30


class Place(BaseModel):
    """Where one case goes."""

    model_config = ConfigDict(extra="forbid")

    split: Literal["train", "val", "test"]
    fold: int = Field(ge=-1, lt=1000)
    group: str = Field(max_length=200)


class SplitFile(BaseModel):
    """The content of ``splits.json``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    dataset: str = Field(description="Name of the data set that it was made for; not checked.")
    cases: dict[str, Place] = Field(
        description="By SHA-256 of the image file, with #FRAME for a frame of many."
    )


def content_key(source_sha256: str, case_id: str) -> str:
    """How a case is named in a split file."""
    _, mark, frame = case_id.rpartition("-f")
    return f"{source_sha256}#{frame}" if mark and frame.isdecimal() and len(frame) == 4 else source_sha256


def write_split_file(
    path: Path, dataset: str, keys: Sequence[str], groups: Sequence[str], division: Division
) -> None:
    """Write the split of `keys`; of exact copies of a file one entry stands for all."""
    cases = {
        key: Place(split=str(split), fold=int(fold), group=group)  # type: ignore[arg-type]
        for key, group, split, fold in zip(keys, groups, division.split, division.fold, strict=True)
    }
    file = SplitFile(dataset=dataset, cases=cases)
    path.write_text(
        json.dumps(file.model_dump(by_alias=True), indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )


def read_split_file(path: Path) -> SplitFile:
    """Read a split file; `InputError` if it cannot be read or is none."""
    try:
        return SplitFile.model_validate_json(read_plain(path, MOST_BYTES))
    except OSError as error:
        raise InputError(
            f"The split file {path} cannot be read: {error.strerror}.", "Check --splits."
        ) from None
    except (ValidationError, UnicodeDecodeError):
        raise InputError(
            f"{path.name} is not a split file of gcsam-med.",
            f"Expected the {SPLIT_FILE} of a prepared data set.",
        ) from None


def apply_split_file(file: SplitFile, keys: Sequence[str]) -> tuple[Division, list[str], int]:
    """Give each case (named by `content_key`) its place.

    Returns a split and a fold for each case, the file's group of each case, and the number of entries of the
    file without a case here.

    Raises
    ------
    InputError
        If a case is not in the file: the split would not be the same.
    """
    missing = sum(key not in file.cases for key in keys)
    if missing:
        raise InputError(
            f"{missing} of {len(keys)} images are not in the split file (their content differs from the "
            f"images that it was made for).",
            "Use the same image files, or draw a new split without --splits.",
        )
    places = [file.cases[key] for key in keys]
    division = Division(
        split=np.array([p.split for p in places]), fold=np.array([p.fold for p in places], dtype=np.int64)
    )
    return division, [p.group for p in places], len(file.cases.keys() - set(keys))
