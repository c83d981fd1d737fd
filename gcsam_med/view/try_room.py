"""The room *try*: an image of your own, the answer of a run, and how sure it is; kept in memory only."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gcsam_med.images import ImageFault
from gcsam_med.images.picture import MAX_FILE_BYTES
from gcsam_med.inference.inputs import DecodedImage, Input, decode, safe_name
from gcsam_med.inference.results import Classification, Segmentation
from gcsam_med.reporting.text import number
from gcsam_med.runs import RunFolder
from gcsam_med.view.cases_room import ASKING
from gcsam_med.view.library import Library
from gcsam_med.view.pictures import Scene, heat_png, png
from gcsam_med.view.predictions_room import body_of, model_of
from gcsam_med.view.server import not_found, page

KEPT = 8  # answers in memory
Answer = tuple[str, Segmentation | Classification]  # of which run, and what


class TryRoom:
    """Handlers of the room."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def routes(self) -> list[Route]:
        """Return what the room answers to."""
        answer = "/try/answers/{answer}"
        return [
            Route("/try", self.form),
            Route("/try/{run}", self.ask, methods=["POST"]),
            Route(answer, self.show),
            Route(f"{answer}/image.png", self.image),
            Route(f"{answer}/scene.json", self.scene),
            Route(f"{answer}/heat.png", self.heat),
        ]

    def form(self, request: Request) -> Response:
        """Show where to drop an image."""
        runs = [(k, r.name) for k, r in self.library.runs().items() if RunFolder(r).model.is_dir()]
        return page(request, "try.html.j2", runs=runs)

    async def ask(self, request: Request) -> Response:
        """Answer about a file that was sent as it is; its name is for messages only."""
        data = await body_of(request, MAX_FILE_BYTES)
        run = self.library.run(request.path_params["run"])
        name = PurePosixPath(unquote(request.headers.get("x-file-name", ""))[-120:]).name or "image"
        found = await run_in_threadpool(_answer, run, data, name)
        key = secrets.token_urlsafe(9)
        self._answers[key] = (run.resolve().name, found)
        while len(self._answers) > KEPT:
            self._answers.popitem(last=False)
        return JSONResponse({"answer": f"/try/answers/{key}"})

    def show(self, request: Request) -> Response:
        """Show an answer."""
        run, found = self._look_up(request)
        said, sure = _words(found)
        return page(
            request,
            "answer.html.j2",
            run=run,
            said=said,
            sure=sure,
            flags=found.flags,
            notes=found.notes,
            words=f"Your image: {said}",
            base=f"/try/answers/{request.path_params['answer']}",
            segmentation=isinstance(found, Segmentation),
        )

    def image(self, request: Request) -> Response:
        """Send the image."""
        return png(self._look_up(request)[1].image)

    def scene(self, request: Request) -> Response:
        """Send what is laid over it."""
        found = self._look_up(request)[1]
        height, width = found.image.shape[:2]
        if isinstance(found, Segmentation):
            return Scene(height, width, {"prediction": found.mask}, found.probability).response()
        return Scene(height, width).response()

    def heat(self, request: Request) -> Response:
        """Send the probability of foreground as a map."""
        found = self._look_up(request)[1]
        if not isinstance(found, Segmentation):
            raise not_found("map")
        return heat_png(found.probability)

    def _look_up(self, request: Request) -> Answer:
        key = request.path_params["answer"]
        if key not in self._answers:
            raise not_found("answer; only the last few are kept, so there is none")
        return self._answers[key]


def _answer(run: Path, data: bytes, name: str) -> Segmentation | Classification:
    """Decode a file and ask the network; of several frames, the first."""
    model = model_of(run)
    item = Input(name, safe_name(PurePosixPath(name).stem), name, lambda: _whole(data, name))
    with ASKING:
        part = next(decode(item, model.ensemble))
        if not isinstance(part, DecodedImage):
            raise part
        return model.result(part, model.ensemble(part.letterboxed[None]).of(0))


def _whole(data: bytes, name: str) -> bytes:
    if not data:
        raise ImageFault("empty", name, "the file is empty (0 bytes).")
    return data


def _words(found: Segmentation | Classification) -> tuple[str, list[tuple[str, str]]]:
    """Say the answer in a line, and how sure it is as name and value."""
    if isinstance(found, Classification):
        known = found.calibrated or found.probabilities
        kind = "calibrated on validation" if found.calibrated else "not calibrated"
        ranked = sorted(known.items(), key=lambda pair: -pair[1])
        sure = [(f"Probability of {name}", f"{number(value)} ({kind})") for name, value in ranked]
        return f"{found.predicted}, probability {number(known[found.predicted], 2)}", [*sure, *_unlike(found)]
    share = found.area_px / found.mask.size
    sure = [("Highest probability in the image", number(float(found.probability.max())))]
    if found.area_px:
        inside = float(np.mean(found.probability[found.mask]))
        sure.append(("Mean probability inside the outline", number(inside)))
    if found.area_mm2 is not None:
        sure.append(("Area", f"{number(found.area_mm2)} mm²"))
    sure.append(("Foreground from this probability on", number(found.threshold)))
    said = f"{100 * share:.1f} % of the image is marked" if share else "Nothing is marked"
    return said, [*sure, *_unlike(found)]


def _unlike(found: Segmentation | Classification) -> list[tuple[str, str]]:
    pairs = (
        ("Distance from the training images, by intensities (above 1: unlike)", found.unlikeness),
        ("Distance from the training images, by features (above 1: unlike)", found.feature_unlikeness),
    )
    return [(name, number(value)) for name, value in pairs if value is not None]
