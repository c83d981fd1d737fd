"""`gcsam-med preview`: a contact sheet of augmented images with their masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gcsam_med.cli import console, options
from gcsam_med.errors import InputError, unknown_name


def preview(
    *,
    prepared: Annotated[
        str, typer.Argument(metavar="PREPARED", help="A prepared data set: its folder, or its name.")
    ],
    cases: Annotated[int, typer.Option("--cases", min=1, max=50, help="Rows of the sheet.")] = 6,
    variants: Annotated[int, typer.Option("--variants", min=1, max=20, help="Transforms of each.")] = 5,
    split: options.SplitName = "train",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draw and the transforms.")] = 0,
    data_root: options.DataRoot = Path("data"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="PNG to write; default: PREPARED/preview.png.")
    ] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show what training will see: images, masks, and random transforms of both."""
    from gcsam_med.cli.audit import find
    from gcsam_med.datasets.prepared import SPLITS
    from gcsam_med.preparation.preview import preview as draw

    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if output is not None and output.suffix.lower() != ".png":
        raise InputError(f"--output names a PNG file, but got '{output.name}'.", "For example: sheet.png")
    dataset = find(prepared, data_root)
    if not len(dataset.rows(split)):
        raise InputError(f"'{dataset.info.name}' has no {split} cases.", "Choose another --split.")
    path = draw(
        dataset,
        output or dataset.root / "preview.png",
        cases=cases,
        variants=variants,
        split=split,
        seed=seed,
    )
    console.result({"path": str(path)}, f"Written: {path}")
