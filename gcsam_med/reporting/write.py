"""Write a report's or a comparison's files: for people, for programs and for spreadsheets."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from gcsam_med.config import Language, SplitName
from gcsam_med.errors import EnvironmentFault, MissingExtra
from gcsam_med.fields import Name
from gcsam_med.files import check_among, json_bytes, make_folder, replacing, sealed, write_durably
from gcsam_med.metrics.intervals import Estimate
from gcsam_med.reading import faults, is_ours, read_json, validate
from gcsam_med.reporting.comparison import CentreStudy, Comparison, StudySizes
from gcsam_med.reporting.figures import draw_all
from gcsam_med.reporting.figures_comparison import draw_centres, draw_comparison, draw_study_sizes
from gcsam_med.reporting.page import centres_html, comparison_html, report_html
from gcsam_med.reporting.report import Estimates, Report
from gcsam_med.reporting.style import Drawn
from gcsam_med.reporting.tables import frame_to_csv, to_csv

SCHEMA = 1


def write_report(report: Report, folder: Path, *, pdf: bool = False, language: Language = "en") -> list[Path]:
    """Write ``report.html``, ``metrics.json``, ``cases.csv``, ``figures/`` and ``tables/``; name the files.

    The folder is ``RUN/evaluation/SPLIT``; see `report_folder`, which replaces all files of a former report
    at once. With `pdf` there is also ``report.pdf`` (extra: pdf). `language` is that of the half page in
    plain words.

    Raises
    ------
    EnvironmentFault
        If the folder cannot be written to, or the extra for PDF is not installed.
    """
    drawn = draw_all(report)
    cases = frame_to_csv(report.cases).encode()
    content = {
        "report.html": report_html(report, drawn, language=language).encode(),
        "metrics.json": json_bytes(metrics_json(report)),
        "cases.csv": cases,
        **_pictures(drawn),
        **{f"tables/{name}.csv": table.encode() for name, table in _tables(report).items()},
    }
    if pdf:
        content["report.pdf"] = to_pdf(report_html(report, drawn, themed=False, language=language))
    return _write_files(folder, content, "The report")


def write_comparison(comparison: Comparison, folder: Path, *, language: Language = "en") -> list[Path]:
    """Write ``comparison.html``, ``.json``, ``.csv`` and ``figures/``; see `write_report`."""
    drawn = draw_comparison(comparison)
    content = {
        "comparison.html": comparison_html(comparison, drawn, folder, language=language).encode(),
        "comparison.json": json_bytes(comparison_json(comparison)),
        "comparison.csv": _comparison_csv(comparison).encode(),
        **_pictures(drawn),
    }
    with report_folder(folder, "comparison.json", f"writing the comparison in {folder}") as fresh:
        _write_files(fresh, content, "The comparison")
    return [folder / name for name in content]


def write_centres(study: CentreStudy, folder: Path, *, language: Language = "en") -> list[Path]:
    """Write ``comparison.html`` and ``.json`` over all centres, and ``centres/NAME/`` for each."""
    for centre, found in study.by_centre.items():
        write_comparison(found, make_folder(folder, "centres") / centre, language=language)
    drawn = draw_centres(study)
    content = {
        "comparison.html": centres_html(study, drawn).encode(),
        "comparison.json": json_bytes(centres_json(study)),
        **_pictures(drawn),
    }
    with report_folder(folder, "comparison.json", f"writing the comparison in {folder}") as fresh:
        _write_files(fresh, content, "The comparison")
    return [folder / name for name in content]


def centres_json(study: CentreStudy) -> dict[str, Any]:
    """Return the content of ``comparison.json`` of a study over centres."""
    by_centre = {centre: comparison_json(found) for centre, found in study.by_centre.items()}
    content = plain(dataclasses.replace(study, by_centre={}))
    return {"schema": SCHEMA, **content, "by_centre": by_centre}


def write_study_sizes(sizes: StudySizes, metric: str, unit: str, folder: Path) -> list[Path]:
    """Write ``power.svg``, ``power.png`` and ``plan.json``; `metric` and `unit` are words for people."""
    drawn = draw_study_sizes(sizes, metric, unit)
    content = {
        "power.svg": drawn.svg.encode(),
        "power.png": drawn.png,
        "plan.json": json_bytes({"schema": SCHEMA, **plain(sizes)}),
    }
    with report_folder(folder, "plan.json", f"writing the plan in {folder}") as fresh:
        _write_files(fresh, content, "The plan")
    return [folder / name for name in content]


def _pictures(drawn: Iterable[Drawn]) -> dict[str, bytes]:
    content = {}
    for picture in drawn:
        content[f"figures/{picture.key}.svg"] = picture.svg.encode()
        content[f"figures/{picture.key}.png"] = picture.png
    return content


def _write_files(folder: Path, content: Mapping[str, bytes], what: str) -> list[Path]:
    paths = [folder / name for name in content]
    try:
        for path, data in zip(paths, content.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, data)
    except OSError as error:
        raise EnvironmentFault(
            f"{what} cannot be written to {folder}: {error.strerror}.", "Give another folder with --output."
        ) from error
    return paths


_FILES = {
    "metrics.json": {"report.html", "report.pdf", "metrics.json", "cases.csv", "figures", "tables"},
    "comparison.json": {"comparison.html", "comparison.json", "comparison.csv", "figures"},
    "plan.json": {"power.svg", "power.png", "plan.json"},
}
"""What a report, a comparison and a plan consist of, by the file that tells that they are from here."""


def report_folder(folder: Path, kind: str, doing: str, *, own: bool = False) -> AbstractContextManager[Path]:
    """Give a folder for a report, a comparison or a plan, which takes the place of `folder`; see `replacing`.

    `kind` is a key of `_FILES`. Where `folder` holds other files as well, they stay; files of the same names
    that are not from here are refused, but if the folder is our `own`: one of a run.
    """

    def ours(there: Path) -> bool:
        names = {path.name for path in there.iterdir()}
        return known(there) and any(names <= files for files in _FILES.values())

    def known(there: Path) -> bool:
        return own or _is_known(there)

    if not own:
        check_report_folder(folder, kind)
    return replacing(folder, ours, doing, _ELSEWHERE, among_others=known)


def check_report_folder(folder: Path, kind: str) -> None:
    """Raise `InputError` where `report_folder` would be refused, before anything is computed."""
    check_among(folder, _is_known, sorted(_FILES[kind]), _ELSEWHERE)


_ELSEWHERE = "Wait for it, or give another folder with --output."


def _is_known(folder: Path) -> bool:
    # A study's folder is known by its plan.
    return any(is_ours(folder / name) for name in (*_FILES, "study.json"))


def check_pdf() -> None:
    """Raise `MissingExtra` if WeasyPrint is not installed."""
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: Pango is not there
        raise MissingExtra("Writing a PDF", "pdf") from error


def to_pdf(html: str) -> bytes:
    """Print a page of `report_html` to PDF, A4; nothing is fetched. Raises as `check_pdf`."""
    check_pdf()
    from weasyprint import HTML
    from weasyprint.urls import URLFetcher

    return HTML(string=html, url_fetcher=URLFetcher(allowed_protocols=("data",))).write_pdf()


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow")


class _MetricFile(_Record):
    value: Annotated[float, Field(strict=True)] | None
    ci95: tuple[float, float] | None = None


class _NoticeFile(_Record):
    key: str
    title: str
    text: str


class _RunFile(_Record):
    weights_sha256: str
    dataset_sha256: str
    tool_version: str


class _PolicyFile(_Record):
    distance_unit: str = "px"
    nsd_tolerance: float | None = None
    positive_class: str | None = None
    postprocessing: str = "none"


class _OperatingFile(_Record):
    threshold: float
    chosen_on: str


class _MetricsFile(_Record):
    """``metrics.json``, as far as it is read again."""

    schema_version: Literal[1] = Field(alias="schema")
    task: Literal["segmentation", "classification"]
    dataset: Name
    split: SplitName | Literal["folds"]
    external: bool = False
    n_cases: int = Field(ge=1)
    n_groups: int = Field(ge=1)
    group_kind: str
    synthetic: bool
    metrics: dict[str, _MetricFile]
    policy: _PolicyFile
    notices: list[_NoticeFile] = []
    operating_point: _OperatingFile | None = None
    run: _RunFile
    cases_sha256: str


def read_metrics(path: Path, advice: str) -> dict[str, Any]:
    """Read a ``metrics.json``.

    Raises
    ------
    InputError
        If it is missing, damaged or foreign.
    """
    content: dict[str, Any] = read_json(path, dict[str, Any], advice)
    with faults(path, advice):
        validate(content, _MetricsFile)
    return content


def metrics_json(report: Report) -> dict[str, Any]:
    """Return the content of ``metrics.json``: only JSON types, every metric as its `Estimate.to_json`.

    With the hash of ``cases.csv``, which holds the same evaluation's cases, and a seal.
    """
    data, model = report.data, report.model
    content = {
        "schema": SCHEMA,
        "task": report.task,
        "dataset": data.name,
        "split": data.split,
        "external": data.external,
        "n_cases": data.n_cases,
        "n_groups": data.n_groups,
        "group_kind": data.group_kind,
        "synthetic": data.synthetic or model.synthetic,
        "classes": data.classes,
        "excluded": data.excluded,
        "metrics": report.metrics,
        "per_class": report.per_class,
        "subgroups": [
            {
                "column": part.column,
                "value": part.value,
                "n": part.n,
                "n_groups": part.n_groups,
                "small": part.small,
                "metrics": part.estimates,
            }
            for part in report.subgroups
        ],
        **({"folds": report.folds} if report.folds else {}),
        **({"readers": report.readers} if report.readers else {}),
        **({"centre": report.data.centre} if report.data.centre else {}),
        "operating_point": report.operating,
        "calibration": None
        if report.calibration is None
        else {
            "temperature": report.calibration.temperature,
            "reason": report.calibration.reason,
            "before": report.calibration.before,
            "after": report.calibration.after,
            "logistic": report.calibration.logistic,
            "logistic_fit": report.calibration.logistic_fit,
        },
        "postprocessing": report.postprocessing,
        "policy": report.policy,
        "notices": [{"key": n.key, "title": n.title, "text": n.text} for n in report.notices],
        "run": {
            "name": model.run,
            "model": model.network,
            "optimizer": model.optimizer,
            "epoch": model.epoch,
            "weights_sha256": model.weights_sha256,
            "dataset_sha256": data.sha256,
            "trained_on": model.trained_on,
            "tool_version": model.tool_version,
        },
        "evaluated_with": report.evaluated_with,
        "created": report.created,
        "cases_sha256": hashlib.sha256(frame_to_csv(report.cases).encode()).hexdigest(),
    }
    return sealed(plain(content))


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return the content of ``comparison.json``: only JSON types, no NaN."""
    bare = dataclasses.replace(comparison, folders={}, shown_cases=())
    content: dict[str, Any] = {"schema": SCHEMA, **plain(bare)}
    del content["folders"], content["shown_cases"]
    for arm in content["arms"]:
        del arm["lines"]
    for pair, given in zip(content["pairs"], comparison.pairs, strict=True):
        pair["verdict"] = given.verdict
        if comparison.margin is not None:
            pair["answer"] = given.answer
        pair["by_seed"] = plain(dict(given.by_seed))
    return content


