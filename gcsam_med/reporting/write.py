"""Write a report's files: for people, for programs and for spreadsheets."""

from __future__ import annotations

import json
from pathlib import Path

from gcsam_med.reporting.figures import draw_all
from gcsam_med.reporting.html import report_html
from gcsam_med.reporting.metrics_json import metrics_json
from gcsam_med.reporting.names import in_order
from gcsam_med.reporting.output import write_files
from gcsam_med.reporting.report import Estimates, Report
from gcsam_med.reporting.tables import frame_to_csv, to_csv


def write_report(report: Report, folder: Path, *, pdf: bool = False) -> list[Path]:
    """Write ``report.html``, ``metrics.json``, ``cases.csv``, ``figures/`` and ``tables/``.

    Parameters
    ----------
    report : Report
        What was found.
    folder : Path
        ``RUN/evaluation/SPLIT``; created if it is not there. Files of the same names are replaced.
    pdf : bool
        Also write ``report.pdf`` (extra: pdf).

    Returns
    -------
    list of Path
        The files written, ``report.html`` first.

    Raises
    ------
    EnvironmentFault
        If the folder cannot be written to, or the extra for PDF is not installed.
    """
    drawn = draw_all(report)
    content: dict[str, bytes] = {
        "report.html": report_html(report, drawn).encode(),
        "metrics.json": (json.dumps(metrics_json(report), indent=2, allow_nan=False) + "\n").encode(),
        "cases.csv": frame_to_csv(report.cases).encode(),
    }
    for figure in drawn:
        content[f"figures/{figure.key}.svg"] = figure.svg.encode()
        content[f"figures/{figure.key}.png"] = figure.png
    content |= {f"tables/{name}.csv": text.encode() for name, text in _tables(report).items()}
    if pdf:
        from gcsam_med.reporting.pdf import to_pdf

        content["report.pdf"] = to_pdf(report_html(report, drawn, themed=False))
    return write_files(folder, content, "The report")


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
    for key in in_order(list(estimates)):
        e = estimates[key].to_json()
        low, high = e["ci95"] or (None, None)
        rows.append([key, e["value"], low, high, e["n"], e["method"], e.get("reason", "")])
    return rows
