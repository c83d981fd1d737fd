"""The files of a prepared data set."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med import __version__
from gcsam_med.config import PrepareOptions
from gcsam_med.datasets import Case, Listing, SourceSpec
from gcsam_med.datasets.case import ClassRoles
from gcsam_med.datasets.download import sha256_of
from gcsam_med.datasets.prepared import (
    IMAGES,
    INFO,
    MANIFEST,
    MASKS,
    ORIGINAL_MASKS,
    SPLITS,
    DatasetInfo,
    PlaneReader,
    PlaneWriter,
    PreparedDataset,
)
from gcsam_med.devices import usable_cores
from gcsam_med.errors import InputError
from gcsam_med.escape import csv_cell, plain_cell
from gcsam_med.preparation.privacy import keyed_id
from gcsam_med.preparation.scan import Facts, Fingerprint
from gcsam_med.preparation.splits import Division
from gcsam_med.progress import Track, silent
from gcsam_med.reading import faults, read_csv, read_json

WITH_MARKS = "images_with_marks.npy"  # the images before --inpaint-marks
THUMBS = "thumbs.npy"  # (cases, 128, 128) uint8, for comparing pairs, also with other data sets


def keep_rows(folder: Path, rows: np.ndarray) -> None:
    """Remove all cases but `rows` (ascending) from the pixel files of a folder that is being written."""
    for name in (IMAGES, WITH_MARKS, MASKS, THUMBS):
        path = folder / name
        if not path.exists():
            continue
        read, rewritten = PlaneReader(path), path.with_suffix(".kept")
        with PlaneWriter(rewritten, read.plane) as planes:
            for row in rows:
                planes.append(read(np.array([row]))[0])
        rewritten.replace(path)
    masks = folder / ORIGINAL_MASKS
    new_row = {int(old): new for new, old in enumerate(rows)}
    for path in sorted(masks.glob("*.png")):
        old = int(path.stem)
        if old in new_row:
            path.replace(masks / f"{new_row[old]:06d}.png")
        else:
            path.unlink()


def is_prepared(folder: Path) -> bool:
    """Whether a folder is a prepared data set, which a new one may replace."""
    return (folder / INFO).is_file() and (folder / MANIFEST).is_file()


# A text column of a private table with more values than this and than a quarter of the cases, or than half of
# them, names cases or people instead of grouping them.
MAX_TEXT_VALUES = 20


def build_manifest(
    facts: Sequence[Facts], group_ids: Sequence[str], division: Division, *, private: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Build the manifest, a row for each case: contract columns, hashes, then attributes.

    Of private sources file names are left out, and text columns that may name people; those columns' names
    are returned too.
    """
    table = pd.DataFrame(
        {
            "case_id": [f.case_id for f in facts],
            "group_id": list(group_ids),
            # A file's name may be a person's; of private sources the hash beside it tells which file it was.
            "source_path": ["" if private else _source_path(f) for f in facts],
            "source_sha256": [f.source_sha256 for f in facts],
            "mask_sha256": [f.mask_sha256 for f in facts],
            "pixel_sha256": [f.pixel_sha256 for f in facts],
            "label": [f.case.label for f in facts],
            "split": division.split,
            "fold": division.fold,
            "height": [f.height for f in facts],
            "width": [f.width for f in facts],
            "pixel_spacing": [_spacing(f.spacing) for f in facts],
            "has_mask": [int(f.has_mask) for f in facts],
        }
    )
    left_out = []
    for name in dict.fromkeys(name for f in facts for name in f.attributes):
        column = "attribute_" + name if name in table else name
        values = [f.attributes.get(name, "") for f in facts]
        if private and _names_people(values):
            left_out.append(name)
        else:
            table[column] = values
    return table, left_out


def _source_path(facts: Facts) -> str:
    raw = facts.case.raw
    return facts.case.image if raw is None else f"{facts.case.image}@{raw.offset}"


def _spacing(spacing: tuple[float, float] | None) -> str:
    return "" if spacing is None else f"{spacing[0]:.6g}x{spacing[1]:.6g}"


