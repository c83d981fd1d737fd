"""A prepared data set is there as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gcsam_med.datasets.prepared import IMAGES, INFO, MANIFEST, ORIGINAL_MASKS, PlaneReader, PlaneWriter
from gcsam_med.errors import InputError
from gcsam_med.preparation.store import keep_rows, recover, replacing


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


def prepared_set(folder: Path, content: str) -> Path:
    """What passes for a prepared data set when it is about to be replaced."""
    folder.mkdir()
    (folder / INFO).write_text("{}")
    (folder / MANIFEST).write_text(content)
    return folder


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_failure_leaves_the_former_set_intact(tmp_path: Path) -> None:
    """An exception in the middle; then success replaces it."""
    target = prepared_set(tmp_path / "set", "former")

    def interrupted() -> None:
        with replacing(target) as work:
            (work / MANIFEST).write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (target / MANIFEST).read_text() == "former"
    with replacing(target) as work:
        (work / MANIFEST).write_text("new")
    assert (target / MANIFEST).read_text() == "new"
    assert names(tmp_path) == {"set"}


@pytest.mark.parametrize("kind", ["folder", "file", "link", "its own dataset.json"])
def test_what_is_no_prepared_set_is_never_replaced(tmp_path: Path, kind: str) -> None:
    """A thesis stands where the data set should go; oracle: it is there afterwards, byte for byte."""
    target = tmp_path / "set"
    kept = tmp_path / "thesis" / "chapter.txt"
    kept.parent.mkdir()
    kept.write_text("years of work")
    if kind == "link":
        target.symlink_to(kept.parent)
    elif kind == "file":
        target.write_text("years of work")
        kept = target
    else:
        kept = kept.parent.rename(target) / "chapter.txt"
        if kind != "folder":
            (target / INFO).write_text("{}")  # other programs have a file of this name as well
    with pytest.raises(InputError, match="not a prepared data set"), replacing(target):
        pytest.fail("it should not come this far")
    assert kept.read_text() == "years of work"


def test_two_processes_do_not_write_one_set(tmp_path: Path) -> None:
    """The second is refused, and does not take the first one's half-written folder for a dead one's."""
    target = tmp_path / "set"
    with replacing(target) as work:
        (work / MANIFEST).write_text("first")
        recover(target)
        with pytest.raises(InputError, match="Another process is preparing 'set'"), replacing(target):
            pytest.fail("it should not come this far")
    assert (target / MANIFEST).read_text() == "first"


def test_what_a_killed_run_left_is_cleared_or_brought_back(tmp_path: Path) -> None:
    """A half-written folder goes, a half-done swap is undone; those of the set 'a.b' are not those of 'a'."""
    prepared_set(tmp_path / ".a.former", "of a")
    prepared_set(tmp_path / ".a.b.former", "of a.b")
    prepared_set(tmp_path / ".a.tmp", "half")
    recover(tmp_path / "a")
    assert names(tmp_path) == {"a", ".a.b.former"}
    assert (tmp_path / "a" / MANIFEST).read_text() == "of a"
    recover(tmp_path / "a.b")
    assert names(tmp_path) == {"a", "a.b"}
