"""`gcsam-med predict` and `export`: use a trained run here, or hand it to other programs."""

from __future__ import annotations

import shlex
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcsam_med.cli import completion, console
from gcsam_med.cli.from_model import from_models
from gcsam_med.cli.runs import Run, find_run
from gcsam_med.config import ExportOptions, PredictOptions
from gcsam_med.errors import InputError

if TYPE_CHECKING:
    from gcsam_med.inference import Predicted


@from_models
def predict_command(
    arguments: Annotated[
        list[Path],
        typer.Argument(
            metavar="[RUN...] INPUTS...",
            help="Runs (several, or a folder of them: an ensemble; default: the newest finished one), then "
            "images: files, folders, patterns, .zip archives.",
            show_default=False,
            autocompletion=completion.of("runs"),
        ),
    ],
    options: PredictOptions,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder to write to; default: RUN/predictions/NAME, named by the first input.",
            rich_help_panel="What is written",
        ),
    ] = None,
) -> None:
    """Predict images: masks and overlays, or class probabilities, and a table of them all."""
    runs, inputs = _divide(arguments)
    if output is None:
        output = runs[0] / "predictions" / (inputs[0].resolve().stem or "images")
    from gcsam_med.inference import predict

    outcome = predict(runs, inputs, output, options, track=console.track)
    _tell(outcome)
    if outcome.faults:
        raise typer.Exit(InputError.exit_code)


@from_models
def export_command(
    options: ExportOptions,
    run: Run = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="New folder; default RUN/export/FORMAT.", show_default=False),
    ] = None,
) -> None:
    """Export a trained model: ONNX, torch.export, a MONAI bundle or weights, with a model card.

    What is written is run and compared with the model first; nothing is written that differs.
    """
    from gcsam_med.inference.export import export_run

    run = find_run(run)
    console.say(f"Exporting {run.name} as {options.format}")
    done = export_run(run, options.format, output, overwrite=options.overwrite)
    if done.synthetic:
        console.warn("The model was trained or evaluated on synthetic images; its card says so.")
    if "not chosen" in done.threshold_from:
        console.warn("The threshold was not chosen on validation: 0.5 is used.")
    same = "the run's weights" if done.difference is None else f"within {done.difference:.1e} of the model"
    console.result(
        {
            "output": str(done.folder),
            "format": options.format,
            "files": list(done.files),
            "largest_difference": done.difference,
            "synthetic": done.synthetic,
            "threshold_from": done.threshold_from,
        },
        f"Exported ({same}): {done.folder}\n" + "\n".join(f"  {name}" for name in done.files),
        then="read "
        + next((str(done.folder / name) for name in done.files if name.endswith("README.md")), "its files"),
    )


def _divide(arguments: list[Path]) -> tuple[list[Path], list[Path]]:
    """Tell runs, which come first, from inputs; without a run the newest finished one is meant."""
    named = [Path("runs") / path if _is_run_name(path) else path for path in arguments]
    count = next((i for i, path in enumerate(named) if not _holds_runs(path)), len(named))
    if count == len(arguments):
        raise InputError("There is nothing to predict.", "Usage: gcsam-med predict RUN IMAGES...")
    if count == 0:
        # What is not there may be a mistyped run, if an input follows.
        first = arguments[0] if len(arguments) > 1 and not arguments[0].exists() else None
        return [find_run(first)], arguments
    return named[:count], arguments[count:]


def _is_run_name(path: Path) -> bool:
    return not path.exists() and len(path.parts) == 1 and _holds_runs(Path("runs") / path)


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
        + f"Table: {outcome.folder / 'predictions.csv'}\nPictures: {outcome.folder / 'predictions.html'}",
        then=f"gcsam-med view {shlex.quote(str(outcome.folder))}"
        if find_spec("starlette") is not None
        else f"open {outcome.folder / 'predictions.html'} in a browser; flagged images come first",
    )
