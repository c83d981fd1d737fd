"""The room *compare*: one case, and what each of several runs makes of it, side by side."""

from __future__ import annotations

from urllib.parse import urlencode

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gcsam_med.errors import GcsamMedError, InputError
from gcsam_med.reporting.text import number
from gcsam_med.view.cases_room import KEPT, OpenedEvaluation, neighbours, open_cases
from gcsam_med.view.library import Library
from gcsam_med.view.server import not_found, page

ORDERS = {"": "largest difference first", "worst": "lowest mean first", "name": "by name"}


class CompareRoom:
    """Handlers of the room."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def routes(self) -> list[Route]:
        """Return what the room answers to."""
        return [Route("/compare", self.grid), Route("/compare/{place:int}", self.case)]

    def grid(self, request: Request) -> Response:
        """Show the cases that all chosen runs were evaluated on."""
        arms, damaged = self._arms(request)
        values = _values(arms)
        return page(
            request,
            "compare.html.j2",
            evaluations=self.library.choices(),
            chosen=list(arms),
            names=[_name(arm) for arm in arms.values()],
            means=[number(float(np.nanmean(column))) for column in values.T],
            measure="Dice" if _first(arms).task == "segmentation" else "probability of the true class",
            orders=ORDERS,
            key=next(iter(arms)),
            cells=[
                (place, _first(arms).cases["case_id"].iloc[place], [number(v, 2) for v in values[place]])
                for place in _order(values, request.query_params.get("sort", ""))
            ],
            queried=self._queried(request, arms),
            damaged=damaged,
        )

    def case(self, request: Request) -> Response:
        """Show one case, a stage an arm."""
        arms, _ = self._arms(request)
        place: int = request.path_params["place"]
        if not 0 <= place < len(_first(arms).cases):
            raise not_found("case")
        case = str(_first(arms).cases["case_id"].iloc[place])
        stages = []
        for key, arm in arms.items():
            own = arm.cases["case_id"].tolist().index(case)
            stages.append((f"/cases/{key}/{own}", _name(arm), arm.lines[own], f"{case}, {_name(arm)}"))
        order = _order(_values(arms), request.query_params.get("sort", ""))
        return page(
            request,
            "compare_case.html.j2",
            name=case,
            label=_first(arms).cases["label"].iloc[place],
            stages=stages,
            around=neighbours(place, order),
            queried=self._queried(request, arms),
        )

    def _arms(self, request: Request) -> tuple[dict[str, OpenedEvaluation], dict[str, str]]:
        """Open the chosen evaluations, by id; by default the most that ask one question.

        Also return what is wrong with each run that cannot be opened, by name.
        """
        known = self.library.evaluations(pooled=False)
        if not known:
            raise InputError("No run here is evaluated yet.", "Evaluate two with: gcsam-med evaluate RUN")
        wanted = [key for key in request.query_params.getlist("run") if key in known][:KEPT]
        opened, damaged = {}, {}
        for key in wanted or list(known)[:KEPT]:
            try:
                opened[key] = open_cases(self.library, known[key])
            except GcsamMedError as error:
                damaged[known[key].run.resolve().name] = f"{error.message} {error.advice}"
        if not opened:
            raise InputError(" ".join(damaged.values()))
        groups: list[dict[str, OpenedEvaluation]] = []
        for key, arm in opened.items():
            own = next((group for group in groups if _alike(_first(group), arm)), None)
            if own is None:
                groups.append({key: arm})
            else:
                own[key] = arm
        if wanted and len(groups) > 1:
            names = " and ".join(_name(_first(group)) for group in groups[:2])
            raise InputError(
                f"{names} were evaluated on other cases, or for another task.",
                "Choose runs of the same data and task.",
            )
        return max(groups, key=len), damaged

    def _queried(self, request: Request, arms: dict[str, OpenedEvaluation]) -> str:
        sort = request.query_params.get("sort", "")
        return urlencode([("run", key) for key in arms] + ([("sort", sort)] if sort else []))


def _first(arms: dict[str, OpenedEvaluation]) -> OpenedEvaluation:
    return next(iter(arms.values()))


def _alike(one: OpenedEvaluation, other: OpenedEvaluation) -> bool:
    same_data = one.dataset.info.content_sha256 == other.dataset.info.content_sha256
    return same_data and one.task == other.task and set(one.cases["case_id"]) == set(other.cases["case_id"])


def _name(arm: OpenedEvaluation) -> str:
    return arm.evaluation.run.resolve().name


def _values(arms: dict[str, OpenedEvaluation]) -> np.ndarray:
    """Return what is compared, (cases, arms), in the order of the first arm's cases; NaN where undefined."""
    columns: list[list[float]] = []
    for arm in arms.values():
        table = arm.cases.set_index("case_id").loc[_first(arms).cases["case_id"]]
        if arm.task == "segmentation":
            columns.append([float(value) for value in table["dice"]])
        else:
            columns.append([float(row[f"prob_{row['label']}"]) for _, row in table.iterrows()])
    return np.array(columns, dtype=float).T


def _order(values: np.ndarray, how: str) -> list[int]:
    def key(place: int) -> tuple[bool, float]:
        row = values[place]
        if np.isnan(row).all() or how == "name":
            return True, 0.0
        return False, float(np.nanmean(row)) if how == "worst" else -float(np.nanmax(row) - np.nanmin(row))

    return sorted(range(len(values)), key=key)
