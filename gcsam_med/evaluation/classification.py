"""Evaluating a classification: predictions, metrics, calibration and curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med.config import EvaluateOptions
from gcsam_med.evaluation.context import (
    UNFINISHED,
    EvaluationContext,
    TaskResult,
    operating_point,
)
from gcsam_med.metrics.calibration import (
    apply_logistic,
    apply_temperature,
    assign_bins,
    confidence,
    decision_curve,
    reliability_curve,
)
from gcsam_med.metrics.classification import call_classes, confusion_matrix
from gcsam_med.metrics.intervals import Estimate, proportion, resample_groups
from gcsam_med.metrics.operating_point import DEFAULT_THRESHOLD
from gcsam_med.metrics.roc import precision_recall_curve, roc_curve
from gcsam_med.metrics.summary import classification_estimates, classification_metrics
from gcsam_med.metrics.table import CLASSIFICATION, shown_in
from gcsam_med.progress import Track
from gcsam_med.reporting.report import Calibration, Operating
from gcsam_med.runs import network_outputs


@dataclass(frozen=True)
class Predictions:
    """Labels, probabilities and calls of the cases."""

    rows: np.ndarray  #: ndarray of int64, shape (n,): Rows of the data set.
    labels: np.ndarray  #: ndarray of int64, shape (n,): Place of the class in the context's `classes`.
    probabilities: np.ndarray  #: ndarray of float64, shape (n, classes): In the same order.
    calibrated: np.ndarray  #: The same after the model's temperature; NaN where it has none.
    recalibrated: np.ndarray  #: The same after the model's logistic recalibration; NaN where it has none.
    calls: np.ndarray  #: ndarray of int64, shape (n,): Called class, at the model's threshold.


def _predictions(context: EvaluationContext, options: EvaluateOptions, track: Track) -> Predictions:
    rows, n = context.selection.rows, len(context.selection.rows)
    stream = network_outputs(
        context.model, context.dataset.images, rows, batch_size=options.batch_size, track=track
    )
    found = [probability[list(context.order)] for _, probability in stream]
    probabilities = np.array(found, dtype=np.float64).reshape(n, len(context.classes))
    temperature = None if context.calibration is None else context.calibration.temperature
    logistic = None if context.calibration is None else context.calibration.logistic
    nothing = np.full_like(probabilities, np.nan)
    return Predictions(
        rows,
        context.labels(rows),
        probabilities,
        nothing if temperature is None else apply_temperature(probabilities, temperature),
        nothing if logistic is None else apply_logistic(probabilities, *logistic),
        call_classes(
            probabilities, operating_point(context, options).threshold if len(context.classes) == 2 else None
        ),
    )


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Join the cases of several models, in manifest order."""
    order = np.argsort(np.concatenate([part.rows for part in parts]), kind="stable")
    columns = zip(*(dataclasses.astuple(part) for part in parts), strict=True)
    return Predictions(*(np.concatenate(column)[order] for column in columns))


def evaluate_classification(context: EvaluationContext, options: EvaluateOptions, track: Track) -> TaskResult:
    """Estimate every metric at the model's threshold, before and after its temperature."""
    evaluated = joined([_predictions(model, options, track) for model in context.models])
    operating = operating_point(context, options)
    temperature, why_not = _temperature(context)
    calls = evaluated.calls
    calibrated, recalibrated = (
        None if np.isnan(p).any() else p for p in (evaluated.calibrated, evaluated.recalibrated)
    )
    groups, seeds = context.groups(evaluated.rows), np.random.SeedSequence(options.seed)

    def estimate(
        keep: np.ndarray, prob: np.ndarray, only: list[str] | None = None
    ) -> tuple[dict[str, Estimate], list[dict[str, Estimate]]]:
        return classification_estimates(
            evaluated.labels[keep],
            prob[keep],
            groups[keep],
            np.random.default_rng(seeds),
            calls=calls[keep],
            prevalence=options.prevalence,
            n_resamples=options.resamples,
            only=only,
        )

    everyone = np.ones(len(evaluated.rows), dtype=bool)
    overall, by_class = estimate(everyone, evaluated.probabilities)
    after, logistic = (
        {} if p is None else estimate(everyone, p, shown_in("calibration", "classification"))[0]
        for p in (calibrated, recalibrated)
    )
    use, which = _for_decisions(evaluated, calibrated, recalibrated)
    return TaskResult(
        metrics=overall,
        per_class=dict(zip(context.classes, by_class, strict=True)),
        cases=_case_table(context, evaluated, calls, calibrated),
        rows=evaluated.rows,
        policy=_policy(context, options, operating, which, calibrated=calibrated is not None),
        operating=_transfer(context, operating, evaluated),
        curves=_curves(context, evaluated, use, groups, options),
        confusion=confusion_matrix(evaluated.labels, calls, len(context.classes)),
        calibration=Calibration(
            temperature,
            why_not,
            {name: overall[name] for name in shown_in("calibration", "classification") if name in overall},
            after,
            logistic,
            None if context.pooled or context.calibration is None else context.calibration.logistic,
            _reliability(evaluated.labels, evaluated.probabilities, groups),
            None if calibrated is None else _reliability(evaluated.labels, calibrated, groups),
        ),
        estimate_part=lambda keep: estimate(
            keep, evaluated.probabilities, shown_in("subgroups", "classification")
        )[0],
    )


def _for_decisions(
    evaluated: Predictions, calibrated: np.ndarray | None, recalibrated: np.ndarray | None
) -> tuple[np.ndarray, str]:
    """Return the best calibrated probabilities there are, for the decision curve, and their name."""
    if recalibrated is not None:
        return recalibrated, "after logistic recalibration on validation"
    if calibrated is not None:
        return calibrated, "after temperature scaling on validation"
    return evaluated.probabilities, "as the network gives them"


