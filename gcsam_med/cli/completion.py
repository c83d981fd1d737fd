"""What the shell offers after an option: names of the tables, prepared data sets, finished runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path


def models() -> Iterable[str]:
    """Networks."""
    from gcsam_med.networks import NETWORKS

    return NETWORKS


def optimizers() -> Iterable[str]:
    """Optimizers."""
    from gcsam_med.optim import OPTIMIZERS

    return OPTIMIZERS


def datasets() -> Iterable[str]:
    """Sources that `prepare` knows."""
    from gcsam_med.datasets import DATASETS

    return DATASETS


def prepared() -> Iterable[str]:
    """Prepared data sets under the default data root."""
    return (path.parent.name for path in Path("data/prepared").glob("[!.]*/dataset.json"))


def runs() -> Iterable[str]:
    """Runs under ``runs/``."""
    return (str(path.parent) for path in Path("runs").glob("*/config.yaml"))


_SOURCES = {f.__name__: f for f in (models, optimizers, datasets, prepared, runs)}


def of(source: str | None, choices: Collection[str] = ()) -> Callable[[str], list[str]] | None:
    """Return a completion: one of the functions here by name, or fixed choices."""
    if source is None and not choices:
        return None
    names = _SOURCES[source] if source is not None else lambda: choices

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")  # of a list, its last entry
        return sorted(before + comma + name for name in names() if name.startswith(last))

    return complete