def _names_people(values: Sequence[str]) -> bool:
    known = [v for v in values if v]
    if len(set(known)) <= min(max(MAX_TEXT_VALUES, len(values) // 4), len(values) // 2):
        return False
    return bool(pd.to_numeric(pd.Series(known), errors="coerce").isna().any())


def build_info(
    manifest: pd.DataFrame,
    *,
    name: str,
    spec: SourceSpec,
    listing: Listing,
    roles: ClassRoles,
    options: PrepareOptions,
    recorded: dict[str, Any],
    folds: int,
    synthetic: bool,
    patients: bool,
    split_from: str,
) -> DatasetInfo:
    """Build ``dataset.json``; `recorded` is what a later run compares its options with."""
    modality = options.modality or spec.modality
    known = "patient" if patients else "near-duplicate"
    return DatasetInfo(
        name=name,
        # Of a user's own images the name says more than "folder of images".
        title=(name if spec.private else spec.title) + (" (synthetic demonstration images)" * synthetic),
        classes=list(listing.classes),
        positive_class=roles.positive,
        negative_classes=list(roles.negative),
        empty_mask_classes=list(roles.empty_masks),
        modality=modality,
        channels=3 if modality == "photo" else 1,
        size=options.size,
        n_cases=len(manifest),
        has_masks=bool(manifest["has_mask"].any()),
        mask_target=spec.mask_target,
        synthetic=synthetic,
        group_kind="image" if options.split_by == "image" else known,  # type: ignore[arg-type]
        counts=counts_of(manifest, listing.classes),
        seed=options.seed,
        split_from=split_from,  # type: ignore[arg-type]
        folds=folds,
        tool_version=__version__,
        licence="Apache-2.0 (generated by gcsam-med)" if synthetic else spec.licence,
        citation="" if synthetic else spec.citation,
        options=recorded,
    )


def counts_of(manifest: pd.DataFrame, classes: Iterable[str]) -> dict[str, dict[str, int]]:
    """Count the cases of each split and class."""
    counts: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        labels = manifest.loc[manifest["split"] == split, "label"]
        counts[split] = {"cases": len(labels), **{c: int((labels == c).sum()) for c in classes}}
    return counts


SOURCES = "sources.json"
TASKS_AT_ONCE = 256


@dataclass(frozen=True)
class Sources:
    """Everything that went in."""

    #: SHA-256 of each image and mask file by its path relative to the source; empty for unreadable ones. Of
    #: private sources the paths are keyed hashes.
    files: dict[str, str] = field(default_factory=dict)
    #: A digest of what the listing says of each case (label, patient, split, attributes, ...).
    cases: dict[str, str] = field(default_factory=dict)
    archive_sha256: str = ""  #: Of the archive that the files came in, or empty.
    #: Size and time of the last change of each file when it was hashed; a file that still has both is not
    #: read again. Empty for archives.
    stamps: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=0, sort_keys=True) + "\n", encoding="utf-8")


def read_sources(path: Path) -> Sources | None:
    """Read what a former run recorded; None where that cannot be told."""
    try:
        return read_json(path, Sources, "")
    except InputError:
        return None


def record_sources(
    listing: Listing,
    key: bytes | None,
    archive_sha256: str = "",
    *,
    stamps: Mapping[str, str] | None = None,
    known: Mapping[str, str] | None = None,
    track: Track = silent,
) -> Sources:
    """Hash all that a listing names; with a private source's key, names and digests become keyed hashes.

    `stamps` are those of `stamps_of`, taken before the files were read; `known` are hashes by path of files
    that need not be read again.
    """
    files, cases = hash_files(listing, known or {}, track), case_digests(listing.cases)
    stamps = dict(stamps or {})
    if key is not None:
        files = {keyed_id(key, "file", path): digest for path, digest in files.items()}
        stamps = {keyed_id(key, "file", path): stamp for path, stamp in stamps.items()}
        cases = {
            keyed_id(key, "name", name): keyed_id(key, "digest", digest) for name, digest in cases.items()
        }
    return Sources(files, cases, archive_sha256, stamps)


def stamps_of(listing: Listing) -> dict[str, str]:
    """Size and time of the last change of each file that a listing names and that is there."""
    found = {}
    for path in _files_of(listing):
        with contextlib.suppress(OSError):
            state = (listing.root / path).stat()
            found[path] = f"{state.st_size}:{state.st_mtime_ns}"
    return found


def unchanged_files(former: Sources, stamps: Mapping[str, str], key: bytes | None) -> dict[str, str]:
    """Hashes, from a former run, of the files that have the size and time that they had then."""
    names = {path: path if key is None else keyed_id(key, "file", path) for path in stamps}
    same = (path for path, stamp in stamps.items() if former.stamps.get(names[path]) == stamp)
    return {path: former.files[names[path]] for path in same if former.files.get(names[path])}


def hashes_of(facts: Iterable[Facts]) -> dict[str, str]:
    """Hashes by path of the files that were read whole for their facts."""
    found: dict[str, str] = {}
    for f in facts:
        if f.case.raw is None:
            found[f.case.image] = f.source_sha256
        found.update(zip(f.case.masks, f.mask_files, strict=True))
    return found


