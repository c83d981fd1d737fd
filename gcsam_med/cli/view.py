"""`gcsam-med view`: look at runs, cases and predictions in the browser, on this machine only."""

from __future__ import annotations

import importlib.util
import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from gcsam_med.cli import completion, console
from gcsam_med.cli.from_model import from_models
from gcsam_med.errors import MissingExtra


@from_models
def view_command(
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN|STUDY|OUTPUT]",
            help="A run (its folder, or its name under runs/), a folder of runs, a study, or what predict "
            "wrote; default: all of runs/.",
            autocompletion=completion.of("runs"),
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="Port; 0: a free one.")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the browser.")] = False,
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", help="Folder of prepared data sets; default: as each run says."),
    ] = None,
) -> None:
    """Open a local page: runs, test cases, predictions to review and correct, and an image to try.

    It can be reached from this machine only, with the address that is printed first. Stop it with Ctrl-C.
    """
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise MissingExtra("The local page", "view")
    from gcsam_med.view.cases_room import open_newest
    from gcsam_med.view.library import Library, find_target
    from gcsam_med.view.rooms import routes
    from gcsam_med.view.server import serve

    library = Library(find_target(target), data_root)
    served = routes(library)

    def started(address: str) -> None:
        console.result({"address": address}, address)
        console.say("For research, not for diagnosis. Stop with Ctrl-C.")
        threading.Thread(target=open_newest, args=(library,), daemon=True).start()
        if not no_open:
            webbrowser.open(address)

    serve(served, port, started, debug=console.voice.debug)
