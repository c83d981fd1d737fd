"""From a classification run to its part of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med.config import EvaluateOptions
from gcsam_med.evaluation.classification import Answered, answer, case_table
from gcsam_med.evaluation.findings import UNFINISHED, Findings, operating_point
from gcsam_med.evaluation.setup import Examination
from gcsam_med.metrics.calibration import apply_temperature, confidence
from gcsam_med.metrics.classification import call_classes, confusion_matrix
from gcsam_med.metrics.curves import (
    decision_curve,
    precision_recall_curve,
    reliability_curve,
    roc_curve,
)
from gcsam_med.metrics.estimate import Estimate
from gcsam_med.metrics.intervals import wilson
from gcsam_med.metrics.summary import classification_estimates, classification_metrics
from gcsam_med.metrics.table import CLASSIFICATION, shown_in
from gcsam_med.progress import Track
from gcsam_med.reporting.report import Calibration, Operating
from gcsam_med.runs.calibration import DEFAULT_THRESHOLD


def examine(exam: Examination, options: EvaluateOptions, track: Track) -> Findings:
    """Estimate every metric at the model's threshold, before and after its temperature."""
    examined = answer(
        exam, exam.dataset, exam.selection.rows, batch_size=options.batch_size, track=track, what="Evaluating"
    )
    operating = operating_point(exam, options)
    temperature = None if exam.calibration is None else exam.calibration.temperature
    why_not = UNFINISHED if exam.calibration is None else exam.calibration.temperature_reason
    threshold = operating.threshold if len(exam.classes) == 2 else None
    calls = call_classes(examined.probabilities, threshold)
    calibrated = apply_temperature(examined.probabilities, temperature) if temperature is not None else None
    groups, seeds = exam.groups(examined.rows), np.random.SeedSequence(options.seed)

    def estimate(
        keep: np.ndarray, prob: np.ndarray, only: list[str] | None = None
    ) -> tuple[dict[str, Estimate], list[dict[str, Estimate]]]:
        return classification_estimates(
            examined.labels[keep],
            prob[keep],
            groups[keep],
            np.random.default_rng(seeds),
            threshold=threshold,
            prevalence=options.prevalence,
            n_resamples=options.resamples,
            only=only,
        )

    everyone = np.ones(len(examined.rows), dtype=bool)
    overall, by_class = estimate(everyone, examined.probabilities)
    after = None
    if calibrated is not None:
        after = estimate(everyone, calibrated, shown_in("calibration", "classification"))[0]
    return Findings(
        metrics=overall,
        per_class=dict(zip(exam.classes, by_class, strict=True)),
        cases=case_table(exam, examined, calls, calibrated),
        rows=examined.rows,
        policy=_policy(exam, options, operating),
        operating=_transfer(exam, operating, examined),
        curves=_curves(exam, examined),
        confusion=confusion_matrix(examined.labels, calls, len(exam.classes)),
        calibration=_calibration(examined, calibrated, overall, after, temperature, why_not),
        estimate_part=lambda keep: estimate(
            keep, examined.probabilities, shown_in("subgroups", "classification")
        )[0],
    )


def _transfer(exam: Examination, operating: Operating, examined: Answered) -> Operating:
    """Add what the threshold gives where it was chosen and where it is used."""
    if len(exam.classes) != 2:
        return operating

    def at(cases: Answered, threshold: float) -> dict[str, float | None]:
        names = shown_in("transfer", "classification")
        return classification_metrics(cases.labels, cases.probabilities, threshold, names)[0]

    transfer: dict[str, Mapping[str, float | None]] = {}
    fitted = exam.calibration
    if fitted is not None and fitted.at_threshold and operating.chosen_on != "given" and exam.split != "val":
        transfer["validation"] = fitted.at_threshold
    transfer[exam.split] = at(examined, operating.threshold)
    transfer[f"{exam.split} at 0.5"] = at(examined, DEFAULT_THRESHOLD)
    return Operating(
        operating.threshold, operating.rule, operating.chosen_on, operating.n, operating.reason, transfer
    )


def _curves(exam: Examination, examined: Answered) -> dict[str, pd.DataFrame]:
    shown = [1] if len(exam.classes) == 2 else range(len(exam.classes))
    roc, pr = [], []
    for k in shown:
        positive, score = examined.labels == k, examined.probabilities[:, k]
        r, c = roc_curve(positive, score), precision_recall_curve(positive, score)
        if r is None or c is None:
            continue
        roc.append(
            pd.DataFrame(
                {
                    "class": exam.classes[k],
                    "false_positive_rate": 1 - r.specificity,
                    "sensitivity": r.sensitivity,
                    "threshold": r.threshold,
                }
            )
        )
        pr.append(
            pd.DataFrame(
                {
                    "class": exam.classes[k],
                    "recall": c.recall,
                    "precision": c.precision,
                    "threshold": c.threshold,
                }
            )
        )
    curves = {"roc": pd.concat(roc), "pr": pd.concat(pr)} if roc else {}
    if len(exam.classes) == 2:
        d = decision_curve(examined.labels == 1, examined.probabilities[:, 1])
        curves["decision"] = pd.DataFrame(
            {"threshold": d.threshold, "model": d.model, "treat_all": d.treat_all}
        )
    return curves


def _calibration(
    examined: Answered,
    calibrated: np.ndarray | None,
    before: Mapping[str, Estimate],
    after: Mapping[str, Estimate] | None,
    temperature: float | None,
    why_not: str,
) -> Calibration:
    return Calibration(
        temperature,
        why_not,
        {name: before[name] for name in shown_in("calibration", "classification")},
        after or {},
        _reliability(examined.labels, examined.probabilities),
        _reliability(examined.labels, calibrated) if calibrated is not None else None,
    )


def _reliability(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    curve = reliability_curve(*confidence(labels, probabilities))
    ends = [wilson(share * n, n) for share, n in zip(curve.observed, curve.count, strict=True)]
    return pd.DataFrame(
        {
            "predicted": curve.predicted,
            "observed": curve.observed,
            "low": [low for low, _ in ends],
            "high": [high for _, high in ends],
            "n": curve.count,
        }
    )


def _policy(exam: Examination, options: EvaluateOptions, operating: Operating) -> dict[str, Any]:
    two = len(exam.classes) == 2
    return {
        "positive_class": exam.classes[1] if two else None,
        "threshold": operating.threshold if two else None,
        "call": operating.rule,
        "averaging": "of the positive class" if two else "macro: mean over classes; accuracy over cases",
        "brier": "squared error of the positive class" if two else "summed over classes, 0 to 2",
        **{name: row.policy for name, row in CLASSIFICATION.items() if row.policy},
        "probabilities": (
            "prob_ columns and all figures: as the network gives them; calibrated_ columns: after "
            "temperature scaling fitted on validation"
        ),
        "prevalence": options.prevalence,
        "intervals": "95 %, named beside each figure; bootstrap and DeLong by whole groups",
        "n_resamples": options.resamples,
        "seed": options.seed,
    }
