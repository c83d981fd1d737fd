"""Files that are whole or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gcsam_med.errors import InputError
from gcsam_med.files import recover, replacing, write_durably
from tests.reliability.crashes import changes_of, launch, wait


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    file = tmp_path / "model.json"
    write_durably(file, b"first")
    write_durably(file, b"second")
    assert file.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_the_former_content(tmp_path, monkeypatch):
    """Oracle: the disk is full just before the data are on it."""
    file = tmp_path / "model.json"
    write_durably(file, b"former")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_durably(file, b"new")
    assert file.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_one_whole_version(tmp_path):
    """Oracle: SIGKILL of a process that rewrites one file over and over; every version is of one letter."""
    file = tmp_path / "weights"
    code = (
        "import sys, itertools; from pathlib import Path; from gcsam_med.files import write_durably\n"
        "for letter in itertools.cycle(b'abcdefgh'):\n"
        "    write_durably(Path(sys.argv[1]), bytes([letter]) * 200_000); print('.', flush=True)"
    )
    for delay in range(6):
        with subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(3 + delay):
                writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
        content = Path(file).read_bytes()
        assert len(content) == 200_000
        assert len(set(content)) == 1


# --- Folders

MARK = "dataset.json"


def set_of(folder: Path, content: str) -> Path:
    """A folder of ours, which may be replaced."""
    folder.mkdir()
    (folder / MARK).write_text("{}")
    (folder / "content").write_text(content)
    return folder


def is_ours(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= {MARK, "content"}


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def replace(target: Path, content: str, *, among_others: bool = False) -> None:
    others = (lambda _: True) if among_others else None
    with replacing(target, is_ours, f"writing {target}", among_others=others) as work:
        (work / "content").write_text(content)


@pytest.mark.parametrize("atomic", [True, False])
def test_failure_leaves_the_former_folder_and_success_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, atomic: bool
) -> None:
    """An exception in the middle; then success, where the system can exchange folders and where it cannot."""
    if not atomic:
        monkeypatch.setattr("gcsam_med.files.ctypes.CDLL", lambda *a, **k: object())
    target = set_of(tmp_path / "set", "former")

    def interrupted() -> None:
        with replacing(target, is_ours, "writing") as work:
            (work / "content").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (target / "content").read_text() == "former"
    replace(target, "new")
    assert (target / "content").read_text() == "new"
    assert names(target) == {"content"}
    assert names(tmp_path) == {"set"}


@pytest.mark.parametrize("kind", ["folder", "file", "link", "one file too many"])
def test_what_is_not_ours_is_never_replaced(tmp_path: Path, kind: str) -> None:
    """A thesis stands where the folder should go; oracle: it is there afterwards, byte for byte."""
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
            (target / MARK).write_text("{}")  # other programs have a file of this name as well
    with pytest.raises(InputError, match=r"in the way|where a folder is to be written"):
        replace(target, "new")
    assert kept.read_text() == "years of work"


def test_files_of_others_stay_beside_new_ones(tmp_path: Path) -> None:
    """A folder that holds other files too is written into; a killed process's files are moved by the next."""
    target = set_of(tmp_path / "set", "former")
    (target / "notes.txt").write_text("mine")
    replace(target, "new", among_others=True)
    assert names(target) == {MARK, "content", "notes.txt"}
    assert (target / "content").read_text() == "new"
    set_of(target / ".new", "committed")
    recover(target)
    assert names(target) == {MARK, "content", "notes.txt"}
    assert (target / "content").read_text() == "committed"


def test_the_current_folder_is_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exchanged for another, it would vanish below the shell that stands in it."""
    target = set_of(tmp_path / "set", "former")
    monkeypatch.chdir(target)
    replace(Path(), "new", among_others=True)
    assert Path("content").read_text() == "new"
    assert names(tmp_path) == {"set"}


def test_two_processes_do_not_write_one_folder(tmp_path: Path) -> None:
    """The second is refused, and does not take the first one's half-written folder for a dead one's."""
    target = tmp_path / "set"
    with replacing(target, is_ours, "writing it") as work:
        (work / "content").write_text("first")
        recover(target)
        with pytest.raises(InputError, match="already writing"):
            replace(target, "second")
    assert (target / "content").read_text() == "first"


def test_what_a_killed_process_left_is_cleared_or_brought_back(tmp_path: Path) -> None:
    """A half-written folder goes, a half-done swap is undone; those of the set 'a.b' are not those of 'a'."""
    set_of(tmp_path / ".a.former", "of a")
    set_of(tmp_path / ".a.b.former", "of a.b")
    set_of(tmp_path / ".a.tmp", "half")
    recover(tmp_path / "a")
    assert names(tmp_path) == {"a", ".a.b.former"}
    assert (tmp_path / "a" / "content").read_text() == "of a"
    recover(tmp_path / "a.b")
    assert names(tmp_path) == {"a", "a.b"}


@pytest.mark.parametrize("others", [False, True])
def test_a_kill_before_any_change_leaves_one_whole_version(tmp_path: Path, others: bool) -> None:
    """Killed before each single change of the file system. Oracle: both files are of one version, and the
    next run gives the new one and leaves nothing. Beside files of others the move itself may be cut: then
    the next run ends it.
    """

    def write(content: str) -> None:
        with replacing(target, is_ours, "writing", among_others=(lambda _: True) if others else None) as work:
            (work / "content").write_text(content)
            (work / MARK).write_text(content)

    target, log = tmp_path / "place" / "set", tmp_path / "log"
    target.parent.mkdir()
    set_of(target, "{}")
    expected = {MARK, "content"}
    if others:
        (target / "notes.txt").write_text("mine")
        expected |= {"notes.txt"}
    changes = changes_of(lambda: write("first"), target.parent, log)
    former = "first"
    assert changes >= 5
    for number in range(1, changes + 1):
        new = f"version {number}"
        killed = launch(lambda new=new: write(new), target.parent, log, number)
        assert wait(killed) != 0
        recover(target)
        there = {(target / name).read_text() for name in (MARK, "content")}
        assert there in ({former}, {new}), number
        write(new)
        former = new
        assert (target / "content").read_text() == new
        assert names(target) == expected, number
        assert names(target.parent) == {"set"}, number
