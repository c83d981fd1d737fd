"""From a classification run to its part of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med.evaluation.classification import Answered, answer, case_table
from gcsam_med.evaluation.findings import UNFINISHED, Findings, Options, operating_point
from gcsam_med.evaluation.setup import Examination
from gcsam_med.metrics.calibration import apply_temperature, confidence
from gcsam_med.metrics.classification import call_classes, classification_metrics, confusion_matrix
from gcsam_med.metrics.confusion import npv_at_prevalence, ppv_at_prevalence
from gcsam_med.metrics.curves import (
    decision_curve,
    precision_recall_curve,
    reliability_curve,
    roc_curve,
)
from gcsam_med.metrics.estimate import Estimate
from gcsam_med.metrics.intervals import wilson
from gcsam_med.metrics.statistics import bootstrap, resample_groups, weighted
from gcsam_med.metrics.summary import classification_estimates
from gcsam_med.progress import Track
from gcsam_med.reporting.report import Calibration, Operating
from gcsam_med.runs.calibration import DEFAULT_THRESHOLD

CALIBRATION_METRICS = ("brier", "log_loss", "ece")
SUBGROUP_METRICS = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")
TRANSFER_METRICS = ("sensitivity", "specificity", "balanced_accuracy")


def examine(exam: Examination, options: Options, track: Track) -> Findings:
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

    def estimate(keep: np.ndarray, prob: np.ndarray) -> tuple[dict[str, Estimate], list[dict[str, Estimate]]]:
        return classification_estimates(
            examined.labels[keep],
            prob[keep],
            groups[keep],
            np.random.default_rng(seeds),
            threshold=threshold,
            n_resamples=options.n_resamples,
        )

    everyone = np.ones(len(examined.rows), dtype=bool)
    overall, by_class = estimate(everyone, examined.probabilities)
    overall |= _derived(exam, examined, overall, options)
    after = estimate(everyone, calibrated)[0] if calibrated is not None else None
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
        estimate_part=lambda keep: _main(estimate(keep, examined.probabilities)[0]),
    )


def _main(figures: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {name: figures[name] for name in SUBGROUP_METRICS}


def _transfer(exam: Examination, operating: Operating, examined: Answered) -> Operating:
    """Add what the threshold gives where it was chosen and where it is used."""
    if len(exam.classes) != 2:
        return operating

    def at(cases: Answered, threshold: float) -> dict[str, float | None]:
        figures = classification_metrics(cases.labels, cases.probabilities, threshold)[0]
        return {name: figures[name] for name in TRANSFER_METRICS}

    transfer: dict[str, Mapping[str, float | None]] = {}
    fitted = exam.calibration
    if fitted is not None and fitted.at_threshold and operating.chosen_on != "given" and exam.split != "val":
        transfer["validation"] = fitted.at_threshold
    transfer[exam.split] = at(examined, operating.threshold)
    transfer[f"{exam.split} at 0.5"] = at(examined, DEFAULT_THRESHOLD)
    return Operating(
        operating.threshold, operating.rule, operating.chosen_on, operating.n, operating.reason, transfer
    )


def _derived(
    exam: Examination, examined: Answered, overall: Mapping[str, Estimate], options: Options
) -> dict[str, Estimate]:
    """Figures that follow from others: at a fixed specificity, at a stated prevalence."""
    if len(exam.classes) != 2:
        return {}
    derived = {"sensitivity_at_90_specificity": _at_specificity(exam, examined, options)}
    if options.prevalence is not None:
        derived |= {
            name: _at_prevalence(overall, options.prevalence, positive=name == "ppv_at_prevalence")
            for name in ("ppv_at_prevalence", "npv_at_prevalence")
        }
    return derived


def _at_specificity(exam: Examination, examined: Answered, options: Options) -> Estimate:
    """Sensitivity where the ROC curve of these very cases reaches 90 % specificity."""
    positive, score = examined.labels == 1, examined.probabilities[:, 1]
    if positive.all() or not positive.any():
        return Estimate.undefined("a class is missing", int(positive.sum()))
    order = np.argsort(-score, kind="stable")
    # Cases of equal score are called together: only the last of each run is a point of the curve.
    last = np.append(score[order][1:] != score[order][:-1], True)

    def figure(weights: np.ndarray) -> np.ndarray:
        called = weights[:, order].cumsum(axis=1)
        hits = (weights * positive)[:, order].cumsum(axis=1)
        positives, false = hits[:, -1:], called - hits
        negatives = called[:, -1:] - positives
        with np.errstate(invalid="ignore", divide="ignore"):
            good = last & (false <= 0.1 * negatives + 1e-9)
            best = np.where(good, hits, 0.0).max(axis=1) / positives[:, 0]
        return np.where((positives[:, 0] > 0) & (negatives[:, 0] > 0), best, np.nan)

    draws = resample_groups(
        exam.groups(examined.rows),
        np.random.default_rng(np.random.SeedSequence(options.seed)),
        strata=examined.labels,
        n_resamples=options.n_resamples,
    )
    return bootstrap(weighted(figure, draws), draws)


def _at_prevalence(overall: Mapping[str, Estimate], prevalence: float, *, positive: bool) -> Estimate:
    """Predictive value by Bayes' theorem; the interval from the ends of sensitivity and specificity together.

    Both grow with sensitivity and with specificity, so the ends of the two 95 % intervals bound them; the
    result covers at least 90 % and is stated as such in the method.
    """
    value_of = ppv_at_prevalence if positive else npv_at_prevalence
    sens, spec = overall["sensitivity"], overall["specificity"]
    if sens.value is None or spec.value is None:
        return Estimate.undefined("sensitivity or specificity is not defined", sens.n + spec.n)
    value = value_of(sens.value, spec.value, prevalence)
    n, method = sens.n + spec.n, "from the ends of the intervals of sensitivity and specificity"
    if value is None:
        return Estimate.undefined("no such call can occur", n)
    if sens.ci95 is None or spec.ci95 is None:
        return Estimate(value, None, n, "none", "sensitivity or specificity has no interval")
    ends = [value_of(a, b, prevalence) for a, b in zip(sens.ci95, spec.ci95, strict=True)]
    if ends[0] is None or ends[1] is None:
        return Estimate(value, None, n, "none", "not defined at the ends of the intervals")
    return Estimate(value, (ends[0], ends[1]), n, method)


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
        {name: before[name] for name in CALIBRATION_METRICS},
        {name: after[name] for name in CALIBRATION_METRICS} if after is not None else {},
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


def _policy(exam: Examination, options: Options, operating: Operating) -> dict[str, Any]:
    two = len(exam.classes) == 2
    return {
        "positive_class": exam.classes[1] if two else None,
        "threshold": operating.threshold if two else None,
        "call": operating.rule,
        "averaging": "of the positive class" if two else "macro: mean over classes; accuracy over cases",
        "brier": "squared error of the positive class" if two else "summed over classes, 0 to 2",
        "ece": "10 bins of equal width",
        "probabilities": (
            "prob_ columns and all figures: as the network gives them; calibrated_ columns: after "
            "temperature scaling fitted on validation"
        ),
        "prevalence": options.prevalence,
        "intervals": "95 %, named beside each figure; bootstrap and DeLong by whole groups",
        "n_resamples": options.n_resamples,
        "seed": options.seed,
    }
