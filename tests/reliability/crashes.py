"""Processes that are killed while they write: at any time, or just before any change of a file or folder."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}


def _changes(root: str, event: str, arguments: tuple[object, ...]) -> bool:
    """Whether an audit event of Python changes something below a folder."""
    if event == "open":
        path, _, flags = arguments
        if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return False
    elif event in CHANGES:
        path = arguments[0]
    else:
        return event == "ctypes.dlsym"  # folders are exchanged by a call of the C library
    return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(root)


def launch(work: Callable[[], object], root: Path, log: Path, dies_at: int = 0) -> int:
    """Fork a process that does `work`, and kills itself before its `dies_at`-th change below `root`.

    With ``dies_at=0`` it ends by itself; the last line of `log` is then the number of its changes.
    """
    pid = os.fork()
    if pid:
        return pid
    code, count = 1, 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if _changes(str(root), event, arguments):
            count += 1
            if count == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1)
        sys.addaudithook(hook)
        work()
        sys.stdout.write(f"{count}\n")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(pid: int, seconds: float = 300.0) -> int:
    """Exit status; a process that takes longer is killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def changes_of(work: Callable[[], object], root: Path, log: Path) -> int:
    """Let it end, and count its changes."""
    status = wait(launch(work, root, log))
    assert status == 0, log.read_text()[-3000:]
    return int(log.read_text().split()[-1])
