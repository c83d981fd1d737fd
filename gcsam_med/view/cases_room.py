"""The room *cases*: all cases of an evaluation as a grid, and each with image, truth, prediction and map."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.errors import GcsamMedError, InputError
from gcsam_med.escape import plain_cell
from gcsam_med.evaluation.context import EvaluationContext, find_data, open_evaluation
from gcsam_med.evaluation.gallery import grad_cam
from gcsam_med.evaluation.subgroups import subgroup_columns
from gcsam_med.metrics.table import METRICS
from gcsam_med.reading import read_csv
from gcsam_med.reporting.drawing import TRUTH, draw_outlines
from gcsam_med.reporting.text import number, plain_value
from gcsam_med.reporting.write import read_metrics
from gcsam_med.runs import ModelCard, RunFolder, TrainedModel, load_card, network_outputs
from gcsam_med.view.library import CASES, Evaluation, Library
from gcsam_med.view.library import METRICS as METRICS_FILE
from gcsam_med.view.pictures import SIDE, Scene, heat_png, png, small_jpeg
from gcsam_med.view.server import not_found, page

LOW_DICE, CONFIDENT = 0.5, 0.9
KEPT = 8  # opened evaluations, each with its model once that was asked
HIDDEN = ("case_id", "group_id", "area_unit", "distance_unit", "correct")
ORDERS = {
    "segmentation": {"": "lowest Dice first", "best": "highest Dice first", "name": "by name"},
    "classification": {
        "": "wrong and confident first",
        "sure": "most confident first",
        "unsure": "least confident first",
        "name": "by name",
    },
}
ASKING = threading.Lock()
"""Networks, and their hooks, answer one question at a time."""
OPENING = threading.Lock()
"""Evaluations are opened one after the other, so that two requests do not open the same one twice."""


def attention(model: TrainedModel, letterboxed: np.ndarray, called: str) -> np.ndarray | None:
    """Return where an image raises the score of a class, float (S, S) in [0, 1]; see `grad_cam`."""
    import torch

    batch = model.tensor(letterboxed[None])
    chosen = torch.tensor([model.card.classes.index(called)], device=batch.device)
    found = grad_cam(model.network, batch, chosen)
    return None if found is None else found[0]


@dataclass(frozen=True)
class OpenedEvaluation:
    """An evaluation with its data; the model is opened when it is asked for the first time."""

    evaluation: Evaluation
    data_root: Path | None
    external: str | None  #: Name of the data set, where it is not the run's own.
    split: str
    dataset: PreparedDataset
    card: ModelCard
    task: str
    cases: pd.DataFrame  #: As ``cases.csv``, numbers as numbers.
    rows: np.ndarray  #: Row of the data set of each case.
    threshold: float  #: Of the evaluation, for a mask.
    policy: Mapping[str, Any]  #: How it was measured.
    flags: Sequence[tuple[str, ...]]  #: What is wrong with each case.
    subgroups: Mapping[str, np.ndarray]  #: By attribute, one text for each case.

    @cached_property
    def context(self) -> EvaluationContext:
        """Data and model."""
        return open_evaluation(
            self.evaluation.run,
            self.split,
            dataset=self.external,
            data_root=self.data_root,
            unfinished=True,
        )

    @cached_property
    def lines(self) -> list[str]:
        """How each case went, in a line."""
        if self.task == "segmentation":
            dice = self.cases["dice"].tolist()
            return [f"Dice {number(value)}" if math.isfinite(value) else "no lesion" for value in dice]
        answers = zip(self.cases["correct"], self.cases["predicted"], self.confidences, strict=True)
        return [f"{'' if right == 1 else 'wrong: '}{called} {number(p, 2)}" for right, called, p in answers]

    @cached_property
    def confidences(self) -> list[float]:
        """Probability of the predicted class of each case, calibrated where the model is."""
        called = self.cases["predicted"].to_numpy(dtype=str)
        found = np.full(len(called), math.nan)
        for name in set(called):
            column = f"calibrated_{name}" if f"calibrated_{name}" in self.cases else f"prob_{name}"
            found[called == name] = self.cases[column].to_numpy(dtype=float)[called == name]
        return found.tolist()

    def scene(self, place: int) -> Scene:
        """Ask the network about a case."""
        row, data = int(self.rows[place]), self.dataset
        geometry = data.geometry(row)
        with ASKING:
            model = self.context.model
            _, probability = next(network_outputs(model, data.images, np.array([row])))
            heat = (
                probability
                if self.task == "segmentation"
                else attention(model, data.images([row])[0], str(self.cases["predicted"].iloc[place]))
            )
        masks, facts = {}, []
        if data.info.has_masks:
            masks["truth"] = data.original_mask(row)
        if self.task == "segmentation":
            masks["prediction"] = geometry.restore(probability) >= self.threshold
        else:
            by_class = zip(model.card.classes, probability, strict=True)
            facts = [(f"Probability of {name}", number(float(p))) for name, p in by_class]
        top, left, bottom, right = geometry.box
        inner = None if heat is None else heat[top:bottom, left:right]
        return Scene(geometry.height, geometry.width, masks, inner, tuple(facts))

    def picture(self, place: int) -> np.ndarray:
        """Return the stored image without its padding: what the network sees."""
        row, data = int(self.rows[place]), self.dataset
        top, left, bottom, right = data.geometry(row).box
        return np.ascontiguousarray(data.images([row])[0][top:bottom, left:right])

    def small(self, place: int) -> np.ndarray:
        """Return a thumbnail with the true outline."""
        from PIL import Image

        picture, data = self.picture(place), self.dataset
        scale = SIDE / max(picture.shape[:2])
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        grown = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
        if not data.info.has_masks:
            return grown
        truth = Image.fromarray(data.original_mask(int(self.rows[place])).astype(np.uint8) * 255)
        fitted = np.asarray(truth.resize(size, Image.Resampling.BILINEAR)) >= 128
        return draw_outlines(grown, [(fitted, TRUTH, False)], width=1)

    def facts(self, place: int) -> list[tuple[str, str]]:
        """Return what ``cases.csv`` says of a case, with the metrics' titles and units."""
        case = self.cases.iloc[place]
        unit = str(case.get("area_unit", "")).replace("2", "²")
        known = METRICS[self.task]
        shown = []
        for column, value in case.items():
            name = str(column)
            if name in HIDDEN or (name not in known and name.startswith(("prob_", "calibrated_"))):
                continue
            title = known[name].heading(self.policy) if name in known else name.replace("_", " ")
            text = plain_value(value)
            if isinstance(value, float):
                counted = name not in known and value == value // 1
                text = f"{value:,.0f}" if counted else number(value)
            shown.append((title, f"{text} {unit}" if name.startswith("area_") else text))
        return shown

    def order(self, query: QueryParams) -> list[int]:
        """Return the places of the cases that a query asks for, in its order."""
        places = [i for i in range(len(self.cases)) if self._fits(i, query)]
        how = query.get("sort", "")
        if how == "name":
            return places
        if self.task == "segmentation":
            dice = self.cases["dice"].to_numpy(dtype=float)
            sign = -1 if how == "best" else 1
            return sorted(places, key=lambda i: (math.isnan(dice[i]), sign * np.nan_to_num(dice[i])))
        right = self.cases["correct"].to_numpy(dtype=float)
        sign = 1 if how == "unsure" else -1
        return sorted(places, key=lambda i: (not how and right[i] == 1, sign * self.confidences[i]))

    def _fits(self, place: int, query: QueryParams) -> bool:
        label, flag, part = (query.get(name, "") for name in ("label", "flag", "part"))
        attribute, _, value = part.partition("=")
        return (
            (not label or self.cases["label"].iloc[place] == label)
            and (not flag or flag in self.flags[place])
            and (attribute not in self.subgroups or self.subgroups[attribute][place] == value)
        )

    def parts(self) -> list[str]:
        """Return every subgroup as ``attribute=value``."""
        parts = ((name, value) for name, texts in self.subgroups.items() for value in sorted(set(texts)))
        return [f"{name}={value}" for name, value in parts if value]


