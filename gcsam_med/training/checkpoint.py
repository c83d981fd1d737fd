"""Checkpoints: everything a resume needs, written so that there is always a good one.

A checkpoint is a temporary file that is synced and renamed; ``index.json`` beside it holds the hash of each.
The last two are kept, so that a damaged one costs the way from the one before. If the index itself is
damaged, the files' own checksums tell which are whole.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gcsam_med.errors import CheckpointError, EnvironmentFault
from gcsam_med.files import remove_leftovers, write_durably
from gcsam_med.reading import parse_json, read_plain

INDEX, KEPT = "index.json", 2
MOST_BYTES, MOST_INDEX_BYTES = 64 * 2**30, 2**20
_ADVICE = {
    errno.ENOSPC: "Free disk space",
    errno.EDQUOT: "Free disk space",
    errno.EFBIG: "Raise the limit with `ulimit -f`",
    errno.EROFS: "Make the file system writable",
    errno.EACCES: "Allow yourself to write there",
    errno.EPERM: "Allow yourself to write there",
}
FILE = re.compile(r"step-(\d{8,})\.pt")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back."""

    step: int  #: Steps done.
    state: dict[str, Any]  #: As given to `save_checkpoint`.
    skipped: tuple[str, ...]  #: Newer checkpoints that were passed over, each with its reason.


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint of tensors and plain values after `step` steps; former ones stay until it is safe.

    Raises
    ------
    EnvironmentFault
        If the disk refuses (full, read-only, no permission); former checkpoints are untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    path = folder / f"step-{step:08d}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(path, data)
        # What is past this step belongs to a way that a resume left: it must not be taken for the newest.
        entries = [e for e in _entries(folder)[0] if e.step < step]
        entries = [*entries, _Entry(path.name, step, hashlib.sha256(data).hexdigest())][-KEPT:]
        write_durably(folder / INDEX, (json.dumps([vars(e) for e in entries], indent=1) + "\n").encode())
        _tidy(folder, {entry.file for entry in entries})
    except OSError as error:
        raise EnvironmentFault(
            f"The checkpoint of step {step} ({len(data) / 2**20:.0f} MiB) could not be written to {folder}: "
            f"{error.strerror}.",
            f"Earlier checkpoints are unharmed. {_ADVICE.get(error.errno or 0, 'Check the disk')}, then: "
            f"gcsam-med train --resume {folder.parent}",
        ) from error
    return path


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint of ``RUN/checkpoints`` that is whole; None if there never was one.

    Raises
    ------
    CheckpointError
        If there are checkpoints and none is whole, or one holds other things than tensors and plain values.
    """
    entries, fault = _entries(folder)
    skipped = [fault] if fault else []
    for entry in reversed(entries):
        path = folder / entry.file
        try:
            data = read_plain(path, MOST_BYTES, follow=False)
        except OSError as error:
            skipped.append(f"{path.name} cannot be read ({error.strerror})")
            continue
        if not _is_whole(data, entry.sha256):
            skipped.append(f"{path.name} is damaged (its hash does not fit)")
            continue
        return Checkpoint(entry.step, _unpacked(path, data), tuple(skipped))
    if skipped:
        raise CheckpointError(
            f"No checkpoint in {folder} is whole: {'; '.join(skipped)}.",
            "Restore the folder from a backup, or train again into another --output.",
        )
    return None


@dataclass(frozen=True)
class _Entry:
    """A line of the index; without a hash where the index is lost."""

    file: str
    step: int
    sha256: str | None


def _unpacked(path: Path, data: bytes) -> dict[str, Any]:
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        # Of whatever kind: what a hostile file makes the reader raise cannot be listed.
        raise CheckpointError(
            f"{path} holds other things than tensors and plain values ({type(error).__name__}).",
            "gcsam-med did not write it. Remove it only if you trust the folder's other checkpoints.",
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a checkpoint of gcsam-med.", "Restore it from a backup.")
    return state


def _is_whole(data: bytes, sha256: str | None) -> bool:
    if sha256 is not None:
        return hashlib.sha256(data).hexdigest() == sha256
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError):
        # The last for parts that are encrypted, or packed in a way that zipfile does not know: not our files.
        return False


def _tidy(folder: Path, kept: set[str]) -> None:
    """Remove older checkpoints, and what a process that was killed while it wrote left behind."""
    for path in folder.iterdir():
        if FILE.fullmatch(path.name) and path.name not in kept:
            path.unlink(missing_ok=True)
    remove_leftovers(folder)


def _entries(folder: Path) -> tuple[list[_Entry], str]:
    """What the index lists, oldest first; if it is damaged, the files there are, and the fault."""
    path = folder / INDEX
    try:
        entries = [_Entry(**entry) for entry in parse_json(read_plain(path, MOST_INDEX_BYTES, follow=False))]
        for entry in entries:
            _check(entry)
        return sorted(entries, key=lambda entry: entry.step), ""
    except FileNotFoundError:
        # A kill between the first checkpoint and its index leaves it so.
        fault = "missing"
    except OSError as error:
        fault = f"not readable ({error.strerror})"
    except (ValueError, TypeError, RecursionError):
        fault = "damaged"
    names = (FILE.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else ()
    found = sorted((int(match[1]), match[0]) for match in names if match)
    return [_Entry(name, step, None) for step, name in found], f"{INDEX} is {fault}" if found else ""


def _check(entry: _Entry) -> None:
    match = FILE.fullmatch(entry.file)
    if match is None or int(match[1]) != entry.step or not isinstance(entry.sha256, str):
        raise ValueError("not a line of this index")
