"""`gcsam-med calibrate`: fit a finished run's threshold, temperature and references anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gcsam_med.cli import console, options


def calibrate(
    run: options.RunArgument,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Folder of prepared data sets; default: the run's own.")
    ] = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Fit threshold, temperature and references of a run anew; `train` does it once at its end."""
    del quiet, verbose, json, debug
    from gcsam_med.runs import RunFolder
    from gcsam_med.training.calibration import calibrate_run

    found = calibrate_run(run, data_root=data_root, device=device, track=console.track)
    facts = [f"threshold {found.threshold:g} ({found.rule}; {found.n} cases)"]
    if found.temperature is not None:
        facts.append(f"temperature {found.temperature:.3g}")
    console.result(found.model_dump(by_alias=True), f"{RunFolder(run).model}: {', '.join(facts)}")
