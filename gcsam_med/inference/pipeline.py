"""Work that overlaps: a few threads ahead of the network, results in order, memory bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(pool: ThreadPoolExecutor, work: Callable[[A], B], items: Iterable[A], depth: int) -> Iterator[B]:
    """Yield ``work(item)`` in order while up to `depth` later ones are done in a pool.

    Parameters
    ----------
    pool : ThreadPoolExecutor
        Where the work is done.
    work : callable
        What is done.
    items : iterable
        Read no further than `depth` ahead.
    depth : int
        Bounds memory: at most this many results wait.

    Yields
    ------
    object
        Results in the order of the items; an exception of `work` is raised here.
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


def batches(items: Iterable[A], size: int) -> Iterator[list[A]]:
    """Yield lists of `size` items; the last may be shorter."""
    batch: list[A] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
