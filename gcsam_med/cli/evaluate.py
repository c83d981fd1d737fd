"""`gcsam-med calibrate`, `evaluate` and `sharpness`: examine a trained run and write its report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcsam_med.cli import completion, console
from gcsam_med.cli.from_model import Output, from_models
from gcsam_med.cli.runs import Run, find_run
from gcsam_med.config import CalibrateOptions, EvaluateOptions, SharpnessOptions

if TYPE_CHECKING:
    from gcsam_med.reporting.report import Report


@from_models
def calibrate_command(options: CalibrateOptions, run: Run = None) -> None:
    """Fit threshold, temperature and references of a run again; `train` does it once at its end."""
    from gcsam_med.runs import RunFolder
    from gcsam_med.training.calibration import calibrate_run

    run = find_run(run)
    found = calibrate_run(run, **options.model_dump(), track=console.track)
    facts = [f"threshold {found.threshold:g} ({found.rule}; {found.n} cases)"]
    if found.temperature is not None:
        facts.append(f"temperature {found.temperature:.3g}")
    console.result(
        found.model_dump(by_alias=True),
        f"{RunFolder(run).model}: {', '.join(facts)}",
        then=f"gcsam-med evaluate {shlex.quote(str(run))}",
    )


@from_models
def evaluate_command(
    options: EvaluateOptions,
    run: Run = None,
    output: Output = None,
) -> None:
    """Evaluate a trained run: metrics with 95 % intervals, and a report that can be published."""
    from gcsam_med.evaluation import evaluate, evaluation_folder
    from gcsam_med.reporting.write import metrics_json

    run = find_run(run)
    report = evaluate(run, options=options, output=output, track=console.track)
    show_report(report)
    page = (output or evaluation_folder(report, run)) / "report.html"
    console.result(
        metrics_json(report), f"Report: {page}", then=f"gcsam-med predict {shlex.quote(str(run))} IMAGES"
    )


@from_models
def sharpness_command(
    options: SharpnessOptions,
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN...]",
            help="Runs; several are compared; default: the newest finished one.",
            autocompletion=completion.of("runs"),
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; default: RUN/sharpness of the first run.")
    ] = None,
) -> None:
    """Measure how sharp the minimum is: Hessian eigenvalues and trace, worst loss within rho, landscape."""
    from gcsam_med.evaluation.flatness import check_sharpness_folder, measure_sharpness, write_sharpness
    from gcsam_med.runs import RunFolder

    roots = [find_run(run) for run in runs] if runs else [find_run(None)]
    folders = [output / root.resolve().name if output else RunFolder(root).sharpness for root in roots]
    for folder in folders:
        check_sharpness_folder(folder)
    found = [measure_sharpness(root, options, track=console.track) for root in roots]
    for folder, content in zip(folders, found, strict=True):
        write_sharpness(folder, content, found if folder == folders[0] else ())
    _show_sharpness(found)
    named = shlex.join(map(str, roots))
    then = "gcsam-med sharpness RUN RUN" if len(roots) == 1 else f"gcsam-med compare {named}"
    console.result({"runs": found}, f"Pictures and sharpness.json: {', '.join(map(str, folders))}", then)


def show_report(report: Report) -> None:
    """Warn of what matters most, and draw the main metrics (stdout)."""
    from gcsam_med.metrics.table import METRICS, shown_in
    from gcsam_med.reporting.text import interval, value

    for notice in report.notices:
        if notice.key == "no-patients" or (notice.stamp and notice.key != "research-only"):
            console.warn(f"{notice.title}. {notice.text}")
    rows = []
    for key in shown_in("console", report.task):
        estimate = report.metrics.get(key)
        if estimate is not None:
            row = METRICS[report.task][key]
            shown = value(estimate, row.unit), interval(estimate, row.unit)
            rows.append((row.heading(report.policy), *shown, estimate.n))
    for reader in report.readers:
        for what, found in (
            (f"AUC of {reader.column}", reader.auc_reader),
            ("model minus it", reader.difference),
        ):
            rows.append((what, value(found), interval(found), reader.n))
    material = report.data
    console.table(
        f"{report.model.run}: {material.part} of {material.title}, {material.n_cases} cases",
        ["metric", "value", "95 % interval", "n"],
        rows,
        result=True,
    )


def _show_sharpness(found: list[dict[str, Any]]) -> None:
    def written(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)  # not finite

    sample = found[0]["sample"]
    console.table(
        f"Loss of {sample['cases']} {sample['split']} cases ({sample['loss']})",
        ["run", "loss", "largest eigenvalue", "trace", "increase within rho", "rho"],
        [
            (
                one["run"],
                written(one["loss"], ".4f"),
                f"{written(h['largest'][0], '.3g')} ± {written(h['largest_errors'][0], '.1g')}",
                f"{written(h['trace'], '.3g')} ± {written(h['trace_standard_error'], '.1g')}",
                written(one["worst_loss"]["increase"], ".4g"),
                f"{one['worst_loss']['rho']:g}",
            )
            for one in found
            for h in [one["hessian"]]
        ],
        result=True,
    )
