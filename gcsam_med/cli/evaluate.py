"""`gcsam-med evaluate`: examine a trained run and write its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcsam_med.cli import console, options

if TYPE_CHECKING:
    from gcsam_med.reporting import Report


def evaluate(
    run: options.RunArgument,
    split: options.SplitName = "test",
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Another prepared data set: external validation.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Folder of prepared data sets; default: the run's own.")
    ] = None,
    output: options.Output = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=1, help="Use this instead of the one chosen on validation."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance", min=0, help="Of NSD; mm if spacings are known, else pixels. Default 1 or 2."
        ),
    ] = None,
    prevalence: Annotated[
        float | None,
        typer.Option("--prevalence", min=0, max=1, help="Also predictive values at this prevalence."),
    ] = None,
    min_area: Annotated[
        int,
        typer.Option("--min-area", min=0, help="Also measure dropping smaller regions (pixels)."),
    ] = 0,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Accept a run whose training has not ended; stamped.")
    ] = False,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write report.pdf (extra: pdf).")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Examine a trained run: figures with 95 % intervals, and a report that can be published."""
    del quiet, verbose, json, debug
    from gcsam_med.evaluation import evaluate_run, evaluation_folder
    from gcsam_med.reporting import metrics_json, write_report

    report = evaluate_run(
        run,
        split,
        dataset=dataset,
        data_root=data_root,
        device=device,
        batch_size=batch_size,
        seed=seed,
        n_resamples=resamples,
        threshold=threshold,
        tolerance=tolerance,
        prevalence=prevalence,
        min_area=min_area,
        unfinished=unfinished,
        track=console.track,
    )
    files = write_report(report, output or evaluation_folder(report, run), pdf=pdf)
    for notice in report.notices:
        if notice.stamp and notice.key != "research-only":
            console.warn(f"{notice.title}. {notice.text}")
    _show(report)
    console.result(metrics_json(report), f"Report: {files[0]}")


def _show(report: Report) -> None:
    from gcsam_med.metrics.table import METRICS, shown_in
    from gcsam_med.reporting.text import interval, number

    rows = []
    for key in shown_in("console", report.task):
        estimate = report.metrics.get(key)
        if estimate is not None:
            row = METRICS[report.task][key]
            value = number(estimate.value, row.digits)
            rows.append((row.heading(report.policy), value, interval(estimate), estimate.n))
    material = report.data
    console.table(
        f"{report.model.run}: {material.split} split of {material.title}, {material.n_cases} cases",
        ["figure", "value", "95 % interval", "n"],
        rows,
        result=True,
    )
