"""The room *predictions*: what `predict` wrote, flagged images first; accepted, rejected or corrected."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gcsam_med.errors import InputError
from gcsam_med.images.read import natural
from gcsam_med.inference.model import Model, load
from gcsam_med.reading import parse_json, validate
from gcsam_med.reporting.text import number
from gcsam_med.runs import RunFolder
from gcsam_med.view.cases_room import ASKING, attention, neighbours
from gcsam_med.view.library import Library
from gcsam_med.view.pictures import Scene, heat_png, png, small_jpeg
from gcsam_med.view.review import Output, Remark, as_number, open_output, unpack
from gcsam_med.view.server import not_found, page

ORDERS = {
    "": "flagged first",
    "sure": "most confident first",
    "unsure": "least confident first",
    "name": "by name",
}
NOT_REVIEWED = "not reviewed"
VERDICTS = (NOT_REVIEWED, "accepted", "rejected", "corrected")
MOST_REMARK = 64 * 2**10
HIDDEN = ("name", "status", "reason", "flags", "mask", "overlay", "dicom_seg", "dicom_sr", "predicted")


class PredictionsRoom:
    """Handlers of the room."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def routes(self) -> list[Route]:
        """Return what the room answers to."""
        place = "/predictions/{output}/{place:int}"
        return [
            Route("/predictions", self.first),
            Route("/predictions/{output}", self.grid),
            Route(place, self.one),
            Route(f"{place}/thumb.jpg", self.thumb),
            Route(f"{place}/image.png", self.image),
            Route(f"{place}/mask.png", self.mask),
            Route(f"{place}/scene.json", self.scene),
            Route(f"{place}/heat.png", self.heat),
            Route(f"{place}/review", self.save, methods=["POST"]),
            Route(f"{place}/mask", self.save_mask, methods=["PUT"]),
        ]

    def first(self, request: Request) -> Response:
        """Go to the output that was chosen, or the newest."""
        known = self.library.outputs()
        if not known:
            return page(
                request,
                "fault.html.j2",
                message="There are no predictions here yet.",
                advice="Make some with: gcsam-med predict RUN IMAGES - or name them: gcsam-med view OUTPUT",
            )
        chosen = request.query_params.get("output", "")
        return RedirectResponse(f"/predictions/{chosen if chosen in known else next(iter(known))}", 303)

    def grid(self, request: Request) -> Response:
        """Show all predictions that fit the query."""
        key, output = self._open(request)
        remarks = output.remarks()
        places = _order(output, remarks, request.query_params)
        flags = list(dict.fromkeys(f for i in range(len(output.rows)) for f in _flags(output, i)))
        filters = [("flag", "Flag", flags), ("verdict", "Review", VERDICTS)]
        if output.task == "classification":
            filters.append(("label", "Predicted", sorted(set(output.rows["predicted"]))))
        return page(
            request,
            "grid.html.j2",
            room="predictions",
            key=key,
            heading=f"Predictions: {output.folder.resolve().name}",
            choices=[(k, _title(folder)) for k, folder in self.library.outputs().items()],
            n_all=len(output.rows),
            cells=[(i, output.name(i), _line(output, remarks, i), _flags(output, i)) for i in places],
            orders=ORDERS,
            filters=filters,
            queried=urlencode(_kept(request.query_params)),
            failed=[(row["name"], row["reason"]) for _, row in output.failed.iterrows()],
            reviewed=sum(bool(r["verdict"]) for r in remarks.values()),
        )

    def one(self, request: Request) -> Response:
        """Show one prediction, and take what a person says about it."""
        key, output = self._open(request)
        place = self._place(request, output)
        remarks = output.remarks()
        remark = remarks.get(output.name(place), {})
        name = output.name(place)
        return page(
            request,
            "prediction.html.j2",
            room="predictions",
            key=key,
            name=name,
            words=f"{name}, {_answer(output, place)}",
            answer=_answer(output, place),
            shown=_facts(output, place),
            flags=_flags(output, place),
            around=neighbours(place, _order(output, remarks, request.query_params)),
            queried=urlencode(_kept(request.query_params)),
            base=f"/predictions/{key}/{place}",
            editable=output.task == "segmentation",
            classes=output.classes if output.task == "classification" else [],
            verdict=remark.get("verdict", ""),
            comment=remark.get("comment", ""),
            label=remark.get("label", ""),
        )

    def thumb(self, request: Request) -> Response:
        """Send a small picture."""
        _, output = self._open(request)
        return small_jpeg(output.small(self._place(request, output)))

    def image(self, request: Request) -> Response:
        """Send the image at its own size."""
        _, output = self._open(request)
        return png(output.image(self._place(request, output)))

    def mask(self, request: Request) -> Response:
        """Send the mask as it is now, 0 and 255."""
        _, output = self._open(request)
        return png(output.mask(self._place(request, output)).astype(np.uint8) * 255)

    def scene(self, request: Request) -> Response:
        """Send what is laid over the image."""
        _, output = self._open(request)
        place = self._place(request, output)
        height, width = output.image(place).shape[:2]
        if output.task == "segmentation":
            masks = {"prediction": output.mask(place, corrected=False)}
            return Scene(height, width, masks).response()
        return Scene(height, width, heat=self._attention(output, place)).response()

    def heat(self, request: Request) -> Response:
        """Send where a classifier looked."""
        _, output = self._open(request)
        heat = self._attention(output, self._place(request, output))
        if heat is None:
            raise not_found("map")
        return heat_png(heat)

    def _attention(self, output: Output, place: int) -> np.ndarray | None:
        """Map of the predicted class, without padding; None if the model is not here or keeps none."""
        run = self.library.run_of(output.folder, output.weights)
        called = output.cells[place].get("predicted", "")
        if run is None or called not in output.classes:
            return None
        model = model_of(run)
        part = model.decoded(output.image(place))
        with ASKING:
            found = attention(model.ensemble.models[0], part.letterboxed, called)
        top, left, bottom, right = part.geometry.box
        return None if found is None else found[top:bottom, left:right]

    async def save(self, request: Request) -> Response:
        """Keep a verdict or a comment."""
        body = await body_of(request, MOST_REMARK)
        return await _in_thread(self._save, request, body)

    def _save(self, request: Request, body: bytes) -> Response:
        _, output = self._open(request)
        try:
            remark = validate(parse_json(body), Remark)
        except ValueError as error:
            raise InputError(f"The remark cannot be kept: {error}.") from None
        return JSONResponse(output.save(self._place(request, output), remark))

    async def save_mask(self, request: Request) -> Response:
        """Keep a corrected mask, a bit a pixel."""
        body = await body_of(request, 8 * 2**20)
        return await _in_thread(self._save_mask, request, body)

    def _save_mask(self, request: Request, body: bytes) -> Response:
        _, output = self._open(request)
        place = self._place(request, output)
        mask = unpack(body, *output.image(place).shape[:2])
        comment = output.remarks().get(output.name(place), {}).get("comment", "")
        return JSONResponse(output.save(place, Remark(verdict="corrected", comment=comment), mask))

    def _open(self, request: Request) -> tuple[str, Output]:
        key = request.path_params["output"]
        return key, open_output(self.library.output(key))

    def _place(self, request: Request, output: Output) -> int:
        place: int = request.path_params["place"]
        if not 0 <= place < len(output.rows):
            raise not_found("image")
        return place


