"""Files and folders written whole or not at all, by one process at a time, and never through a link."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from gcsam_med.errors import EnvironmentFault, InputError
from gcsam_med.escape import printable

MOST_NAME = 100
"""Characters of a name, see `is_name`; it may have twice as many bytes, which is what file systems count."""
NOT_PLAIN = (errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EISDIR)
"""Errors of `append_line` for a link, a pipe or device, a folder."""
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


SEAL = "seal"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add a hash of a JSON object of finite numbers to it, by which `reading.read_json` knows a changed file.

    It guards against accidents and tired hands, not against whoever computes the hash anew.
    """
    plain = {name: value for name, value in content.items() if name != SEAL}
    # As read again from a file: tuples are lists there, and keys are texts.
    again = json.loads(json.dumps(plain, allow_nan=False))
    return plain | {SEAL: hashlib.sha256(json.dumps(again, sort_keys=True).encode()).hexdigest()}


def write_json(path: Path, content: Mapping[str, Any], *, indent: int = 2) -> None:
    """Write a JSON object of ours durably, `sealed`."""
    write_durably(path, json_bytes(content, indent=indent))


def json_bytes(content: Mapping[str, Any], *, indent: int = 2) -> bytes:
    """Return what `write_json` writes."""
    return (json.dumps(sealed(content), indent=indent, allow_nan=False) + "\n").encode()


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


def append_line(path: Path, line: str, *, durable: bool = False) -> None:
    """Append a line in one write, so that two processes at once do not tear each other's lines.

    A line that a crash cut is ended first, so that it does not swallow the new one. With
    `durable`, the line is on the disk when this returns.

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
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_to_append(path: Path, *, anew: bool = False) -> BinaryIO:
    """Open a plain file to append to, or to write `anew`; a link is not followed.

    Raises
    ------
    OSError
        If it cannot be written, or is a link, a pipe or a device.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags | (os.O_TRUNC if anew else os.O_APPEND), 0o666), "wb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a plain file")
    return file


def write_named(path: Path, data: bytes, ours: Callable[[Path], bool]) -> None:
    """Write a file where the user asked for it: a link, a folder or a file that is not `ours` stays.

    Raises
    ------
    InputError
        If one of them is in its place.
    """
    if path.is_symlink() or path.exists():
        kind = "a link" if path.is_symlink() else "" if path.is_file() else "no file"
        if kind or not ours(path):
            raise InputError(
                f"{path} is {kind or 'not a file of gcsam-med'}; it was left as it is.",
                "Remove it, or give another --output.",
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, data)


