"""Work beside the main process: processes that start safely, and results in order with memory bounded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


class _Worker(SpawnProcess):
    """A process that does not run the user's script again, whether or not that guards its ``__main__``."""

    def start(self) -> None:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            super().start()
        finally:
            sys.modules["__main__"] = main


class _Context(SpawnContext):
    Process = _Worker


def processes(count: int, *, niceness: int = 0) -> ProcessPoolExecutor:
    """Make a pool of `count` processes, each less urgent than this one by `niceness` (0 to 19).

    They are not forked: this process may have threads (progress bars, torch) that a child would inherit half
    alive. Ctrl-C is left to this process, and they end when it ends, however that happens.
    """
    return ProcessPoolExecutor(count, mp_context=_Context(), initializer=partial(_begin, niceness))


def _begin(niceness: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if niceness and hasattr(os, "nice"):
        os.nice(niceness)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def ahead(pool: Executor, work: Callable[[A], B], items: Iterable[A], depth: int) -> Iterator[B]:
    """Yield ``work(item)`` in order while up to `depth` later items are worked on in the pool.

    Items are read no further ahead, so memory is bounded; an exception of `work` is raised here.
    """
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
