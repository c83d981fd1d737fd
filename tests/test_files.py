"""Files that are whole or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gcsam_med.files import write_durably


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