def model_of(run: Path) -> Model:
    """Return the model of a run; the last few are kept until their files change."""
    return _model(run, RunFolder(run).model.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _model(run: Path, stamp: int) -> Model:
    del stamp
    return load(run)


async def _in_thread(work: Any, *arguments: Any) -> Response:
    from starlette.concurrency import run_in_threadpool

    answer: Response = await run_in_threadpool(work, *arguments)
    return answer


async def body_of(request: Request, most: int) -> bytes:
    """Read a request's body of at most `most` bytes, whatever its header says."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise InputError(f"More than {most:,} bytes were sent.")
        parts.append(part)
    return b"".join(parts)


def _title(folder: Path) -> str:
    """Name an output, with its run where it lies in one."""
    parts = folder.resolve().parts
    return f"{parts[-3]}, {parts[-1]}" if parts[-2:-1] == ("predictions",) else parts[-1]


def _flags(output: Output, place: int) -> tuple[str, ...]:
    text = output.cells[place]["flags"]
    return tuple(flag for flag in text.split("; ") if flag)


def _confidence(output: Output, place: int) -> float:
    """How sure the model is: probability of the predicted class, or the mean inside the mask."""
    row = output.cells[place]
    if output.task == "segmentation":
        return as_number(row.get("mean_probability", ""))
    called = row["predicted"]
    return as_number(row.get(f"calibrated_{called}") or row.get(f"prob_{called}", ""))


def _answer(output: Output, place: int) -> str:
    row = output.cells[place]
    if output.task == "segmentation":
        share = as_number(row["area_share"])
        return "nothing marked" if share == 0 else f"{100 * share:.1f} % marked"
    return f"{row['predicted']} {number(_confidence(output, place), 2)}"


def _line(output: Output, remarks: dict[str, dict[str, str]], place: int) -> str:
    verdict = remarks.get(output.name(place), {}).get("verdict", "")
    return _answer(output, place) + (f" ({verdict})" if verdict else "")


def _facts(output: Output, place: int) -> list[tuple[str, str]]:
    shown = []
    for column, cell in output.cells[place].items():
        name = str(column)
        if name in HIDDEN or not cell:
            continue
        title = name.removeprefix("prob_").removeprefix("calibrated_").replace("_", " ")
        if name.startswith(("prob_", "calibrated_")):
            title = f"Probability of {title}" + (", calibrated" if name.startswith("calibrated_") else "")
        value = as_number(cell)
        plain = math.isnan(value) or value == int(value)
        shown.append((title, str(cell) if plain else number(value)))
    return shown


def _order(output: Output, remarks: dict[str, dict[str, str]], query: QueryParams) -> list[int]:
    """Return the places that a query asks for, in its order."""
    flag, verdict, label = (query.get(name, "") for name in ("flag", "verdict", "label"))

    def fits(place: int) -> bool:
        said = remarks.get(output.name(place), {}).get("verdict", "") or NOT_REVIEWED
        return (
            (not flag or flag in _flags(output, place))
            and (not verdict or verdict == said)
            and (not label or output.cells[place]["predicted"] == label)
        )

    places = [i for i in range(len(output.rows)) if fits(i)]
    how = query.get("sort", "")
    if how == "name":
        return sorted(places, key=lambda i: natural(output.name(i)))
    if how in ("sure", "unsure"):
        sign = -1 if how == "sure" else 1
        sure = {i: _confidence(output, i) for i in places}
        return sorted(places, key=lambda i: (math.isnan(sure[i]), sign * np.nan_to_num(sure[i])))
    return sorted(places, key=lambda i: not _flags(output, i))


def _kept(query: QueryParams) -> list[tuple[str, str]]:
    """Return the order and filters of a query, to carry along."""
    return [(name, query[name]) for name in ("sort", "flag", "verdict", "label") if query.get(name)]
