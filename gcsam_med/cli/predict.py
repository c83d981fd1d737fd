"""`gcsam-med predict`: predict images with a trained run, or several as an ensemble."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcsam_med.cli import console, options
from gcsam_med.errors import InputError

if TYPE_CHECKING:
    from gcsam_med.images import Frames
    from gcsam_med.inference import Predicted

_HOW, _WHAT = "How it is predicted", "What is written"


def predict(
    arguments: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN... INPUTS...",
            help="Run folders (several, or a folder of them: an ensemble), then images: files, folders, "
            "patterns, .zip archives.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write to.", rich_help_panel=_WHAT)
    ],
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", min=0, max=1, help="Default: the one chosen on validation.", rich_help_panel=_HOW
        ),
    ] = None,
    tta: Annotated[
        str | None,
        typer.Option("--tta", help="flip: also ask about the mirrored image.", rich_help_panel=_HOW),
    ] = None,
    mc_dropout: Annotated[
        int,
        typer.Option(
            "--mc-dropout",
            min=0,
            help="Ask so many samples of a network trained with dropout; 0: none.",
            rich_help_panel=_HOW,
        ),
    ] = 0,
    frames: Annotated[
        str,
        typer.Option("--frames", help="first, middle, all, or a number from 0.", rich_help_panel=_HOW),
    ] = "first",
    batch_size: options.BatchSize = None,
    device: options.Device = "auto",
    largest_component: Annotated[
        bool, typer.Option("--largest-component", help="Keep only the largest region.", rich_help_panel=_WHAT)
    ] = False,
    fill_holes: Annotated[
        bool, typer.Option("--fill-holes", help="Fill holes in regions.", rich_help_panel=_WHAT)
    ] = False,
    min_area: Annotated[
        int, typer.Option("--min-area", min=0, help="Drop smaller regions (pixels).", rich_help_panel=_WHAT)
    ] = 0,
    overlays: Annotated[
        bool, typer.Option("--overlays/--no-overlays", help="Draw outlines.", rich_help_panel=_WHAT)
    ] = True,
    dicom_seg: Annotated[
        bool,
        typer.Option(
            "--dicom-seg",
            help="Also a DICOM segmentation for each DICOM input (extra: dicom).",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    dicom_sr: Annotated[
        bool,
        typer.Option(
            "--dicom-sr",
            help="Also a DICOM structured report: sizes, with --dicom-seg; or class probabilities.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace other predictions there.", rich_help_panel=_WHAT)
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Predict images: masks and overlays, or class probabilities, and a table of them all."""
    del quiet, verbose, json, debug
    if tta not in (None, "flip"):
        raise InputError(f"Unknown --tta '{tta}'.", "Known: flip.")
    wanted = _frames(frames)
    runs, inputs = _divide(arguments)
    from gcsam_med.inference import PredictOptions
    from gcsam_med.inference import predict as run
    from gcsam_med.runs.postprocessing import Postprocessing

    outcome = run(
        runs,
        inputs,
        output,
        PredictOptions(
            threshold=threshold,
            batch_size=batch_size,
            device=device,
            flip=tta == "flip",
            mc_dropout=mc_dropout,
            frames=wanted,
            overlays=overlays,
            steps=Postprocessing(largest_component, fill_holes, min_area),
            dicom_seg=dicom_seg,
            dicom_sr=dicom_sr,
            overwrite=overwrite,
        ),
        track=console.track,
    )
    _tell(outcome)
    if outcome.faults:
        raise typer.Exit(InputError.exit_code)


def _frames(text: str) -> Frames:
    if text.isdigit():
        return int(text)
    named: dict[str, Frames] = {"first": "first", "middle": "middle", "all": "all"}
    if text in named:
        return named[text]
    raise InputError(f"Unknown --frames '{text}'.", "Give first, middle, all, or a number from 0.")


def _divide(arguments: list[Path]) -> tuple[list[Path], list[Path]]:
    """Tell run folders, which come first, from inputs."""
    count = next((i for i, path in enumerate(arguments) if not _holds_runs(path)), len(arguments))
    # What is no run is still taken as one if it stands first: its own error says what is missing.
    count = max(count, 1)
    if count == len(arguments):
        raise InputError(
            "There is nothing to predict.", "Usage: gcsam-med predict RUN IMAGES... --output out"
        )
    return arguments[:count], arguments[count:]


def _holds_runs(path: Path) -> bool:
    return (path / "config.yaml").is_file() or next(path.glob("*/config.yaml"), None) is not None


def _tell(outcome: Predicted) -> None:
    good = len(outcome.rows) - len(outcome.faults)
    if outcome.resumed:
        console.say(f"{outcome.resumed:,} inputs had been predicted before; went on from there.")
    if outcome.renamed:
        console.warn(
            f"{outcome.renamed:,} inputs share their name with another; their outputs are named by folder, "
            "see predictions.csv."
        )
    for fault in outcome.faults[:20]:
        console.warn(f"skipped {fault.path}: {fault.detail}")
    if len(outcome.faults) > 20:
        console.warn(f"... and {len(outcome.faults) - 20:,} more, see predictions.csv.")
    flags = Counter(flag for row in outcome.rows for flag in str(row["flags"]).split("; ") if flag)
    console.result(
        {
            "output": str(outcome.folder),
            "predicted": good,
            "failed": len(outcome.faults),
            "resumed": outcome.resumed,
            "renamed": outcome.renamed,
            "threshold": outcome.threshold,
            "threshold_from": outcome.threshold_from,
            "flags": dict(flags),
            "faults": [{"input": f.path, "reason": f.reason, "detail": f.detail} for f in outcome.faults],
        },
        f"{good:,} images predicted, {len(outcome.faults):,} skipped. Threshold {outcome.threshold:.3f} "
        f"({outcome.threshold_from}).\n"
        + "".join(f"{n:,} flagged: {flag}.\n" for flag, n in flags.items())
        + f"Table: {outcome.folder / 'predictions.csv'}",
    )
