"""A wish to stop, heard between two steps."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

# SIGUSR1 is what SLURM sends ahead of the end of a job's time.
_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}


class StopSignals:
    """Hears SIGINT, SIGTERM and SIGUSR1 while it is entered; a second signal ends the process at once.

    Attributes
    ----------
    exit_code : int or None
        The code to leave with, once a signal has come.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.name = ""
        self._former: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        # Python allows handlers in the main thread only; elsewhere the host application keeps its own.
        if threading.current_thread() is threading.main_thread():
            for number in _EXIT_CODES:
                self._former[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.name = signal.Signals(number).name
        self.exit_code = _EXIT_CODES[signal.Signals(number)]
        # The first process of a container is deaf to signals without a handler of its own.
        at_once = _leave if os.getpid() == 1 else signal.SIG_DFL
        for each in _EXIT_CODES:
            signal.signal(each, at_once)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(_EXIT_CODES[signal.Signals(number)])
