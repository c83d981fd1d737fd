"""`gcsam-med prepare`: read, check and split a data set, and store it for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gcsam_med.cli import console, options
from gcsam_med.errors import InputError

_SOURCE, _RESULT = "Where the images are", "What is made of them"


def prepare(
    *,
    dataset: options.DatasetName,
    source: options.Source = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Generate synthetic images instead.", rich_help_panel=_SOURCE)
    ] = False,
    demo_cases: Annotated[
        int, typer.Option("--demo-cases", min=3, help="How many.", rich_help_panel=_SOURCE)
    ] = 120,
    data_root: options.DataRoot = Path("data"),
    name: Annotated[
        str, typer.Option("--name", help="Name of the result; default: --dataset.", rich_help_panel=_RESULT)
    ] = "",
    size: Annotated[
        int, typer.Option("--size", min=16, max=2048, help="Side in pixels.", rich_help_panel=_RESULT)
    ] = 256,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the split.", rich_help_panel=_RESULT)] = 0,
    folds: Annotated[
        int, typer.Option("--folds", min=2, max=50, help="Number of folds.", rich_help_panel=_RESULT)
    ] = 5,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad files out.", rich_help_panel=_RESULT)
    ] = False,
    workers: options.Workers = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Read, check and split a data set, and store it for training."""
    from gcsam_med.preparation import PrepareOptions
    from gcsam_med.preparation import prepare as run

    if demo:
        source = _demo_source(dataset, data_root, demo_cases, seed)
    if source is None:
        raise InputError(
            f"prepare needs to know where the images of '{dataset}' are.",
            "Give --source FOLDER, or try it on synthetic images with --demo.",
        )
    outcome = run(
        dataset,
        source,
        data_root,
        name=name,
        options=PrepareOptions(size=size, seed=seed, folds=folds, skip_bad=skip_bad),
        synthetic=demo,
        workers=workers,
        track=console.track,
    )
    info = outcome.dataset.info
    for warning in outcome.warnings:
        console.warn(warning)
    columns = ["split", "cases", *info.classes]
    rows = [[split, c["cases"], *(c[k] for k in info.classes)] for split, c in info.counts.items()]
    console.table(f"{info.title}: {info.n_cases} cases", columns, rows)
    console.result(
        {
            "name": info.name,
            "path": str(outcome.dataset.root),
            "cases": info.n_cases,
            "counts": info.counts,
            "fresh": outcome.fresh,
            "quarantined": len(outcome.faults),
            "synthetic": info.synthetic,
            "warnings": list(outcome.warnings),
        },
        f"Prepared: {outcome.dataset.root}",
    )


def _demo_source(dataset: str, data_root: Path, cases: int, seed: int) -> Path:
    """Generate the demonstration images, unless the same ones are there."""
    from gcsam_med.datasets.demo import write_demo

    if dataset != "busi":
        raise InputError(
            f"--demo imitates the layout of busi, not of {dataset}.", "Use: prepare --dataset busi --demo"
        )
    folder = data_root / "demo" / f"busi-{cases}-{seed}"
    if not (folder / "complete").is_file():
        write_demo(folder, cases, seed, track=console.track)
        (folder / "complete").touch()
    return folder
