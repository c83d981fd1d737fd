"""All rooms of the page."""

from __future__ import annotations

from starlette.routing import Route

from gcsam_med.view.cases_room import CasesRoom
from gcsam_med.view.compare_room import CompareRoom
from gcsam_med.view.library import Library
from gcsam_med.view.predictions_room import PredictionsRoom
from gcsam_med.view.runs_room import RunsRoom
from gcsam_med.view.try_room import TryRoom


def routes(library: Library) -> list[Route]:
    """Return what the page answers to."""
    return [
        *RunsRoom(library).routes(),
        *CasesRoom(library).routes(),
        *PredictionsRoom(library).routes(),
        *CompareRoom(library).routes(),
        *TryRoom(library).routes(),
    ]
