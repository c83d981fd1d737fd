"""The whole of `evaluate`: open run and data, evaluate, and gather everything into one report."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med import __version__
from gcsam_med.config import EvaluateOptions, PathLike
from gcsam_med.datasets.prepared import SPLITS
from gcsam_med.datasets.selection import took_part
from gcsam_med.errors import InputError
from gcsam_med.evaluation.classification import evaluate_classification
from gcsam_med.evaluation.context import (
    MAX_JSON_BYTES,
    EvaluationContext,
    SealedCases,
    TaskResult,
    open_evaluation,
    operating_point,
    pool_folds,
    read_audit,
    runs_of_all_folds,
    trained_on,
)
from gcsam_med.evaluation.evaluation_log import TEST_PARTS, former_evaluations, log_evaluation
from gcsam_med.evaluation.flatness import read_sharpness
from gcsam_med.evaluation.gallery import gallery
from gcsam_med.evaluation.readers import check_readers, readers
from gcsam_med.evaluation.segmentation import evaluate_segmentation
from gcsam_med.evaluation.subgroups import subgroups
from gcsam_med.evaluation.warnings import notices
from gcsam_med.fields import chosen
from gcsam_med.files import make_folder
from gcsam_med.metrics.table import check_request, main_metric
from gcsam_med.progress import Track, silent
from gcsam_med.reading import read_csv, read_json_or_empty
from gcsam_med.reporting.report import DataFacts, FoldFacts, ModelFacts, Report
from gcsam_med.reporting.write import check_pdf, report_folder, write_report
from gcsam_med.runs import RunFolder


def evaluate(
    run: PathLike,
    split: str | None = None,
    options: EvaluateOptions | None = None,
    *,
    output: PathLike | None = None,
    sealed: SealedCases | None = None,
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
    sealed : SealedCases, optional
        Cases that a protocol fixed, instead of a split (`gcsam-med protocol`).
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
    if options.pdf:  # said before the test set is looked at, which counts
        check_pdf()
    context = _opened(Path(run), options, sealed)
    if output is None:
        name = _folder_name(context.dataset.info.name, context.part, context.external)
        folder = make_folder(RunFolder(Path(run)).root, "evaluation") / name
    else:
        folder = Path(output)
    doing = f"evaluating {run} on {context.split} in {folder}"
    with report_folder(folder, "metrics.json", doing, own=output is None) as fresh:
        report = _evaluated(context, options, track)
        write_report(report, fresh, pdf=options.pdf, language=options.lang)
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
    return _evaluated(_opened(run_root, options), options, track)


def _opened(run_root: Path, options: EvaluateOptions, sealed: SealedCases | None = None) -> EvaluationContext:
    contexts = [
        open_evaluation(
            root,
            options.split,
            dataset=options.dataset,
            data_root=options.data_root,
            device=options.device,
            unfinished=options.unfinished,
            deep_check=options.deep_check,
            sealed=sealed,
        )
        for root in (runs_of_all_folds(run_root) if options.folds else [run_root])
    ]
    context = pool_folds(contexts) if options.folds else contexts[0]
    task = context.model.card.task
    check_request(options.metrics, task)
    check_readers(context, options)
    if options.min_area and task != "segmentation":
        raise InputError(f"--min-area is for segmentation; this run is for {task}.", "Leave out --min-area.")
    return context


def _evaluated(context: EvaluationContext, options: EvaluateOptions, track: Track) -> Report:
    task = context.model.card.task
    of_task = evaluate_segmentation if task == "segmentation" else evaluate_classification
    result = of_task(context, options, track)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    former, entry, logged = _log(context, now)
    return Report(
        task=task,
        model=_model_facts(context),
        data=_data_facts(context, result),
        metrics=result.metrics,
        per_class=result.per_class,
        cases=result.cases,
        policy=result.policy,
        operating=result.operating,
        notices=(
            *([context.sealed.notice] if context.sealed is not None else []),
            *notices(context, result, former, logged),
        ),
        curves=result.curves,
        confusion=result.confusion,
        calibration=result.calibration,
        subgroups=subgroups(context, result, track),
        readers=readers(context, result, options),
        gallery=gallery(context, result, track),
        postprocessing=result.postprocessing,
        folds=_folds(context, result, options),
        history=None if context.pooled else _history(context),
        environment=_environment(context),
        config=_config(context),
        audit=read_audit(context),
        sharpness={} if context.pooled else read_sharpness(context.run, context.model.card.weights_sha256),
        evaluations=(*former, entry),
        created=now,
        evaluated_with=_evaluated_with(context, options.seed),
    )


def _log(context: EvaluationContext, now: str) -> tuple[list[dict[str, Any]], dict[str, Any], bool]:
    """Count this evaluation for each model: former ones (of the fold that has most), this one, if counted."""
    most: list[dict[str, Any]] = []
    logged = True
    for model in context.models:
        card, info = model.model.card, model.dataset.info
        own = not model.external and model.split == "test"
        settings = model.config.model_dump(include=set(TEST_PARTS)) if own else {}
        part = {key: value for key, value in settings.items() if value is not None}
        former = former_evaluations(model.run, card.task, model.split, info.content_sha256, part)
        most = max(most, former, key=len)
        entry = {
            "time": now,
            "run": model.run.root.resolve().name,
            "task": card.task,
            "dataset": info.name,
            "dataset_sha256": info.content_sha256,
            "split": model.split,
            **part,
            "n_cases": len(model.selection.rows),
            "weights_sha256": card.weights_sha256,
            "tool_version": __version__,
        }
        logged = log_evaluation(model.run, entry) and logged
    return most, entry, logged


def _folds(context: EvaluationContext, result: TaskResult, options: EvaluateOptions) -> tuple[FoldFacts, ...]:
    """Describe each pooled model."""
    main = main_metric(context.model.card.task, len(context.classes))
    return tuple(
        FoldFacts(
            run=model.run.root.resolve().name,
            test="test split" if model.config.test_fold is None else f"fold {model.config.test_fold}",
            epoch=model.model.card.epoch,
            n_cases=len(model.selection.rows),
            threshold=operating_point(model, options).threshold if context.has_threshold else None,
            main=result.estimate_part(np.isin(result.rows, model.selection.rows))[main],
        )
        for model in context.pooled
    )


def _model_facts(context: EvaluationContext) -> ModelFacts:
    card = context.model.card
    shas = [model.model.card.weights_sha256 for model in context.models]
    return ModelFacts(
        run=", ".join(model.run.root.resolve().name for model in context.models),
        network=card.model,
        optimizer=card.optimizer,
        epoch=card.epoch,
        size=card.size,
        parameters=sum(p.numel() for p in context.model.network.parameters()),
        trained_on=card.dataset,
        synthetic=card.synthetic,
        trained={} if context.pooled else took_part(trained_on(context)),
        chosen_by=str(read_json_or_empty(context.run.result_file).get("metric", "")),
        weights_sha256=shas[0] if len(shas) == 1 else hashlib.sha256(" ".join(shas).encode()).hexdigest(),
        tool_version=card.tool_version,
    )


def _data_facts(context: EvaluationContext, result: TaskResult) -> DataFacts:
    info = context.dataset.info
    labels = result.cases["label"].to_numpy(dtype=str)
    names = context.classes if context.model.card.task == "classification" else info.classes
    counts = {name: int((labels == name).sum()) for name in names}
    if context.model.card.task == "segmentation":
        counts = {name: n for name, n in counts.items() if n}
        counts |= {"no label": int((labels == "").sum())} if (labels == "").any() else {}
    return DataFacts(
        name=info.name,
        title=info.title or info.name,
        split=context.part,
        external=context.external,
        sealed=context.sealed is not None,
        centre=(context.config.leave_out or "") if not context.external and context.split == "test" else "",
        modality=info.modality,
        n_cases=len(result.rows),
        n_groups=len(np.unique(context.groups(result.rows))),
        group_kind=info.group_kind,
        classes=counts,
        excluded=context.selection.excluded,
        synthetic=info.synthetic,
        splits=_splits(context),
        test_fold=None if context.external or context.pooled else context.config.test_fold,
        split_from=info.split_from,
        split_seed=info.seed,
        mask_target=info.mask_target,
        licence=info.licence,
        citation=info.citation,
        sha256=info.content_sha256,
    )


def _splits(context: EvaluationContext) -> Mapping[str, Any]:
    """Cases by split and class: of this run where it chose its own folds, else of the data set."""
    data, folds = context.dataset, context.config.folds
    if context.external or context.pooled or all(choice is None for choice in folds):
        return data.info.counts
    labels = data.manifest["label"].to_numpy(dtype=str)
    counts: dict[str, Any] = {}
    for split in SPLITS:
        own = labels[data.rows(split, *folds)]
        counts[split] = {"cases": len(own), **{c: int((own == c).sum()) for c in data.info.classes}}
    return counts


def evaluation_folder(report: Report, run_root: Path) -> Path:
    """Return where a report belongs: ``RUN/evaluation/SPLIT`` or ``/folds``, or ``/DATASET-SPLIT``."""
    name = _folder_name(report.data.name, report.data.split, report.data.external)
    return RunFolder(Path(run_root)).evaluation(name)


def _folder_name(dataset: str, part: str, external: bool) -> str:
    return f"{dataset}-{part}" if external else part


def _history(context: EvaluationContext) -> pd.DataFrame | None:
    """Read ``history.csv``; None where there is none, or it cannot be read."""
    try:
        table = read_csv(context.run.history_file, ["epoch"], "", most=MAX_JSON_BYTES)
    except InputError:
        return None
    return table.apply(pd.to_numeric, errors="coerce") if len(table) else None


def _environment(context: EvaluationContext) -> dict[str, Any]:
    """Read ``environment.json``; empty where there is none."""
    return read_json_or_empty(context.run.environment_file)


def _config(context: EvaluationContext) -> dict[str, Any]:
    """Return the run's settings without its folders: they may name a person."""
    of_a_fold = {"fold", "test_fold"} if context.pooled else set()
    settings = context.config.model_dump(mode="json", exclude={"data_root", "weights", *of_a_fold})
    return settings | ({"weights": "a file"} if context.config.weights is not None else {})


def _evaluated_with(context: EvaluationContext, seed: int) -> dict[str, Any]:
    """Describe the evaluation itself."""
    import numpy as np
    import scipy
    import sklearn
    import torch

    return {
        "gcsam_med": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit_learn": sklearn.__version__,
        "device": context.model.device.type,
        "seed": seed,
    }
