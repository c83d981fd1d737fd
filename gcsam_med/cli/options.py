"""Options that several commands share, each with one meaning everywhere.

They name no defaults of a run: those stand in `gcsam_med.config`, and an option that was not given is None.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gcsam_med.cli.console import voice


def _set_quiet(value: bool) -> bool:
    voice.quiet |= value
    return value


def _set_verbose(value: bool) -> bool:
    voice.verbose |= value
    return value


def _set_json(value: bool) -> bool:
    voice.as_json |= value
    return value


def _set_debug(value: bool) -> bool:
    voice.debug |= value
    return value


# How the command talks. Their callbacks set the voice, so a command takes them and leaves them alone.
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only results, warnings and errors.", callback=_set_quiet)
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.", callback=_set_verbose)]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.", callback=_set_json)]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", callback=_set_debug)]

# What it works on
DatasetName = Annotated[
    str, typer.Option("--dataset", help="Name of a data set; see `gcsam-med list datasets`.")
]
DataRoot = Annotated[Path, typer.Option("--data-root", help="Folder of prepared data sets.")]
Source = Annotated[Path | None, typer.Option("--source", help="Folder, .zip or .csv with the images.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write to.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, runs/NAME.")]
SplitName = Annotated[str, typer.Option("--split", help="train, val or test.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Cases a forward pass.")]
