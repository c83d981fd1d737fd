"""`gcsam-med list`: which data sets, models and optimizers there are by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from gcsam_med.cli import console, options
from gcsam_med.errors import unknown_name


@dataclass(frozen=True)
class _Listing:
    """A table to show."""

    columns: tuple[str, ...]  #: The first is the name.
    rows: list[tuple[Any, ...]]  #: One an entry.
    entries: dict[str, dict[str, Any]]  #: The same and more, for ``--json``.
    hint: str  #: How the names are used.


def _datasets() -> _Listing:
    from gcsam_med.datasets import DATASETS

    entries: dict[str, dict[str, Any]] = {
        name: {
            "title": spec.title,
            "modality": spec.modality,
            "layout": spec.layout,
            "download": spec.download is not None,
            "kaggle": spec.kaggle or None,
            "licence": spec.licence,
            "citation": spec.citation,
        }
        for name, spec in DATASETS.items()
    }

    def got_by(entry: dict[str, Any]) -> str:
        if entry["download"]:
            return "--download"
        return "--download, by Kaggle" if entry["kaggle"] else "your own files"

    return _Listing(
        ("name", "what", "images", "got by", "layout of --source"),
        [(n, e["title"], e["modality"], got_by(e), e["layout"]) for n, e in entries.items()],
        entries,
        "gcsam-med prepare --dataset NAME --source FOLDER",
    )


def _models() -> _Listing:
    from gcsam_med.networks import NETWORKS

    entries: dict[str, dict[str, Any]] = {
        name: {
            "task": spec.task,
            "summary": spec.summary,
            "pretrained": spec.weights is not None,
            "smallest": spec.smallest,
            "multiple": spec.multiple,
            "paper": spec.paper,
        }
        for name, spec in NETWORKS.items()
    }
    return _Listing(
        ("name", "task", "--pretrained", "what", "paper"),
        [
            (n, e["task"], "yes" if e["pretrained"] else "no", e["summary"], e["paper"])
            for n, e in entries.items()
        ],
        entries,
        "gcsam-med train --dataset DATASET --model NAME",
    )


def _optimizers() -> _Listing:
    from gcsam_med.optim import OPTIMIZERS

    entries: dict[str, dict[str, Any]] = {
        name: {
            "summary": method.summary,
            "passes": method.passes,
            "copies": method.copies,
            "rho": method.rho if method.perturbation is not None else None,
            "equation": method.equation,
            "paper": method.paper,
        }
        for name, method in OPTIMIZERS.items()
    }
    return _Listing(
        ("name", "what", "passes a step", "rho", "paper"),
        [
            (n, e["summary"], e["passes"], "" if e["rho"] is None else f"{e['rho']:g}", e["paper"])
            for n, e in entries.items()
        ],
        entries,
        "gcsam-med train --dataset DATASET --optimizer NAME",
    )


LISTINGS: dict[str, Callable[[], _Listing]] = {
    "datasets": _datasets,
    "models": _models,
    "optimizers": _optimizers,
}


def _complete(incomplete: str) -> list[str]:
    return [name for name in LISTINGS if name.startswith(incomplete)]


def list_names(
    what: Annotated[
        str,
        typer.Argument(
            metavar="datasets|models|optimizers", help="Which names to list.", autocompletion=_complete
        ),
    ],
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List the data sets, models or optimizers that can be named."""
    del quiet, verbose, json, debug
    if what not in LISTINGS:
        raise unknown_name("list", what, LISTINGS)
    listing = LISTINGS[what]()
    console.table("", listing.columns, listing.rows, result=True)
    console.say(f"Use: {listing.hint}")
    console.result({what: listing.entries})