def _files_of(listing: Listing) -> list[str]:
    return sorted({path for case in listing.cases for path in (case.image, *case.masks)})


def case_digests(cases: Iterable[Case]) -> dict[str, str]:
    """A short digest of what is known about each case, by its name."""
    return {
        case.name: hashlib.sha256(
            json.dumps({**asdict(case), "attributes": dict(case.attributes)}, sort_keys=True).encode()
        ).hexdigest()[:16]
        for case in cases
    }


def hash_files(listing: Listing, known: Mapping[str, str], track: Track = silent) -> dict[str, str]:
    """Hash the files of a listing that are not `known`, several at once; give the hashes of all."""
    paths = _files_of(listing)
    left = [path for path in paths if path not in known]
    digests = track(_digests(listing.root, left), "Checking files", len(left)) if left else ()
    found = {**known, **dict(zip(left, digests, strict=True))}
    return {path: found[path] for path in paths}


def _digests(root: Path, paths: Sequence[str]) -> Iterator[str]:
    with ThreadPoolExecutor(usable_cores()) as pool:
        # A task that waits takes more memory than its result; a whole data set of them would be felt.
        for start in range(0, len(paths), TASKS_AT_ONCE):
            yield from pool.map(lambda path: _digest(root / path), paths[start : start + TASKS_AT_ONCE])


def _digest(path: Path) -> str:
    try:
        return sha256_of(path) if path.is_file() else ""
    except OSError:
        return ""


def changes(former: Sources, now: Sources, *, name_files: bool = True) -> list[str]:
    """What changed since a former run, in words; empty if nothing did."""
    files, cases = now.files, now.cases
    added = sorted(files.keys() - former.files.keys())
    removed = sorted(former.files.keys() - files.keys())
    changed = sorted(p for p in files.keys() & former.files.keys() if files[p] != former.files[p])
    told = sorted(n for n in cases.keys() & former.cases.keys() if cases[n] != former.cases[n])
    texts = [
        _counted(added, "added", name_files),
        _counted(removed, "removed", name_files),
        _counted(changed, "changed", name_files),
        f"label, patient, split or attributes of {len(told)} cases changed" if told else "",
    ]
    return [text for text in texts if text]


def _counted(paths: list[str], verb: str, name_files: bool) -> str:
    if not paths:
        return ""
    shown = ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
    return f"{len(paths)} file{'s' if len(paths) > 1 else ''} {verb}" + (f" ({shown})" if name_files else "")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV in which no text is a formula; `plain_cell` gives the texts back."""
    written = table.rename(columns=csv_cell)
    for column in written.columns:
        if written[column].dtype.kind not in "biuf":
            written[column] = written[column].map(csv_cell)
    written.to_csv(path, index=False)


FINGERPRINTS = "fingerprints.csv"
HASHES = ("dhash", "phash", "dhash_mirrored", "phash_mirrored")


def write_fingerprints(path: Path, facts: Sequence[Facts]) -> None:
    """Write one row for each case: case id, hash of the pixels, perceptual hashes in hex."""
    rows = [
        {"case_id": f.case_id, "pixel_sha256": f.pixel_sha256}
        | {c: f"{getattr(f.fingerprint, c):016x}" for c in HASHES}
        for f in facts
    ]
    write_table(path, pd.DataFrame(rows))


def fingerprints_of(dataset: PreparedDataset) -> tuple[list[str], list[str], list[Fingerprint]]:
    """As `read_fingerprints`, for every case in the order of the manifest."""
    path = dataset.root / FINGERPRINTS
    found = read_fingerprints(path)
    with faults(path, _AGAIN):
        if found[0] != dataset.manifest["case_id"].tolist():
            raise ValueError("it is of other cases than the manifest")
    return found


_AGAIN = "Run prepare again with --force."


def read_fingerprints(path: Path) -> tuple[list[str], list[str], list[Fingerprint]]:
    """Case ids, hashes of pixels, and perceptual hashes; `InputError` if the file is missing or damaged."""
    table = read_csv(path, ["case_id", "pixel_sha256", *HASHES], _AGAIN)
    with faults(path, _AGAIN):
        prints = [
            Fingerprint(*(int(cell, 16) for cell in row))
            for row in table[list(HASHES)].itertuples(index=False)
        ]
        if any(not 0 <= value < 2**64 for found in prints for value in astuple(found)):
            raise ValueError("a hash has more than 64 bits")
    names = [plain_cell(text) for text in table["case_id"]]
    return names, table["pixel_sha256"].tolist(), prints