def _temperature(context: EvaluationContext) -> tuple[float | None, str]:
    """Return the temperature, and why there is none: of pooled models each has its own."""
    fitted = [model.calibration for model in context.models]
    if None in fitted:
        return None, UNFINISHED
    found = [one.temperature for one in fitted if one is not None]
    if not context.pooled:
        return found[0], "" if fitted[0] is None else fitted[0].temperature_reason
    if None in found:
        return None, "validation does not give one for each of the pooled models"
    return None, f"each model has its own: {', '.join(f'{t:.3f}' for t in found)}"


def _transfer(context: EvaluationContext, operating: Operating, evaluated: Predictions) -> Operating:
    """Add what the threshold gives where it was chosen and where it is used."""
    if len(context.classes) != 2 or context.pooled:
        return operating

    def at(cases: Predictions, threshold: float) -> dict[str, float | None]:
        names = shown_in("transfer", "classification")
        return classification_metrics(cases.labels, cases.probabilities, threshold, names)[0]

    transfer: dict[str, Mapping[str, float | None]] = {}
    fitted = context.calibration
    if (
        fitted is not None
        and fitted.at_threshold
        and operating.chosen_on != "given"
        and context.split != "val"
    ):
        transfer["validation"] = fitted.at_threshold
    transfer[context.split] = at(evaluated, operating.threshold)
    transfer[f"{context.split} at 0.5"] = at(evaluated, DEFAULT_THRESHOLD)
    return Operating(
        operating.threshold, operating.rule, operating.chosen_on, operating.n, operating.reason, transfer
    )


def _curves(
    context: EvaluationContext,
    evaluated: Predictions,
    use: np.ndarray,
    groups: np.ndarray,
    options: EvaluateOptions,
) -> dict[str, pd.DataFrame]:
    shown = [1] if len(context.classes) == 2 else range(len(context.classes))
    roc, pr = [], []
    for k in shown:
        positive, score = evaluated.labels == k, evaluated.probabilities[:, k]
        r, c = roc_curve(positive, score), precision_recall_curve(positive, score)
        if r is None or c is None:
            continue
        roc.append(
            pd.DataFrame(
                {
                    "class": context.classes[k],
                    "false_positive_rate": 1 - r.specificity,
                    "sensitivity": r.sensitivity,
                    "threshold": r.threshold,
                }
            )
        )
        pr.append(
            pd.DataFrame(
                {
                    "class": context.classes[k],
                    "recall": c.recall,
                    "precision": c.precision,
                    "threshold": c.threshold,
                }
            )
        )
    curves = {"roc": pd.concat(roc), "pr": pd.concat(pr)} if roc else {}
    if len(context.classes) == 2:
        draws = resample_groups(groups, np.random.default_rng(options.seed), n_resamples=options.resamples)
        d = decision_curve(evaluated.labels == 1, use[:, 1], resamples=draws)
        columns = ("threshold", "model", "low", "high", "treat_all")
        curves["decision"] = pd.DataFrame({name: getattr(d, name) for name in columns})
    return curves


def _reliability(labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    """Observed share in each bin, with Wilson's interval by groups; NaN where a bin holds one group."""
    event, p = confidence(labels, probabilities)
    curve, bins = reliability_curve(event, p), assign_bins(p)
    used = [bins == k for k in np.unique(bins)]
    ends = [proportion(event[mine], groups[mine]).ci95 or (np.nan, np.nan) for mine in used]
    return pd.DataFrame(
        {
            "predicted": curve.predicted,
            "observed": curve.observed,
            "low": [low for low, _ in ends],
            "high": [high for _, high in ends],
            "n": curve.count,
        }
    )


def _policy(
    context: EvaluationContext,
    options: EvaluateOptions,
    operating: Operating,
    which: str,
    *,
    calibrated: bool,
) -> dict[str, Any]:
    two = len(context.classes) == 2
    return {
        "positive_class": context.classes[1] if two else None,
        "threshold": operating.threshold if two else None,
        "call": operating.rule,
        "averaging": "of the positive class"
        if two
        else "macro: mean over classes, one-vs-rest; accuracy and MCC over cases",
        "brier": "squared error of the positive class" if two else "summed over classes, 0 to 2",
        **{name: row.policy for name, row in CLASSIFICATION.items() if row.policy},
        "probabilities": "prob_ columns and all metrics: as the network gives them"
        + ("; calibrated_ columns: after temperature scaling fitted on validation" if calibrated else ""),
        "decision_curve": f"probabilities {which}" if two else None,
        "prevalence": options.prevalence,
        "intervals": "95 %, named beside each metric; bootstrap and DeLong by whole groups",
        "n_resamples": options.resamples,
        "seed": options.seed,
    }


def _case_table(
    context: EvaluationContext, evaluated: Predictions, calls: np.ndarray, calibrated: np.ndarray | None
) -> pd.DataFrame:
    """Return ``cases.csv``: one row for each case, in manifest order."""
    manifest = context.dataset.manifest.iloc[evaluated.rows]
    table = pd.DataFrame(
        {column: manifest[column].to_numpy(dtype=str) for column in ("case_id", "group_id", "label")}
    )
    table["predicted"] = np.array(context.classes)[calls]
    table["correct"] = (calls == evaluated.labels).astype(int)
    for k, name in enumerate(context.classes):
        table[f"prob_{name}"] = evaluated.probabilities[:, k]
    if calibrated is not None:
        for k, name in enumerate(context.classes):
            table[f"calibrated_{name}"] = calibrated[:, k]
    return table
