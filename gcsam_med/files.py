"""Files and folders written whole or not at all, by one process at a time, and never through a link."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import socket
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from gcsam_med.errors import EnvironmentFault, InputError
from gcsam_med.escape import printable

MOST_NAME = 100
"""Characters of a name, see `is_name`; it may have twice as many bytes, which is what file systems count."""
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")
_WAIT = "Wait for it, or choose another --output."
_HELD: set[Path] = set()
"""Lock files that this process holds: a lock of its kind does not keep a process from itself."""


def is_name(text: str) -> bool:
    """Whether `text` can name a data set, a run or a study: a plain file name, and nothing else.

    No separator, no dot in front, no control character, no space at an end, at most `MOST_NAME` characters.
    """
    return (
        0 < len(text) <= MOST_NAME
        and len(text.encode("utf-8", "replace")) <= 2 * MOST_NAME
        and not text.startswith(".")
        and text == text.strip()
        and not any(c in "/\\" or unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)
    )


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path` so that after a crash it holds either its former content or `data`, whole.

    A link in its place is replaced, not followed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _open_new(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, content: Any, *, indent: int = 2) -> None:
    """Write finite JSON durably."""
    write_durably(path, (json.dumps(content, indent=indent, allow_nan=False) + "\n").encode())


def _open_new(path: Path) -> BinaryIO:
    """Create a file of our own; one that a killed process of this number left is removed, a link too."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(path, flags, 0o666), "wb")
    except FileExistsError:
        path.unlink()
        return os.fdopen(os.open(path, flags, 0o666), "wb")


def sync_folder(folder: Path) -> None:
    """Make what was renamed or created in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Append a line in one write, so that two processes at once do not tear each other's lines.

    A line that a crash cut is ended first, so that it does not swallow the new one.

    Raises
    ------
    OSError
        If the file cannot be written, or is a link, a pipe or a device.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
        cut = found.st_size > 0 and os.pread(descriptor, 1, found.st_size - 1) != b"\n"
        os.write(descriptor, (b"\n" if cut else b"") + line.encode(errors="backslashreplace") + b"\n")
    finally:
        os.close(descriptor)


def make_folder(root: Path, *below: str) -> Path:
    """Make a folder below `root`, which is ours; a link on the way, which may lead outside, is refused.

    Raises
    ------
    InputError
        If a part of the way is a link or a file.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root
    for name in below:
        folder = folder / name
        with suppress(FileExistsError):
            folder.mkdir()
        if not stat.S_ISDIR(folder.lstat().st_mode):
            kind = "a link" if folder.is_symlink() else "a file"
            raise InputError(
                f"{folder} is {kind}, where a folder was expected; nothing was written through it.",
                "Remove it, or choose another --output.",
            )
    return folder


def is_leftover(path: Path) -> bool:
    """Whether `path` is the temporary file of a `write_durably` that was cut off, or is under way."""
    return _TEMPORARY.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while they wrote left; only for who alone writes in `folder`."""
    if folder.is_dir():
        for path in folder.iterdir():
            if is_leftover(path):
                path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, doing: str, advice: str = _WAIT) -> Iterator[None]:
    """Hold a lock file; the system releases it when the process ends, however it ends.

    Parameters
    ----------
    path : Path
        The lock file; its folder is made.
    doing : str
        What the holder does, e.g. ``"training in runs/a"``; named to who finds the lock held.
    advice : str
        For who finds it held.

    Raises
    ------
    InputError
        If another process holds it.
    EnvironmentFault
        If it cannot be written.
    """
    place = path.parent.resolve() / path.name
    if place in _HELD:
        raise InputError(f"This process is already {doing}.", advice)
    descriptor = _lock(path, doing, advice)
    _HELD.add(place)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        _HELD.discard(place)
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _lock(path: Path, doing: str, advice: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise EnvironmentFault(
                f"{path.parent} cannot be written: {error.strerror}.", "Choose another --output."
            ) from error
        try:
            # A lock of the process, not of the open file: children that outlive a killed process for some
            # seconds have the file open as well, and would keep the folder locked.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, the former holder may have removed the file: then a lock of it
            # keeps nobody out.
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        except (BlockingIOError, PermissionError) as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise InputError(f"{holder} is {doing}.", advice) from error
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(descriptor)
            raise EnvironmentFault(
                f"{path.parent} cannot be locked: {error.strerror}.",
                "Choose an --output on a file system with locks.",
            ) from error
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    words = printable(os.pread(descriptor, 100, 0).decode(errors="replace").strip())
    return f"Process {words}" if words else "Another process"