def plain(value: Any) -> Any:
    """Turn estimates, dataclasses, numpy values and mappings into JSON types; NaN and infinity into None."""
    if isinstance(value, Estimate):
        value = value.to_json()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    elif isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _comparison_csv(comparison: Comparison) -> str:
    """One row for each run, with its metrics."""
    keys = list(dict.fromkeys(k for arm in comparison.arms for k in arm.metrics))
    rows = [
        [
            run,
            arm.model,
            arm.name,
            seed,
            fold,
            *(arm.metrics[k].values[i] if k in arm.metrics else None for k in keys),
        ]
        for arm in comparison.arms
        for i, (run, (seed, fold)) in enumerate(zip(arm.runs, arm.replicates, strict=True))
    ]
    return to_csv(["run", "model", "arm", "seed", "fold", *keys], rows)


def _tables(report: Report) -> dict[str, str]:
    head = ["metric", "value", "low", "high", "n", "method", "reason"]
    tables = {"metrics": to_csv(head, _rows(report.metrics))}
    if report.per_class:
        rows = [[name, *row] for name, values in report.per_class.items() for row in _rows(values)]
        tables["per_class"] = to_csv(["class", *head], rows)
    if report.subgroups:
        rows = [
            [p.column, p.value, p.n, p.n_groups, int(p.small), *row]
            for p in report.subgroups
            for row in _rows(p.estimates)
        ]
        tables["subgroups"] = to_csv(["attribute", "value", "cases", "groups", "small", *head], rows)
    if report.postprocessing:
        rows = [[name, *row] for name, values in report.postprocessing.items() for row in _rows(values)]
        tables["postprocessing"] = to_csv(["option", *head], rows)
    for name, curve in report.curves.items():
        tables[f"curve_{name}"] = frame_to_csv(curve)
    if report.calibration is not None:
        tables["calibration"] = frame_to_csv(report.calibration.curve_before)
    return tables


def _rows(estimates: Estimates) -> list[list[object]]:
    rows = []
    for key, estimate in estimates.items():
        e = estimate.to_json()
        low, high = e["ci95"] or (None, None)
        rows.append([key, e["value"], low, high, e["n"], e["method"], e.get("reason", "")])
    return rows