def open_cases(library: Library, evaluation: Evaluation) -> OpenedEvaluation:
    """Open an evaluation with its data and model; kept open until its metrics change."""
    stamp = (evaluation.folder / METRICS_FILE).stat().st_mtime_ns
    with OPENING:
        return _opened(library, evaluation, stamp)


def open_newest(library: Library) -> None:
    """Open the newest evaluation and its model, so that nobody waits for libraries to load."""
    with suppress(GcsamMedError, OSError):
        for evaluation in library.evaluations(pooled=False).values():
            opened = open_cases(library, evaluation)
            with ASKING:
                _ = opened.context
            break


@lru_cache(maxsize=KEPT)
def _opened(library: Library, evaluation: Evaluation, stamp: int) -> OpenedEvaluation:
    del stamp
    again = f"Make it again with: gcsam-med evaluate {evaluation.run}"
    metrics = read_metrics(evaluation.folder / METRICS_FILE, again)
    run = RunFolder.open(evaluation.run)
    card = load_card(run.model)
    external = metrics["dataset"] if metrics["external"] else None
    trained_from = run.config_of(card).data_root
    dataset, _, _ = find_data(library.data_root or trained_from, trained_from, card, external)
    task = card.task
    path = evaluation.folder / CASES
    table = read_csv(path, ["case_id", "label"], again, sha256=metrics["cases_sha256"])
    cases = _numbers(table, task, again)
    manifest = dataset.manifest
    row_of = {case: row for row, case in enumerate(manifest["case_id"].to_numpy(dtype=str))}
    missing = [case for case in cases["case_id"] if case not in row_of]
    if missing:
        raise InputError(
            f"{len(missing)} of the evaluated cases are not in '{dataset.info.name}' any more.", again
        )
    rows = np.array([row_of[case] for case in cases["case_id"]], dtype=np.int64)
    return OpenedEvaluation(
        evaluation,
        library.data_root,
        external,
        metrics["split"],
        dataset,
        card,
        task,
        cases,
        rows,
        float(metrics["operating_point"]["threshold"]) if task == "segmentation" else 0.0,
        metrics["policy"],
        [_flags(case, task) for _, case in cases.iterrows()],
        dict(subgroup_columns(manifest.iloc[rows])),
    )


