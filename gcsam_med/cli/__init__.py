"""The command line: `gcsam-med COMMAND`. Errors become exit codes here only.

A command's module is imported when it is used: `gcsam-med --help` needs nothing but its docstring.
"""

from __future__ import annotations

import ast
import gc
import importlib.util
import re
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from gcsam_med import __version__
from gcsam_med.cli import console, streams
from gcsam_med.errors import GcsamMedError, InputError, machine_fault, unknown_name

COMMANDS = {
    "run": "guided",
    "prepare": "prepare",
    "audit": "prepare",
    "preview": "prepare",
    "train": "train",
    "calibrate": "evaluate",
    "evaluate": "evaluate",
    "compare": "compare",
    "protocol": "protocol",
    "plan": "compare",
    "predict": "predict",
    "export": "predict",
    "sharpness": "evaluate",
    "runs": "runs",
    "view": "view",
    "list": "info",
    "doctor": "info",
}
"""Every command, in the order of the help, and the module here that holds it."""
_CONTEXT = {"help_option_names": ["-h", "--help"]}


class _Commands(TyperGroup):
    """Imports a command when it is called; the list of all of them shows docstrings only."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        if cmd_name not in COMMANDS:
            raise unknown_name("command", cmd_name, COMMANDS)
        if self._listing:
            return TyperCommand(cmd_name, help=_docstring(cmd_name))
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        module = import_module(f"gcsam_med.cli.{COMMANDS[cmd_name]}")
        alone.command(cmd_name, context_settings=_CONTEXT)(getattr(module, f"{cmd_name}_command"))
        return typer.main.get_command(alone)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


def _docstring(command: str) -> str:
    """The first paragraph of a command's docstring, read without importing its module."""
    source = importlib.util.find_spec(f"gcsam_med.cli.{COMMANDS[command]}")
    tree = ast.parse(Path(str(source and source.origin)).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    text = next(ast.get_docstring(f) for f in functions if f.name == f"{command}_command")
    return str(text).partition("\n\n")[0]


app = typer.Typer(
    cls=_Commands,
    name="gcsam-med",
    help="Train and honestly evaluate networks on breast ultrasound and chest X-rays "
    "with GCSAM, SAM or Adam. For research, not for clinical use.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
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


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with the contract's exit code.

    Parameters
    ----------
    arguments : list of str, optional
        Default: ``sys.argv[1:]``.
    """
    # Imports make a million objects that stay: looking through them again and again takes a fifth of
    # the time.
    gc.set_threshold(10_000, 20, 20)
    streams.prepare_process()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code (see `gcsam_med.errors`)."""
    console.voice.reset()
    try:
        _check_options(arguments)
        code = app(_joined_arms(arguments), prog_name="gcsam-med", standalone_mode=True)
        return int(code or 0)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except GcsamMedError as error:
        if console.voice.debug:
            traceback.print_exc()
        console.fail(error)
        return error.exit_code
    except KeyboardInterrupt:
        console.say("Stopped (Ctrl-C).")
        return 130
    except Exception as error:
        if console.voice.debug:
            traceback.print_exc()
        return _unexpected(error)


def _unexpected(error: Exception) -> int:
    """Say what an error of another library or of the machine means, and return its exit code."""
    fault = machine_fault(error)
    if fault is not None:
        console.fail(fault)
        return fault.exit_code
    # The text of an unexpected error may quote file content, so only its kind is shown.
    console.fail(
        GcsamMedError(
            f"A bug in gcsam-med: {type(error).__name__}. Run again with --debug to see where, and report it."
        )
    )
    return 1


_ELSEWHERE = {
    ("train", "--size"): (
        "The size of the images is chosen when they are prepared, not by train.",
        "Prepare them once more under another name: gcsam-med prepare ... --size 128 --name NAME128",
    ),
}


def _joined_arms(arguments: list[str]) -> list[str]:
    """Join ``--arm NAME key=value key=value`` to one value, which the parser of options takes."""
    joined: list[str] = []
    in_arm = False
    for argument in arguments:
        if in_arm and re.match(r"\w+=", argument):
            joined[-1] += f" {argument}"
        else:
            in_arm = argument.startswith("--arm=") or (len(joined) > 0 and joined[-1] == "--arm")
            joined.append(argument)
    return joined


def _check_options(arguments: list[str]) -> None:
    """Answer options that people look for in the wrong command."""
    for argument in arguments[1:]:
        found = _ELSEWHERE.get((arguments[0], argument.partition("=")[0]))
        if found is not None:
            raise InputError(*found)
