"""Write a prepared data set into a folder of its own that takes the final place only when it is whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

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
        if kind is None:
            self._file.seek(0)
            shape = (self.count, *self._plane)
            np.lib.format.write_array_header_1_0(
                self._file, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            if self._file.tell() != HEADER_BYTES:
                raise ValueError(f"the header of {shape} is not {HEADER_BYTES} bytes long")
        self._file.close()


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary sibling folder that replaces `target` if all goes well, else vanishes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield work
        work.chmod(0o755)
        if target.exists():
            former = work.with_suffix(".former")
            target.replace(former)
            work.replace(target)
            shutil.rmtree(former)
        else:
            work.replace(target)
    finally:
        if work.exists():
            shutil.rmtree(work)
