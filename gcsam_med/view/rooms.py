"""All rooms of the page."""

from __future__ import annotations

from starlette.routing import Route

from gcsam_med.view.cases_room import CasesRoom
from gcsam_med.view.library import Library
from gcsam_med.view.predictions_room import PredictionsRoom
from gcsam_med.view.runs_room import RunsRoom


def routes(library: Library) -> list[Route]:
    """Return what the page answers to."""
    rooms = (RunsRoom(library), CasesRoom(library), PredictionsRoom(library))
    return [route for room in rooms for route in room.routes()]