def _numbers(table: pd.DataFrame, task: str, again: str) -> pd.DataFrame:
    """Turn the columns of numbers into numbers, and undo what protects spreadsheets."""
    needed = ["dice", "missed", "false_positives"] if task == "segmentation" else ["predicted", "correct"]
    absent = [name for name in needed if name not in table]
    if absent:
        raise InputError(f"The table of cases has no column {absent[0]}.", again)
    for column in table.columns:
        if column in ("case_id", "group_id", "label", "predicted"):
            table[column] = [plain_cell(text) for text in table[column]]
        elif not column.endswith("_unit"):
            table[column] = pd.to_numeric(table[column], errors="coerce").astype(float)
    return table


def _flags(case: pd.Series, task: str) -> tuple[str, ...]:
    if task == "segmentation":
        found = {
            "missed": case["missed"] > 0,
            f"Dice below {LOW_DICE}": case["dice"] < LOW_DICE,
            "marked without a lesion": math.isnan(case["dice"]) and case["false_positives"] > 0,
        }
    else:
        called = case["predicted"]
        sure = case.get(f"calibrated_{called}", case.get(f"prob_{called}", 0.0)) >= CONFIDENT
        wrong = case["correct"] != 1
        found = {"wrong": wrong, f"wrong and confident ({CONFIDENT} or more)": wrong and sure}
    return tuple(name for name, holds in found.items() if holds)


