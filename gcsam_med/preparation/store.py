"""Write a prepared data set into a folder of its own that takes the final place only when it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from gcsam_med.datasets.prepared import IMAGES, MASKS, ORIGINAL_MASKS
from gcsam_med.errors import InputError

THUMBS = "thumbs.npy"  # (cases, 128, 128) uint8, for comparing pairs, also with other data sets
HEADER_BYTES = 128  # what NumPy's format gives the header of any array that fits on a disk


class PlaneWriter:
    """Appends uint8 planes to a ``.npy`` file whose length is known only at the end.

    Written through a plain file: the touched pages of a memory map would count as this process's memory.

    Parameters
    ----------
    path : Path
        File to create.
    plane : tuple of int
        Shape of one plane.
    """

    def __init__(self, path: Path, plane: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        self._file.write(b"\0" * HEADER_BYTES)
        self._plane = plane
        self.count = 0

    def append(self, plane: np.ndarray) -> None:
        """Write one plane."""
        if plane.shape != self._plane or plane.dtype != np.uint8:
            raise ValueError(f"expected a uint8 plane {self._plane}, got {plane.dtype} {plane.shape}")
        self._file.write(np.ascontiguousarray(plane).data)
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is not None:
                return
            self._file.seek(0)
            shape = (self.count, *self._plane)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
            if self._file.tell() != HEADER_BYTES:
                raise ValueError(f"the header of {shape} is not {HEADER_BYTES} bytes long")


class PlaneReader:
    """Reads planes of a ``.npy`` file that `PlaneWriter` wrote, by row, without mapping it.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        except (OSError, ValueError):
            raise InputError(f"{path.name} is missing or damaged.", "Run prepare again.") from None
        self.count, self.plane = int(shape[0]), tuple(shape[1:])
        if dtype != np.uint8 or path.stat().st_size != HEADER_BYTES + int(np.prod(shape)):
            raise InputError(f"{path.name} does not hold what it says.", "Run prepare again.")

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Planes by row number: uint8, shape (n, *plane)."""
        planes = np.empty((len(rows), *self.plane), dtype=np.uint8)
        size = int(np.prod(self.plane))
        with self.path.open("rb", buffering=0) as file:
            for i, row in enumerate(rows):
                file.seek(HEADER_BYTES + int(row) * size)
                file.readinto(memoryview(planes[i]).cast("B"))
        return planes


def keep_rows(folder: Path, rows: np.ndarray) -> None:
    """Remove all cases but `rows` (ascending) from the pixel files of a folder that is being written."""
    for name in (IMAGES, MASKS, THUMBS):
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


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary sibling folder that replaces `target` if all goes well, else vanishes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    work = _sibling(target, os.getpid(), "tmp")
    work.mkdir()
    try:
        yield work
        if target.exists():
            former = _sibling(target, os.getpid(), "former")
            target.replace(former)
            work.replace(target)
            shutil.rmtree(former)
        else:
            work.replace(target)
    finally:
        if work.exists():
            shutil.rmtree(work)


def recover(target: Path) -> None:
    """Undo what a killed run left: a half-swapped data set comes back, half-written ones go."""
    if not target.parent.is_dir():
        return
    for path in sorted(target.parent.glob(f".{target.name}.*.former")):
        if not target.exists():
            path.replace(target)
        else:
            shutil.rmtree(path)
    for path in target.parent.glob(f".{target.name}.*.tmp"):
        pid = path.name.removesuffix(".tmp").rsplit(".", 1)[-1]
        if not pid.isdecimal() or not _runs(int(pid)) or int(pid) == os.getpid():
            shutil.rmtree(path)


def _sibling(target: Path, pid: int, what: str) -> Path:
    return target.with_name(f".{target.name}.{pid}.{what}")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
