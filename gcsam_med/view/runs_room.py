"""The room *runs*: the table of `gcsam-med runs`, curves one over the other, and the reports inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gcsam_med.errors import GcsamMedError, InputError
from gcsam_med.images import read_bytes
from gcsam_med.metrics.table import METRICS
from gcsam_med.reading import faults, read_csv, read_plain
from gcsam_med.reporting.text import number, plain_value
from gcsam_med.runs import RunFolder
from gcsam_med.runs.table import COLUMNS, summaries, summary
from gcsam_med.view.library import Library
from gcsam_med.view.server import OF_A_REPORT, not_found, page

MOST_HISTORY, MOST_REPORT = 8 * 2**20, 256 * 2**20
CURVES_AT_FIRST, MOST_CURVES = 4, 8
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460, 260, 48, 450, 10, 222


@dataclass(frozen=True)
class Line:
    """One curve, in the drawing's units."""

    number: int  #: Which look it has.
    name: str
    points: str  #: Of an SVG polyline.
    marks: Sequence[tuple[float, float]]  #: Where a point is marked; none on a long curve.
    last: str  #: The last value, for the legend.


@dataclass(frozen=True)
class Chart:
    """Curves over epochs, as ``parts.html.j2`` draws them."""

    title: str
    words: str  #: What is shown, for those who cannot see it.
    lines: Sequence[Line]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _RIGHT
    bottom: int = _BOTTOM


def history(run: RunFolder) -> pd.DataFrame | None:
    """Read ``history.csv``; None where there is none, or it cannot be read."""
    try:
        table = read_csv(run.history_file, ["epoch"], "", most=MOST_HISTORY)
    except InputError:
        return None
    return table.apply(pd.to_numeric, errors="coerce") if len(table) else None


