"""Checkpoints: everything a resume needs, written so that there is always a good one.

A checkpoint is a temporary file that is synced and renamed; ``index.json`` beside it holds the hash of each.
The last two are kept, so that a damaged one costs the way from the one before.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gcsam_med.errors import CheckpointError, EnvironmentFault
from gcsam_med.files import write_durably

INDEX, KEPT = "index.json", 2


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back.

    Parameters
    ----------
    step : int
        Steps done.
    state : dict
        As given to `save_checkpoint`.
    skipped : tuple of str
        Newer checkpoints that were passed over, each with its reason.
    """

    step: int
    state: dict[str, Any]
    skipped: tuple[str, ...]


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint; the former ones stay until it is safe.

    Parameters
    ----------
    folder : Path
        ``RUN/checkpoints``; created.
    step : int
        Steps done.
    state : dict
        Tensors and plain values only.

    Returns
    -------
    Path
        The file.

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
        entries = [e for e in _index(folder) if e["file"] != path.name]
        entries.append({"file": path.name, "step": step, "sha256": hashlib.sha256(data).hexdigest()})
        entries.sort(key=lambda entry: entry["step"])
        write_durably(folder / INDEX, (json.dumps(entries[-KEPT:], indent=1) + "\n").encode())
        for entry in entries[:-KEPT]:
            (folder / entry["file"]).unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"The checkpoint of step {step} ({len(data) / 2**20:.0f} MiB) could not be written to {folder}: "
            f"{error.strerror}.",
            "Earlier checkpoints are unharmed. Free disk space or choose another --output, then --resume.",
        ) from error
    return path


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint that is whole.

    Parameters
    ----------
    folder : Path
        ``RUN/checkpoints``.

    Returns
    -------
    Checkpoint or None
        None if there never was one.

    Raises
    ------
    CheckpointError
        If there are checkpoints and none is whole.
    """
    entries = _index(folder)
    skipped: list[str] = []
    for entry in reversed(entries):
        path = folder / entry["file"]
        try:
            data = path.read_bytes()
        except OSError as error:
            skipped.append(f"{path.name} cannot be read ({error.strerror})")
            continue
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            skipped.append(f"{path.name} is damaged (its hash does not fit)")
            continue
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return Checkpoint(int(entry["step"]), state, tuple(skipped))
    if skipped:
        raise CheckpointError(
            f"No checkpoint in {folder} is whole: {'; '.join(skipped)}.",
            "Restore the folder from a backup, or train again into another --output.",
        )
    return None


def _index(folder: Path) -> list[dict[str, Any]]:
    path = folder / INDEX
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not all(
            isinstance(e["file"], str)
            and Path(e["file"]).name == e["file"]
            and isinstance(e["step"], int)
            and isinstance(e["sha256"], str)
            for e in entries
        ):
            raise ValueError("entries without a plain file name, step and sha256")
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.", "Restore it from a backup.") from error
    return list(entries)
