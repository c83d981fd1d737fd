"""What a prepared data set was made from, so that a second run can tell whether anything changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gcsam_med.datasets import Case, Listing
from gcsam_med.datasets.download import sha256_of
from gcsam_med.preparation.privacy import keyed_id
from gcsam_med.progress import Track, silent

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

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=0, sort_keys=True) + "\n", encoding="utf-8")


def read_sources(path: Path) -> Sources | None:
    """Read what a former run recorded; None where that cannot be told."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Sources(**content)
    except (OSError, ValueError, TypeError):
        return None


def record_sources(
    listing: Listing, key: bytes = b"", archive_sha256: str = "", track: Track = silent
) -> Sources:
    """Hash all that a listing names.

    Parameters
    ----------
    listing : Listing
        The source.
    key : bytes
        Of a private source (`identity_key`): names and digests become keyed hashes. Empty for public ones.
    archive_sha256 : str
        Of the archive that the files came in, or empty.
    track : Track
        Shows progress.
    """
    files, cases = hash_files(listing, track), case_digests(listing.cases)
    if key:
        files = {keyed_id(key, "file", path): digest for path, digest in files.items()}
        cases = {
            keyed_id(key, "name", name): keyed_id(key, "digest", digest) for name, digest in cases.items()
        }
    return Sources(files, cases, archive_sha256)


def case_digests(cases: Iterable[Case]) -> dict[str, str]:
    """A short digest of what is known about each case, by its name."""
    return {
        case.name: hashlib.sha256(
            json.dumps({**asdict(case), "attributes": dict(case.attributes)}, sort_keys=True).encode()
        ).hexdigest()[:16]
        for case in cases
    }


def hash_files(listing: Listing, track: Track = silent) -> dict[str, str]:
    """Hash all files of a listing, several at once."""
    paths = sorted({path for case in listing.cases for path in (case.image, *case.masks)})
    return dict(zip(paths, track(_digests(listing.root, paths), "Checking files", len(paths)), strict=True))


def _digests(root: Path, paths: Sequence[str]) -> Iterator[str]:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
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