def chart(
    title: str, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], names: Sequence[str]
) -> Chart | None:
    """Lay out curves, given as epochs and values by name; None where no value is finite.

    The look of a curve is that of its place in `names`, so that it is the same in several charts.
    """
    points = [
        (name, [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)])
        for name, (xs, ys) in curves.items()
    ]
    points = [(name, found) for name, found in points if found]
    if not points:
        return None
    all_x, all_y = zip(*(p for _, found in points for p in found), strict=True)
    ticks = _ticks(min(all_y), max(all_y))
    low, high = min(*ticks, *all_y), max(*ticks, *all_y)
    first, last = min(all_x), max(*all_x, min(all_x) + 1)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first)
        return (
            round(_LEFT + across * (_RIGHT - _LEFT), 1),
            round(_BOTTOM - (y - low) / (high - low) * (_BOTTOM - _TOP), 1),
        )

    lines = []
    for name, found in points:
        places = [at(x, y) for x, y in found]
        text = " ".join(f"{x},{y}" for x, y in places)
        marks = places if len(places) <= 12 else []
        lines.append(Line(names.index(name) % MOST_CURVES, name, text, marks, number(found[-1][1])))
    words = f"{title} by epoch. " + "; ".join(f"{line.name}: at the end {line.last}" for line in lines)
    steps = sorted({round(first + part * (last - first)) for part in (0, 0.25, 0.5, 0.75, 1)})
    return Chart(
        title,
        words,
        lines,
        x_ticks=[(at(x, low)[0], str(x)) for x in steps],
        y_ticks=[(at(first, y)[1], f"{y:.6g}") for y in ticks],
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers around a range, about four of them."""
    if low == high:  # one value: put it in the middle
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    span = high - low
    step: float = 10.0 ** math.floor(math.log10(span / 3))
    step *= next(m for m in (1, 2, 5, 10) if span / (m * step) <= 4)
    start = math.floor(low / step)
    return [round(k * step, 10) for k in range(start, math.ceil(high / step) + 1)]


def charts(runs: Mapping[str, Path]) -> list[Chart]:
    """Draw the validation metric and the losses of runs, given by name."""
    curves: dict[str, dict[str, tuple[Sequence[float], Sequence[float]]]] = {}
    for name, folder in runs.items():
        table = history(RunFolder(folder))
        if table is None:
            continue
        epochs = table["epoch"].tolist()
        for column in table.columns:
            title = _title(column, alone=len(runs) == 1)
            if title is not None:
                label = {"train": "training", "val": "validation"}[column.partition("_")[0]]
                label = label if len(runs) == 1 else name
                curves.setdefault(title, {})[label] = (epochs, table[column].tolist())
    names = list(runs) if len(runs) > 1 else list(dict.fromkeys(name for c in curves.values() for name in c))
    drawn = (chart(title, found, names) for title, found in curves.items())
    return [each for each in drawn if each is not None]


def _title(column: str, *, alone: bool) -> str | None:
    """Say in which chart a column of the history belongs: of one run both losses share one."""
    if column in ("train_loss", "val_loss"):
        return "Loss" if alone else {"train_loss": "Training loss", "val_loss": "Validation loss"}[column]
    if not column.startswith("val_"):
        return None
    name = column.removeprefix("val_")
    titles = [rows[name].title for rows in METRICS.values() if name in rows]
    return f"Validation: {titles[0] if titles else name}"


class RunsRoom:
    """Handlers of the room."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def routes(self) -> list[Route]:
        """Return what the room answers to."""
        return [
            Route("/", self.entrance),
            Route("/runs", self.table),
            Route("/runs/{run}", self.one),
            Route("/runs/{run}/val_predictions.png", self.picture),
            Route("/reports/{evaluation}", self.report_frame),
            Route("/reports/{evaluation}/report.html", self.report),
        ]

    def entrance(self, request: Request) -> Response:
        """Go to the room of what was named."""
        runs = self.library.runs()
        if not runs:
            return RedirectResponse("/predictions", 303)
        alone = len(runs) == 1 and self.library.target in runs.values()
        return RedirectResponse(f"/runs/{next(iter(runs))}" if alone else "/runs", 303)

    def table(self, request: Request) -> Response:
        """List the runs, with the curves of those that are ticked."""
        query = request.query_params
        rows = self._rows(query.get("filter", ""), query.get("sort", ""))
        known = [row["key"] for row in rows]
        chosen = [key for key in query.getlist("run") if key in known][:MOST_CURVES]
        if "filter" not in query:  # the form was not sent yet
            chosen = known[:CURVES_AT_FIRST]
        folders = self.library.runs()
        shown = charts({folders[key].name: folders[key] for key in chosen})
        return page(
            request, "runs.html.j2", rows=rows, columns=COLUMNS, chosen=chosen, charts=shown,
            target=self.library.target, orders=[("", "newest first"), *((c, c) for c in COLUMNS)],
        )  # fmt: skip

    def _rows(self, wanted: str, sort: str) -> list[dict[str, Any]]:
        evaluations = self.library.evaluations().values()
        rows = []
        for key, folder in self.library.runs().items():
            for place, row in enumerate(summaries(folder)):
                if wanted.lower() in " ".join(str(row[column]) for column in COLUMNS).lower():
                    own = [e for e in evaluations if e.run == folder and e.pooled == (place > 0)]
                    rows.append(row | {"key": key, "evaluations": own, "pooled": place > 0})
        if sort in COLUMNS:
            rows.sort(key=lambda r: (r[sort] is None, r[sort] if _is_number(r[sort]) else 0, str(r[sort])))
        return rows

    def one(self, request: Request) -> Response:
        """Show one run."""
        folder = self.library.run(request.path_params["run"])
        run, row = RunFolder(folder), summary(folder)
        shown = [
            (name, number(value) if isinstance(value, float) else plain_value(value))
            for name, value in row.items()
            if name in COLUMNS[1:]
        ]
        try:
            # Its folders may name a person.
            config = run.config().model_dump(mode="json", exclude={"data_root", "weights"})
        except GcsamMedError:
            config = {}
        return page(
            request,
            "run.html.j2",
            key=request.path_params["run"],
            name=folder.resolve().name,
            run=folder,
            shown=shown,
            settings=[(key, str(value)) for key, value in config.items()],
            evaluations=[e for e in self.library.evaluations().values() if e.run == folder],
            outputs=[(k, o.name) for k, o in self.library.outputs().items() if o.is_relative_to(folder)],
            charts=charts({folder.name: folder}),
            picture=run.predictions_file.is_file(),
        )

    def picture(self, request: Request) -> Response:
        """Send the validation cases of the last epoch."""
        path = RunFolder(self.library.run(request.path_params["run"])).predictions_file
        if not path.is_file():
            raise not_found("picture")
        return Response(read_bytes(path), media_type="image/png")

    def report_frame(self, request: Request) -> Response:
        """Show a report inside the page."""
        key = request.path_params["evaluation"]
        evaluation = self.library.evaluation(key)
        run_key = next(k for k, folder in self.library.runs().items() if folder == evaluation.run)
        run = evaluation.run.resolve().name
        return page(
            request, "report_frame.html.j2", key=key, run_key=run_key, run=run, name=evaluation.name,
            pooled=evaluation.pooled,
        )  # fmt: skip

    def report(self, request: Request) -> Response:
        """Send a report as it stands; its own policy lets nothing in it run."""
        evaluation = self.library.evaluation(request.path_params["evaluation"])
        path = evaluation.folder / "report.html"
        with faults(path, f"Make it again with: gcsam-med evaluate {evaluation.run}"):
            content = read_plain(path, MOST_REPORT, follow=False)
        headers = {"Content-Security-Policy": OF_A_REPORT}
        return Response(content, media_type="text/html", headers=headers)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
