"""The command line: `gcsam-med COMMAND`. One file a command; errors become exit codes here only."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from gcsam_med import __version__
from gcsam_med.cli import (
    audit,
    calibrate,
    compare,
    console,
    doctor,
    evaluate,
    export,
    predict,
    prepare,
    preview,
    sharpness,
    train,
)
from gcsam_med.cli import list as listing
from gcsam_med.errors import GcsamMedError, machine_fault, unknown_name

app = typer.Typer(
    name="gcsam-med",
    help="Train and honestly evaluate networks on breast ultrasound and chest X-rays "
    "with GCSAM, SAM or Adam. For research, not for clinical use.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"gcsam-med {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


app.command("prepare")(prepare.prepare)
app.command("audit")(audit.audit)
app.command("preview")(preview.preview)
app.command("train")(train.train)
app.command("calibrate")(calibrate.calibrate)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("sharpness")(sharpness.sharpness)
app.command("list")(listing.list_names)
app.command("doctor")(doctor.doctor)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with the contract's exit code.

    Parameters
    ----------
    arguments : list of str, optional
        Default: ``sys.argv[1:]``.
    """
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code (see `gcsam_med.errors`)."""
    console.voice.reset()
    try:
        _check_command_name(arguments)
        code = app(arguments, prog_name="gcsam-med", standalone_mode=True)
        return int(code or 0)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except GcsamMedError as error:
        if console.voice.debug:
            traceback.print_exc()
        console.fail(error)
        return error.exit_code
    except KeyboardInterrupt:
        console.voice.err.print("Stopped.")
        return 130
    except Exception as error:
        if console.voice.debug:
            traceback.print_exc()
        return _unexpected(error)


def _unexpected(error: Exception) -> int:
    """Say what an error of another library or of the machine means, and return its exit code."""
    fault = machine_fault(error) if isinstance(error, (OSError, MemoryError)) else None
    if fault is not None:
        console.fail(fault)
        return fault.exit_code
    # The text of an unexpected error may quote file content, so only its kind is shown.
    console.voice.err.print(
        f"[bold red]error:[/] A bug in gcsam-med: {type(error).__name__}. "
        "Run again with --debug to see where, and report it."
    )
    return 1


def _check_command_name(arguments: list[str]) -> None:
    known = [command.name for command in app.registered_commands if command.name]
    known += [group.name for group in app.registered_groups if group.name]
    first = next((a for a in arguments if not a.startswith("-")), None)
    if first is not None and first == arguments[0] and first not in known:
        raise unknown_name("command", first, known)
