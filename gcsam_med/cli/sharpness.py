"""`gcsam-med sharpness`: how flat the minimum of a run is."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcsam_med.cli import console, options

if TYPE_CHECKING:
    from gcsam_med.evaluation.flatness import Sharpness


def sharpness(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several are compared.")],
    split: Annotated[str, typer.Option("--split", help="Whose loss: train, val or test.")] = "train",
    cases: Annotated[int, typer.Option("--cases", min=1, help="Size of the sample.")] = 64,
    rho: Annotated[
        float | None, typer.Option("--rho", min=0, help="Radius of the worst loss; default: the run's own.")
    ] = None,
    eigenvalues: Annotated[int, typer.Option("--eigenvalues", min=1, help="How many of the largest.")] = 3,
    trace_samples: Annotated[int, typer.Option("--trace-samples", min=2, help="Random vectors.")] = 30,
    line_points: Annotated[int, typer.Option("--line-points", min=0, help="0: no line.")] = 41,
    surface_points: Annotated[
        int, typer.Option("--surface-points", min=0, help="A side; their square in all; 0: no surface.")
    ] = 15,
    radius: Annotated[float, typer.Option("--radius", help="Of the pictures, in filter sizes.")] = 1.0,
    batch_size: options.BatchSize = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of sample and directions.")] = 0,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Folder of prepared data sets; default: the run's own.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; default: RUN/sharpness of the first run.")
    ] = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Measure how sharp the minimum is: Hessian eigenvalues and trace, worst loss within rho, landscape."""
    del quiet, verbose, json, debug
    from gcsam_med.evaluation.flatness import SharpnessOptions, measure_sharpness
    from gcsam_med.files import write_durably
    from gcsam_med.reporting.figures import loss_lines, loss_surface
    from gcsam_med.reporting.style import look, to_png
    from gcsam_med.runs import RunFolder

    what = SharpnessOptions(
        split=split,
        cases=cases,
        rho=rho,
        eigenvalues=eigenvalues,
        trace_samples=trace_samples,
        line_points=line_points,
        surface_points=surface_points,
        radius=radius,
        batch_size=batch_size or SharpnessOptions.batch_size,
        seed=seed,
    )
    found = []
    for root in runs:
        measured = measure_sharpness(root, what, data_root=data_root, device=device, track=console.track)
        folder = output / measured.run if output else RunFolder(root).sharpness
        folder.mkdir(parents=True, exist_ok=True)
        content = measured.to_json()
        write_durably(folder / "sharpness.json", (jsonlib.dumps(content, indent=1) + "\n").encode())
        if content["line"]:
            with look():
                write_durably(folder / "line.png", to_png(loss_lines([content])))
        if content["surface"]:
            with look():
                write_durably(folder / "surface.png", to_png(loss_surface(content)))
        found.append(measured)
    contents = [measured.to_json() for measured in found]
    folder = output or RunFolder(runs[0]).sharpness
    if len(runs) > 1 and line_points:
        with look():
            write_durably(folder / "comparison.png", to_png(loss_lines(contents)))
    _show(found)
    console.result({"runs": contents}, f"Pictures and sharpness.json: {folder}")


def _show(found: list[Sharpness]) -> None:
    console.table(
        f"Loss of {found[0].cases} {found[0].split} cases ({found[0].loss_name})",
        ["run", "loss", "largest eigenvalue", "trace", "increase within rho", "rho"],
        [
            (
                one.run,
                f"{one.loss:.4f}",
                f"{one.spectrum.largest[0]:.3g} ± {one.spectrum.largest_errors[0]:.1g}",
                f"{one.trace.value:.3g} ± {one.trace.standard_error:.1g}",
                f"{one.worst.increase:.4g}",
                f"{one.worst.rho:g}",
            )
            for one in found
        ],
        result=True,
    )
