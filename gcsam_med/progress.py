"""How long work tells that it goes on, without knowing who listens.

Lower layers never draw: they wrap their loop in a `Track`, and the command line hands in one that
draws a bar on stderr.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Wraps an iterable and shows how far it is."""

    def __call__(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Yield `items` unchanged while showing `what` and, if `total` is known, the time left."""
        ...


def silent(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Show nothing (the default everywhere)."""
    del what, total
    return iter(items)