class CasesRoom:
    """Handlers of the room."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def routes(self) -> list[Route]:
        """Return what the room answers to."""
        place = "/cases/{evaluation}/{place:int}"
        return [
            Route("/cases", self.first),
            Route("/cases/{evaluation}", self.grid),
            Route(place, self.case),
            Route(f"{place}/thumb.jpg", self.thumb),
            Route(f"{place}/image.png", self.image),
            Route(f"{place}/scene.json", self.scene),
            Route(f"{place}/heat.png", self.heat),
        ]

    def first(self, request: Request) -> Response:
        """Go to the evaluation that was chosen, or the newest run's."""
        known = self.library.evaluations(pooled=False)
        if not known:
            return page(
                request,
                "fault.html.j2",
                message="No run here is evaluated yet, so there are no cases to look at.",
                advice="Evaluate one with: gcsam-med evaluate RUN",
            )
        chosen = request.query_params.get("evaluation", "")
        return RedirectResponse(f"/cases/{chosen if chosen in known else next(iter(known))}", 303)

    def grid(self, request: Request) -> Response:
        """Show all cases that fit the query."""
        key, opened = self._open(request)
        places, names = opened.order(request.query_params), opened.cases["case_id"].tolist()
        return page(
            request,
            "grid.html.j2",
            room="cases",
            key=key,
            heading=f"Cases of {opened.evaluation.run.resolve().name}",
            choices=self.library.choices(),
            n_all=len(opened.cases),
            cells=[(place, names[place], opened.lines[place], opened.flags[place]) for place in places],
            orders=ORDERS[opened.task],
            filters=[
                ("label", "Class", sorted({x for x in opened.cases["label"] if x})),
                ("flag", "Flag", list(dict.fromkeys(flag for flags in opened.flags for flag in flags))),
                ("part", "Subgroup", opened.parts()),
            ],
            queried=urlencode(_kept(request.query_params)),
        )

    def case(self, request: Request) -> Response:
        """Show one case, and the way to the next."""
        key, opened = self._open(request)
        place = self._place(request, opened)
        case = opened.cases.iloc[place]
        name = str(case["case_id"])
        size = opened.card.size
        return page(
            request,
            "case.html.j2",
            room="cases",
            key=key,
            name=name,
            words=f"{name}, {case['label'] or 'no label'}, {opened.lines[place]}",
            shown=opened.facts(place),
            flags=opened.flags[place],
            note=f"The image as the network sees it, at most {size} pixels a side; "
            "outlines at its own resolution.",
            around=neighbours(place, opened.order(request.query_params)),
            queried=urlencode(_kept(request.query_params)),
            base=f"/cases/{key}/{place}",
        )

    def thumb(self, request: Request) -> Response:
        """Send a small picture."""
        _, opened = self._open(request)
        return small_jpeg(opened.small(self._place(request, opened)))

    def image(self, request: Request) -> Response:
        """Send the image."""
        _, opened = self._open(request)
        return png(opened.picture(self._place(request, opened)))

    def scene(self, request: Request) -> Response:
        """Send what is laid over the image."""
        _, opened = self._open(request)
        return opened.scene(self._place(request, opened)).response()

    def heat(self, request: Request) -> Response:
        """Send the map."""
        _, opened = self._open(request)
        heat = opened.scene(self._place(request, opened)).heat
        if heat is None:
            raise not_found("map")
        return heat_png(heat)

    def _open(self, request: Request) -> tuple[str, OpenedEvaluation]:
        key = request.path_params["evaluation"]
        return key, open_cases(self.library, self.library.evaluation(key))

    def _place(self, request: Request, opened: OpenedEvaluation) -> int:
        place: int = request.path_params["place"]
        if not 0 <= place < len(opened.cases):
            raise not_found("case")
        return place


def neighbours(place: int, order: Sequence[int]) -> dict[str, Any]:
    """Return what comes before and after in an order, and which of how many it is."""
    if place not in order:
        return {"before": None, "after": None, "number": 0, "n": len(order)}
    at = order.index(place)
    before = order[at - 1] if at else None
    after = order[at + 1] if at + 1 < len(order) else None
    return {"before": before, "after": after, "number": at + 1, "n": len(order)}


def _kept(query: QueryParams) -> list[tuple[str, str]]:
    """Return the order and filters of a query, to carry along."""
    return [(name, query[name]) for name in ("sort", "label", "flag", "part") if query.get(name)]
