"""One process trains in a run folder at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gcsam_med.errors import EnvironmentFault, InputError


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
        file = path.open("a+")
    except OSError as error:
        raise EnvironmentFault(
            f"The run folder {folder} cannot be written: {error.strerror}.", "Choose another --output."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise InputError(
                f"Process {file.read().strip() or 'unknown'} is training in {folder}.",
                "Wait for it, or choose another --output.",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