def check_place(target: Path, advice: str) -> Path:
    """Refuse a link or a file where a folder is to be written; return the absolute path.

    Raises
    ------
    InputError
        If one is there.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - links are looked at, not followed
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        kind = "a link" if target.is_symlink() else "a file"
        raise InputError(f"{target} is {kind}, where a folder is to be written; it was left.", advice)
    return target


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


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait for a lock file that others hold for moments only, and hold it; it stays where it is."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Give an empty folder of our own for as long as the context lasts; those of killed processes go first.

    A lock on the folder itself, which ends with its process, tells one that is in use.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{prefix}*"):
        with suppress(OSError), _folder_lock(left):
            shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        with suppress(OSError):  # a file system without locks
            stack.enter_context(_folder_lock(folder))
        yield folder


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
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


# --- Folders


@contextmanager
def replacing(
    target: Path,
    ours: Callable[[Path], bool],
    doing: str,
    advice: str = _WAIT,
    *,
    among_others: Callable[[Path], bool] | None = None,
) -> Iterator[Path]:
    """Give an empty folder to write to; what is in it takes the place of `target` at once, if all goes well.

    At any instant, `target` holds all of the former files or all of the new ones: two folders are exchanged
    in one step. What a killed process left is put right by the next one, or by `recover`.

    Parameters
    ----------
    target : Path
        Where the folder is to be.
    ours : callable
        Whether a folder that is there holds nothing but what the new one replaces.
    doing : str
        What is being done, named to another process that wants to write `target`; see `locked`.
    advice : str
        For that process, and for who finds something else in the place of `target`.
    among_others : callable, optional
        What to do with a folder that is not `ours`, or cannot be exchanged. None: refuse it. Else: leave the
        other files as they are, and move the new ones among them; a process that is killed while it moves
        leaves the rest to the next one. It says whether files of the same names in a folder are from here:
        where they are not, nothing is written.

    Yields
    ------
    Path
        The folder to write to, on the file system of `target`.

    Raises
    ------
    InputError
        If something else is in the place of `target`, or another process holds it.
    EnvironmentFault
        If it cannot be written.
    """
    target = check_place(target, advice)
    with locked(_sibling(target, "lock"), doing, advice):
        _put_right(target)
        check_place(target, advice)
        if among_others is None and not _is_replaceable(target, ours):
            raise InputError(
                f"{target} is in the way: it holds something else, so it was left as it is.", advice
            )
        work = _sibling(target, "tmp")
        work.mkdir()
        try:
            yield work
            if among_others is not None:
                check_among(target, among_others, [path.name for path in work.iterdir()], advice)
            _take_place(work, target, ours, among_others)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def check_among(
    folder: Path, ours: Callable[[Path], bool], names: Iterable[str], advice: str = _WAIT
) -> None:
    """Refuse before anything is computed what `replacing` among others would refuse after it."""
    if check_place(folder, advice).exists() and not ours(folder):
        check_free(folder, names)


def check_free(folder: Path, names: Iterable[str]) -> None:
    """Raise `InputError` if a folder holds something under one of these names, which are to be written."""
    for name in names:
        if (folder / name).exists() or (folder / name).is_symlink():
            raise InputError(
                f"{folder / name} is in the way: it was not written by gcsam-med, so it was left as it is.",
                "Remove it, or give another --output.",
            )


def recover(target: Path) -> None:
    """Put right what a killed process left of `replacing`, unless one is at work there."""
    target = Path(os.path.abspath(target))  # noqa: PTH100
    left = [_sibling(target, what) for what in ("tmp", "former")]
    if any(path.exists() for path in left) or (target / _COMMITTED).is_dir():
        with suppress(InputError, EnvironmentFault), locked(_sibling(target, "lock"), ""):
            _put_right(target)


_COMMITTED = ".new"
"""Files below it are whole and belong in the folder above it."""


def _sibling(target: Path, what: str) -> Path:
    """A hidden name beside `target`; inside it where nothing can be written beside it (a mount point)."""
    # The dot keeps the names of two folders apart: none of ours begins with one, nor ends so.
    if target.is_dir() and (os.path.ismount(target) or not os.access(target.parent, os.W_OK)):
        return target / f"{_COMMITTED}.{what}"
    return target.with_name(f".{target.name}.{what}")


def _is_replaceable(target: Path, ours: Callable[[Path], bool]) -> bool:
    return not target.exists() or not any(target.iterdir()) or ours(target)


def _put_right(target: Path) -> None:
    work, former = _sibling(target, "tmp"), _sibling(target, "former")
    if former.exists() and not target.exists():
        former.replace(target)
    for path in (work, former):
        if path.exists():
            shutil.rmtree(path)
    _move_committed(target)


def _take_place(
    work: Path,
    target: Path,
    ours: Callable[[Path], bool],
    among_others: Callable[[Path], bool] | None,
) -> None:
    if not target.exists():
        work.replace(target)
    elif among_others and (work.parent == target or Path.cwd().is_relative_to(target.resolve())):
        _commit(work, target)
    elif _is_replaceable(target, ours):
        try:
            _exchange(work, target)
        except OSError as error:
            if not among_others or error.errno not in (errno.EXDEV, errno.EBUSY, errno.EACCES):
                raise
            _commit(work, target)
    elif among_others:
        _commit(work, target)
    else:
        raise InputError(f"{target} was changed by another program meanwhile; it was left as it is.", _WAIT)
    sync_folder(target.parent)


def _exchange(work: Path, target: Path) -> None:
    """Exchange two folders in one step where the system can; else the former one steps aside first."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        code = errno.ENOSYS
    else:
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        failed = rename(here, os.fsencode(work), here, os.fsencode(target), exchange)
        code = ctypes.get_errno() if failed else 0
    if code in (errno.ENOSYS, errno.EINVAL):
        former = _sibling(target, "former")
        target.replace(former)
        work.replace(target)
        shutil.rmtree(former, ignore_errors=True)
    elif code:
        raise OSError(code, os.strerror(code), str(target))


def _commit(work: Path, target: Path) -> None:
    """Move files among others: first all at once to a hidden folder, from where any process can go on."""
    try:
        work.replace(target / _COMMITTED)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EBUSY):
            raise
        staged = target / f"{_COMMITTED}.tmp"
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(work, staged)
        staged.replace(target / _COMMITTED)
    _move_committed(target)


def _move_committed(target: Path) -> None:
    committed = target / _COMMITTED
    if committed.is_symlink() or not committed.is_dir():
        return
    for path in sorted(committed.rglob("*")):
        if path.is_file():
            inner = path.relative_to(committed)
            path.replace(make_folder(target, *inner.parent.parts) / inner.name)
    shutil.rmtree(committed)
