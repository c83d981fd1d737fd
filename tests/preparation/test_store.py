"""A prepared data set is there as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gcsam_med.datasets.prepared import IMAGES, ORIGINAL_MASKS, PlaneReader, PlaneWriter
from gcsam_med.errors import InputError
from gcsam_med.preparation.store import keep_rows


def planes(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 5, 7), dtype=np.uint8)


def write(path: Path, content: np.ndarray) -> None:
    with PlaneWriter(path, content.shape[1:]) as writer:
        for plane in content:
            writer.append(plane)


def test_planes_are_a_npy_file_that_numpy_reads(tmp_path: Path) -> None:
    """Oracle: numpy.load; also our own reader, in any order."""
    content = planes(20)
    write(tmp_path / "x.npy", content)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), content)
    rows = np.array([19, 0, 7, 7])
    np.testing.assert_array_equal(PlaneReader(tmp_path / "x.npy")(rows), content[rows])


def test_wrong_planes_and_damaged_files_are_refused(tmp_path: Path) -> None:
    """A wrong shape is a bug; a short file is the user's."""
    with (
        pytest.raises(ValueError, match="expected a uint8 plane"),
        PlaneWriter(tmp_path / "x.npy", (5, 7)) as w,
    ):
        w.append(np.zeros((7, 5), dtype=np.uint8))
    write(tmp_path / "y.npy", planes(3))
    os.truncate(tmp_path / "y.npy", 150)
    for name in ("x.npy", "y.npy", "nothing.npy"):
        with pytest.raises(InputError):
            PlaneReader(tmp_path / name)


def test_kept_rows_move_up_with_their_masks(tmp_path: Path) -> None:
    """Rows 1 and 3 of 4 become 0 and 1."""
    content = planes(4)
    write(tmp_path / IMAGES, content)
    (tmp_path / ORIGINAL_MASKS).mkdir()
    for row in (0, 1, 3):
        (tmp_path / ORIGINAL_MASKS / f"{row:06d}.png").write_bytes(bytes([row]))
    keep_rows(tmp_path, np.array([1, 3]))
    np.testing.assert_array_equal(np.load(tmp_path / IMAGES), content[[1, 3]])
    left = {p.name: p.read_bytes() for p in (tmp_path / ORIGINAL_MASKS).iterdir()}
    assert left == {"000000.png": b"\1", "000001.png": b"\3"}
