"""`gcsam-med export`: hand a trained model to programs that know nothing of gcsam-med."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gcsam_med.cli import console, options


def export(
    run: options.RunArgument,
    format_name: Annotated[
        str,
        typer.Option("--format", help="onnx, torch-export, monai-bundle or safetensors.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="New folder; default RUN/export/FORMAT.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export there.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Export a trained model: ONNX, torch.export, a MONAI bundle or weights, with a model card.

    What is written is run and compared with the model first; nothing is written that differs.
    """
    del quiet, verbose, json, debug
    from gcsam_med.inference.export import export_run

    console.say(f"Exporting {run.name} as {format_name}")
    done = export_run(run, format_name, output, overwrite=overwrite)
    if done.synthetic:
        console.warn("Generated images had a part in this model; its card says so.")
    if "not chosen" in done.threshold_from:
        console.warn("The threshold was not chosen on validation: 0.5 is used.")
    same = "the run's weights" if done.difference is None else f"within {done.difference:.1e} of the model"
    console.result(
        {
            "output": str(done.folder),
            "format": format_name,
            "files": list(done.files),
            "largest_difference": done.difference,
            "synthetic": done.synthetic,
            "threshold_from": done.threshold_from,
        },
        f"Exported ({same}): {done.folder}\n" + "\n".join(f"  {name}" for name in done.files),
    )
