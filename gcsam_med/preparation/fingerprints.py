"""The hashes of a prepared data set on disk, for finding what two data sets share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gcsam_med.errors import InputError
from gcsam_med.preparation.measurements import Fingerprint
from gcsam_med.preparation.scan import Facts

FINGERPRINTS = "fingerprints.csv"
COLUMNS = ("dhash", "phash", "dhash_mirrored", "phash_mirrored")


def write_fingerprints(path: Path, facts: Sequence[Facts]) -> None:
    """Write one row a case: case id, hash of the pixels, perceptual hashes in hex."""
    rows = [
        {"case_id": f.case_id, "pixel_sha256": f.pixel_sha256}
        | {c: f"{getattr(f.fingerprint, c):016x}" for c in COLUMNS}
        for f in facts
    ]
    pd.DataFrame(rows).to_csv(path, index=False)


def read_fingerprints(path: Path) -> tuple[list[str], list[str], list[Fingerprint]]:
    """Case ids, hashes of pixels, and perceptual hashes.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        prints = [
            Fingerprint(*(int(cell, 16) for cell in row))
            for row in table[list(COLUMNS)].itertuples(index=False)
        ]
        return table["case_id"].tolist(), table["pixel_sha256"].tolist(), prints
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is missing or damaged ({type(error).__name__}).", "Prepare the data set again."
        ) from None
