"""One process trains in a run folder at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gcsam_med.errors import EnvironmentFault, InputError

_HELD: set[Path] = set()
"""Folders that this process holds: a lock of its kind does not keep a process from itself."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder; the system lets go of it when the process ends, however it ends.

    Raises
    ------
    InputError
        If another process trains in it.
    EnvironmentFault
        If the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = folder.resolve()
        file = path.open("a+")
    except OSError as error:
        raise EnvironmentFault(
            f"The run folder {folder} cannot be written: {error.strerror}.", "Choose another --output."
        ) from error
    with file:
        if place in _HELD:
            raise _refusal(folder, str(os.getpid()))
        try:
            # A lock of the process, not of the open file: loader workers that outlive a killed run for some
            # seconds have the file open as well, and would keep the run from being resumed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            raise _refusal(folder, file.read(20).strip()) from error
        except OSError as error:
            raise EnvironmentFault(
                f"The run folder {folder} cannot be locked: {error.strerror}.",
                "Choose an --output on a file system with locks.",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        _HELD.add(place)
        try:
            yield
        finally:
            _HELD.discard(place)


def _refusal(folder: Path, holder: str) -> InputError:
    return InputError(
        f"Process {holder or 'unknown'} is training in {folder}.", "Wait for it, or choose another --output."
    )
