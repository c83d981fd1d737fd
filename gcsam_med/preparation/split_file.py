"""A split that can be handed over: ``splits.json`` names cases by the hash of their content.

Applied on another machine to the same images, under whatever names, it gives the same split.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gcsam_med.errors import InputError
from gcsam_med.files import read_regular
from gcsam_med.preparation.splits import Division

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
    """Read a split file.

    Raises
    ------
    InputError
        If it cannot be read or is none.
    """
    try:
        return SplitFile.model_validate_json(read_regular(path, MOST_BYTES))
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
    """Give each case its place.

    Parameters
    ----------
    file : SplitFile
        The split.
    keys : sequence of str
        See `content_key`.

    Returns
    -------
    division : Division
        A split and a fold for each case.
    groups : list of str
        The file's group of each case.
    unused : int
        Entries of the file without a case here.

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
