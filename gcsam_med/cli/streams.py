"""Standard streams and environment as they may be: closed, broken, of an old encoding, in a hostile folder.

Losing its audience never ends a command, and Python files in the working directory are never run.
"""

from __future__ import annotations

import io
import os
import resource
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TextIO

from gcsam_med.errors import EnvironmentFault

LEAST_ADDRESS_SPACE = 4.5 * 2**30
"""Bytes: PyTorch's libraries alone take 3 GiB of addresses, a small evaluation 4."""


def prepare_process() -> None:
    """Make this process and those it starts safe; called once, before anything is drawn or computed."""
    _open_closed_streams()
    # `python -m gcsam_med` looks for modules in the working directory first: its ./yaml.py would be run.
    here = _working_directory()
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", here):
        del sys.path[0]
    root = str(Path(__file__).resolve().parents[2])
    if not any(Path(entry or ".").resolve() == Path(root) for entry in sys.path):
        sys.path.append(root)  # run from its source: found last, so that it hides nothing
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["MPLBACKEND"] = "agg"  # figures are files; matplotlib ends at the name of one it does not know
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY and space < LEAST_ADDRESS_SPACE:
        sys.meta_path.insert(0, _NoRoomForTorch())
    columns = os.environ.get("COLUMNS", "80")
    if not columns.isdecimal() or int(columns) < 1:
        del os.environ["COLUMNS"]  # Rich would draw nothing at all


class _NoRoomForTorch(MetaPathFinder):
    """Refuses to import torch where the import would end the process without a word."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Find no module; raise for torch."""
        if fullname == "torch":
            allowed = resource.getrlimit(resource.RLIMIT_AS)[0] / 2**30
            raise EnvironmentFault(
                f"This process may use {allowed:.1f} GiB of address space; PyTorch needs "
                f"{LEAST_ADDRESS_SPACE / 2**30:g} or more, whatever memory is free.",
                "Raise the limit with: ulimit -v unlimited",
            )


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted
        return ""


def _open_closed_streams() -> None:
    """Open standard streams that were closed: else a file opened later takes their number, and their text."""
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            stream = os.fdopen(number, "r" if number == 0 else "w", closefd=False)
            setattr(sys, name, stream)


class Surviving(io.TextIOBase):
    """A text stream whose failure is no failure: once a write fails, the rest is dropped.

    Characters that its encoding lacks are written as escapes.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream if stream is not None else io.StringIO()
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write `text`, or drop it."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            self._drop()
        return len(text)

    def flush(self) -> None:
        """Flush, or drop what is left."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._drop()

    def _drop(self) -> None:
        # Python flushes the stream once more when it ends, and would leave with an error.
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return self._stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        """Its file descriptor."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Its encoding."""
        return self._stream.encoding or "utf-8"

    @property
    def width(self) -> int | None:
        """Columns to draw in; None: as wide as the terminal is at the time."""
        if "COLUMNS" in os.environ:
            return None
        # Without a terminal Rich would wrap at 80 columns and break paths in two; logs want whole lines.
        return None if self.isatty() else 200
