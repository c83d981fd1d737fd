"""Unpack a .zip, .npz or .tar.gz that nobody has checked: nothing outside its folder, no links, no bombs."""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from gcsam_med.errors import DataFaults, EnvironmentFault, Fault, InputError
from gcsam_med.files import scratch_folder
from gcsam_med.progress import Track, silent
from gcsam_med.reading import open_plain

MAX_FILES = 2_000_000
MAX_TOTAL_BYTES = 500 * 2**30
# DEFLATE cannot do better than about 1030:1; images and tables stay far below this.
MAX_RATIO = 200
RATIO_FREE_BYTES = 10 * 2**20
ZIP_SUFFIXES = (".zip", ".npz")  # NumPy's .npz is a zip of arrays
ARCHIVE_SUFFIXES = (*ZIP_SUFFIXES, ".tar.gz", ".tgz", ".tar")


def is_archive(path: Path) -> bool:
    """Tell an archive by its name."""
    return path.is_file() and path.name.lower().endswith(ARCHIVE_SUFFIXES)


@contextmanager
def opened(source: Path, workspace: Path, track: Track = silent) -> Iterator[Path]:
    """Give a source as a folder (or file): an archive is unpacked for as long as the context lasts.

    A temporary folder is made in `workspace`; see `scratch_folder`.

    Raises
    ------
    InputError
        If the archive is damaged.
    DataFaults
        If it holds members that must not be unpacked.
    EnvironmentFault
        If the disk is full.
    """
    if not is_archive(source):
        yield source
        return
    with scratch_folder(workspace, ".unpacked.") as folder:
        _unpack(source, folder, track)
        yield folder


def _unpack(source: Path, folder: Path, track: Track) -> None:
    try:
        if source.name.lower().endswith(ZIP_SUFFIXES):
            with open_plain(source) as file, zipfile.ZipFile(file) as archive:
                _unpack_zip(archive, folder, source.name, track)
        else:
            with open_plain(source) as file, tarfile.open(fileobj=file) as tape:
                _unpack_tar(tape, folder, source.name, track)
    except OSError as error:
        if error.errno is not None:
            raise EnvironmentFault(
                f"{source.name} cannot be unpacked: {error.strerror}.",
                "Free disk space, or unpack it yourself.",
            ) from None
        raise _damaged(source) from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, ValueError, NotImplementedError):
        raise _damaged(source) from None
    except RuntimeError:  # zipfile's way of saying that a password is needed
        raise InputError(f"{source.name} is encrypted.", "Unpack it yourself and give the folder.") from None


def _damaged(source: Path) -> InputError:
    return InputError(
        f"{source.name} is damaged or not an archive of its kind.",
        "Copy or download it again, then try again.",
    )


def _unpack_zip(archive: zipfile.ZipFile, folder: Path, name: str, track: Track) -> None:
    items = [item for item in archive.infolist() if not item.is_dir()]
    faults = [fault for item in items if (fault := _zip_fault(item))]
    _refuse(name, faults, len(items), sum(item.file_size for item in items))
    for item in track(items, f"Unpacking {name}", len(items)):
        with archive.open(item) as stream:
            _write(stream, folder / PurePosixPath(item.filename), item.file_size)


def _zip_fault(item: zipfile.ZipInfo) -> Fault | None:
    reason = _name_fault(item.filename)
    if reason is None and stat.S_IFMT(item.external_attr >> 16) not in (0, stat.S_IFREG):
        reason = "link", "a link or device in an archive is not unpacked."
    if reason is None and item.file_size > max(RATIO_FREE_BYTES, MAX_RATIO * item.compress_size):
        ratio = item.file_size // max(item.compress_size, 1)
        reason = "bomb", f"it would grow {ratio}-fold on unpacking."
    return Fault(item.filename[:200], *reason) if reason else None


def _unpack_tar(tape: tarfile.TarFile, folder: Path, name: str, track: Track) -> None:
    items: list[tarfile.TarInfo] = []
    faults: list[Fault] = []
    total = 0
    for item in tape:
        if item.isdir():
            continue
        total += item.size
        if len(items) > MAX_FILES or total > MAX_TOTAL_BYTES:
            break
        reason = _name_fault(item.name)
        if reason is None and not item.isreg():
            reason = "link", "a link or device in an archive is not unpacked."
        if reason is not None:
            faults.append(Fault(item.name[:200], *reason))
        items.append(item)
    _refuse(name, faults, len(items), total)
    for item in track(items, f"Unpacking {name}", len(items)):
        stream = tape.extractfile(item)
        if stream is not None:
            _write(stream, folder / PurePosixPath(item.name), item.size)


def _name_fault(name: str) -> tuple[str, str] | None:
    pure = PurePosixPath(name.replace("\\", "/"))
    if not name or "\0" in name or len(name) > 1000:
        return "bad-name", "a member has no valid name."
    if pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        return "outside", "a member's path leads out of the archive's folder."
    return None


def _refuse(name: str, faults: list[Fault], count: int, total: int) -> None:
    if count > MAX_FILES or total > MAX_TOTAL_BYTES:
        raise InputError(f"{name} holds {count} files of {total // 2**30} GiB; that is not unpacked here.")
    if faults:
        raise DataFaults(
            f"{name} holds members that are not unpacked.", faults, "Unpack it yourself if you trust it."
        )


def _write(stream: IO[bytes], target: Path, size: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    left = size
    with target.open("wb") as file:
        while left > 0 and (block := stream.read(min(2**20, left))):
            left -= len(block)
            file.write(block)
