"""The whole of `evaluate`: open, examine, and gather everything into one report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from gcsam_med import __version__
from gcsam_med.config import EvaluateOptions, PathLike, chosen
from gcsam_med.errors import InputError
from gcsam_med.evaluation import classification_findings, provenance, segmentation_findings
from gcsam_med.evaluation.evaluation_log import add_to_ledger, former_looks
from gcsam_med.evaluation.findings import Findings
from gcsam_med.evaluation.gallery import gallery
from gcsam_med.evaluation.setup import Examination, open_examination
from gcsam_med.evaluation.subgroups import subgroups
from gcsam_med.evaluation.warnings import notices
from gcsam_med.progress import Track, silent
from gcsam_med.reporting import write_report
from gcsam_med.reporting.report import DataFacts, ModelFacts, Report


def evaluate(
    run: PathLike,
    split: str | None = None,
    options: EvaluateOptions | None = None,
    *,
    output: PathLike | None = None,
    track: Track = silent,
    **fields: Any,
) -> Report:
    """Evaluate a trained run on a split, and write its report.

    Parameters
    ----------
    run : str or path
        ``runs/NAME``.
    split : str, optional
        ``train``, ``val`` or ``test`` (default).
    options : EvaluateOptions, optional
        How; `split` and `fields` change it.
    output : str or path, optional
        Folder of the report. Default: ``RUN/evaluation/SPLIT`` (`evaluation_folder`).
    track : Track
        Shows progress.
    **fields
        Fields of `EvaluateOptions`, such as ``threshold=0.4``.

    Returns
    -------
    Report
        ``report.metrics["dice"].value`` and ``.ci95``, ``report.cases`` (a data frame), ...

    Raises
    ------
    InputError
        If the run, the data or the split does not fit.
    CheckpointError
        If the model is damaged.
    """
    options = chosen(EvaluateOptions, options, split=split, **fields)
    report = evaluate_run(Path(run), options=options, track=track)
    folder = evaluation_folder(report, Path(run)) if output is None else Path(output)
    write_report(report, folder, pdf=options.pdf)
    return report


def evaluate_run(
    run_root: Path,
    split: str | None = None,
    options: EvaluateOptions | None = None,
    *,
    track: Track = silent,
    **fields: Any,
) -> Report:
    """Evaluate as `evaluate` does, without writing the report."""
    options = chosen(EvaluateOptions, options, split=split, **fields)
    exam = open_examination(
        run_root,
        options.split,
        dataset=options.dataset,
        data_root=options.data_root,
        device=options.device,
        unfinished=options.unfinished,
    )
    task = exam.model.card.task
    if options.min_area and task != "segmentation":
        raise InputError(f"A least area belongs to segmentation; this run does {task}.", "Drop --min-area.")
    examine = segmentation_findings.examine if task == "segmentation" else classification_findings.examine
    findings = examine(exam, options, track)
    looks = former_looks(exam.run, task, exam.split, exam.dataset.info.content_sha256)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    look = {
        "time": now,
        "run": exam.run.root.resolve().name,
        "task": task,
        "dataset": exam.dataset.info.name,
        "dataset_sha256": exam.dataset.info.content_sha256,
        "split": exam.split,
        "n_cases": len(findings.rows),
        "weights_sha256": exam.model.card.weights_sha256,
        "tool_version": __version__,
    }
    logged = add_to_ledger(exam.run, look)
    return Report(
        task=task,
        model=_model_facts(exam),
        data=_data_facts(exam, findings),
        metrics=findings.metrics,
        per_class=findings.per_class,
        cases=findings.cases,
        policy=findings.policy,
        operating=findings.operating,
        notices=notices(exam, findings, looks, logged),
        curves=findings.curves,
        confusion=findings.confusion,
        calibration=findings.calibration,
        subgroups=subgroups(exam, findings, track),
        gallery=gallery(exam, findings, track),
        postprocessing=findings.postprocessing,
        history=provenance.history(exam),
        environment=provenance.environment(exam),
        config=provenance.config(exam),
        audit=provenance.audit(exam),
        sharpness=provenance.sharpness(exam),
        ledger=(*looks, look),
        created=now,
        evaluated_with=provenance.evaluated_with(exam, options.seed),
    )


def _model_facts(exam: Examination) -> ModelFacts:
    card = exam.model.card
    return ModelFacts(
        run=exam.run.root.resolve().name,
        network=card.model,
        optimizer=card.optimizer,
        epoch=card.epoch,
        size=card.size,
        parameters=sum(p.numel() for p in exam.model.network.parameters()),
        trained_on=card.dataset,
        synthetic=card.synthetic,
        weights_sha256=card.weights_sha256,
        tool_version=card.tool_version,
    )


def _data_facts(exam: Examination, findings: Findings) -> DataFacts:
    info = exam.dataset.info
    labels = findings.cases["label"].to_numpy(dtype=str)
    names = exam.classes if exam.model.card.task == "classification" else info.classes
    counts = {name: int((labels == name).sum()) for name in names}
    if exam.model.card.task == "segmentation":
        counts = {name: n for name, n in counts.items() if n}
        counts |= {"no label": int((labels == "").sum())} if (labels == "").any() else {}
    return DataFacts(
        name=info.name,
        title=info.title or info.name,
        split=exam.split,
        external=exam.external,
        modality=info.modality,
        n_cases=len(findings.rows),
        n_groups=len(np.unique(exam.groups(findings.rows))),
        group_kind=info.group_kind,
        classes=counts,
        excluded=exam.selection.excluded,
        synthetic=info.synthetic,
        splits=info.counts,
        mask_target=info.mask_target,
        licence=info.licence,
        citation=info.citation,
        sha256=info.content_sha256,
    )


def evaluation_folder(report: Report, run_root: Path) -> Path:
    """Return where a report belongs: ``RUN/evaluation/SPLIT``, or ``.../DATASET-SPLIT`` for external data."""
    from gcsam_med.runs import RunFolder

    material = report.data
    name = f"{material.name}-{material.split}" if material.external else material.split
    return RunFolder(Path(run_root)).evaluation(name)
