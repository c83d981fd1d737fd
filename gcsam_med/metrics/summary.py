"""Every figure of a test set with its interval, by the method that fits it; what an evaluation reports.

Shares of cases (accuracy, sensitivity, lesions found): Wilson, with the effective number of cases where
groups hold several. AUC of two classes: DeLong, by group where groups hold several cases. Everything else:
bootstrap by group, stratified by label for classification.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.bootstrap import bootstrap, bootstrap_mean
from gcsam_med.metrics.calibration import calibration_error_estimate
from gcsam_med.metrics.classification import (
    call_classes,
    check_probabilities,
    log_losses,
    squared_errors,
)
from gcsam_med.metrics.confusion import TABLE_METRICS, one_vs_rest, table_metrics
from gcsam_med.metrics.delong import delong_auc
from gcsam_med.metrics.estimate import Estimate
from gcsam_med.metrics.group_resampling import N_RESAMPLES, Resamples, resample_groups
from gcsam_med.metrics.intervals import proportion
from gcsam_med.metrics.segmentation import SegmentationCase
from gcsam_med.metrics.weighted_statistics import (
    Statistic,
    auc_of_weights,
    average_precision_of_weights,
    function_of_sums,
    weighted,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Figures of a lesion case that are averaged over lesion cases, by their name in metrics.json.
CASE_METRICS = (
    "dice", "iou", "hd95", "hd", "assd", "nsd", "sensitivity", "specificity", "precision", "area_error",
    "area_error_relative",
)  # fmt: skip


def classification_estimates(
    y_true: npt.ArrayLike,
    prob: npt.ArrayLike,
    groups: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    threshold: float | None = None,
    n_resamples: int = N_RESAMPLES,
) -> tuple[dict[str, Estimate], list[dict[str, Estimate]]]:
    """Return every classification figure with its 95 % interval.

    Parameters
    ----------
    y_true : array_like of int, shape [N]
        Class indices.
    prob : array_like of float, shape [N, C]
        Probability of each class.
    groups : array_like, shape [N]
        Group of each case.
    rng : numpy.random.Generator
        Source of the bootstrap's seed.
    threshold : float, optional
        Two classes: operating point on the probability of class 1, chosen elsewhere. Default: the likelier
        class.
    n_resamples : int
        Bootstrap resamples.

    Returns
    -------
    overall : dict of str to Estimate
        ``accuracy, balanced_accuracy, sensitivity, specificity, precision, npv, f1, mcc, auc, auprc, brier,
        log_loss, ece``, as `classification.classification_metrics` defines them.
    per_class : list of dict of str to Estimate
        Table figures, ``auc`` and ``auprc`` of each class against the rest.

    Raises
    ------
    InputError
        If a probability is NaN.
    ValueError
        If the input is malformed or there is no case.
    """
    labels, p = check_probabilities(y_true, prob)
    if not len(labels):
        raise ValueError("There is no case to evaluate.")
    group = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    resamples = resample_groups(group, rng, strata=labels, n_resamples=n_resamples)
    calls, n_classes = call_classes(p, threshold), p.shape[1]
    per_class = [_one_class(labels, p, calls, k, resamples) for k in range(n_classes)]
    if n_classes == 2:
        overall = dict(per_class[1])
    else:
        overall = _macro_table(labels, calls, n_classes, resamples)
        overall["auc"] = _macro_rank(auc_of_weights, labels, p, resamples)
        overall["auprc"] = _macro_rank(average_precision_of_weights, labels, p, resamples)
    overall["brier"] = bootstrap_mean(squared_errors(labels, p), resamples)
    overall["log_loss"] = bootstrap_mean(log_losses(labels, p), resamples)
    overall["ece"] = calibration_error_estimate(labels, p, resamples)
    return overall, per_class


def _one_class(labels: Ints, p: Floats, calls: Ints, k: int, resamples: Resamples) -> dict[str, Estimate]:
    """Figures of one class against the rest."""
    truth, call, group = labels == k, calls == k, resamples.group
    right = truth == call
    shares = {
        "accuracy": (np.ones_like(truth), ""),
        "sensitivity": (truth, "no positive cases"),
        "specificity": (~truth, "no negative cases"),
        "precision": (call, "no case was called positive"),
        "npv": (~call, "no case was called negative"),
    }
    result = {}
    for name, (cases, reason) in shares.items():
        result[name] = proportion(right[cases], group[cases]) if cases.any() else Estimate.undefined(reason)
    confusion = _confusion_sums(truth.astype(np.int64), call.astype(np.int64), 2)
    missing = (
        "" if truth.any() and not truth.all() else f"no {'negative' if truth.any() else 'positive'} cases"
    )
    for name in ("balanced_accuracy", "f1", "mcc"):
        result[name] = _with_reason(_table_statistic(confusion, name, resamples), resamples, missing)
    single = resamples.n_groups == len(group)
    result["auc"] = delong_auc(truth, p[:, k], None if single else group)
    precision = weighted(average_precision_of_weights(truth, p[:, k]), resamples)
    result["auprc"] = _with_reason(precision, resamples, missing)
    return {name: result[name] for name in (*TABLE_METRICS, "auc", "auprc")}


def _confusion_sums(truth: Ints, call: Ints, n_classes: int) -> Floats:
    return np.eye(n_classes**2)[truth * n_classes + call]


def _table_statistic(confusion: Floats, name: str, resamples: Resamples) -> Statistic:
    n_classes = round(confusion.shape[1] ** 0.5)

    def figure(sums: Floats) -> Floats:
        table = sums.reshape(-1, n_classes, n_classes)
        return TABLE_METRICS[name](one_vs_rest(table, 1)) if n_classes == 2 else table_metrics(table)[name]

    return function_of_sums(confusion, figure, resamples)


def _with_reason(statistic: Statistic, resamples: Resamples, missing: str) -> Estimate:
    estimate = bootstrap(statistic, resamples)
    if estimate.value is None and missing:
        return Estimate.undefined(missing, estimate.n)
    return estimate


def _macro_table(labels: Ints, calls: Ints, n_classes: int, resamples: Resamples) -> dict[str, Estimate]:
    confusion = _confusion_sums(labels, calls, n_classes)
    missing = _missing_classes(labels, n_classes)
    overall = {"accuracy": proportion(labels == calls, resamples.group)}
    for name in TABLE_METRICS:
        if name != "accuracy":
            overall[name] = _with_reason(_table_statistic(confusion, name, resamples), resamples, missing)
    return overall


def _missing_classes(labels: Ints, n_classes: int) -> str:
    absent = [str(k) for k in range(n_classes) if not (labels == k).any()]
    return f"no cases of class {', '.join(absent)}" if absent else "no case was called one of the classes"


def _macro_rank(
    make: Callable[[npt.ArrayLike, npt.ArrayLike], Callable[[Floats], Floats]],
    labels: Ints,
    p: Floats,
    resamples: Resamples,
) -> Estimate:
    """Mean over classes of a figure of ranks, each class against the rest."""
    figures = [make(labels == k, p[:, k]) for k in range(p.shape[1])]
    statistic = weighted(lambda w: np.mean([figure(w) for figure in figures], axis=0), resamples)
    return _with_reason(statistic, resamples, _missing_classes(labels, p.shape[1]))


def segmentation_estimates(
    cases: Sequence[SegmentationCase],
    groups: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    n_resamples: int = N_RESAMPLES,
) -> dict[str, Estimate]:
    """Return every segmentation figure with its 95 % interval.

    Parameters
    ----------
    cases : sequence of SegmentationCase, length N
        Lesions and normals, each from `segmentation.measure_case`.
    groups : array_like, shape [N]
        Group of each case.
    rng : numpy.random.Generator
        Source of the bootstrap's seed.
    n_resamples : int
        Bootstrap resamples.

    Returns
    -------
    dict of str to Estimate
        Means over lesion cases of ``CASE_METRICS``; ``missed_cases`` (share of lesion cases with an empty
        prediction); ``lesion_sensitivity`` (share of lesions found, n = lesions);
        ``false_positives_per_image`` (all images) and ``false_positives_per_normal``; ``normal_specificity``
        (share of normals left unmarked).

    Raises
    ------
    ValueError
        If there is no case or the lengths differ.
    """
    group = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    if not len(cases) or len(group) != len(cases):
        raise ValueError(f"{len(group)} groups do not fit {len(cases)} cases (at least one is needed).")
    normal = np.array([case.normal for case in cases])
    lesion_cases = [case for case in cases if not case.normal]
    result: dict[str, Estimate] = {}
    if lesion_cases:
        draws = resample_groups(group[~normal], rng, n_resamples=n_resamples)
        for name in CASE_METRICS:
            values = [getattr(case, name) for case in lesion_cases]
            # Only specificity can be undefined on a lesion: the lesion fills the whole image.
            known = np.array([v is not None for v in values])
            if known.all():
                result[name] = bootstrap_mean(values, draws)
            elif known.any():
                some = resample_groups(group[~normal][known], rng, n_resamples=n_resamples)
                result[name] = bootstrap_mean([v for v in values if v is not None], some)
            else:
                result[name] = Estimate.undefined("not defined on any case", len(values))
    else:
        result = {name: Estimate.undefined("no case with a lesion") for name in CASE_METRICS}
    result["missed_cases"] = proportion([case.empty for case in lesion_cases], group[~normal])
    found = [i < case.detection.found for case in cases for i in range(case.detection.lesions)]
    result["lesion_sensitivity"] = proportion(found, np.repeat(group, [c.detection.lesions for c in cases]))
    marks = np.array([float(case.detection.false_positives) for case in cases])
    every = resample_groups(group, rng, n_resamples=n_resamples)
    result["false_positives_per_image"] = bootstrap_mean(marks, every)
    if normal.any():
        normals = resample_groups(group[normal], rng, n_resamples=n_resamples)
        result["false_positives_per_normal"] = bootstrap_mean(marks[normal], normals)
    else:
        result["false_positives_per_normal"] = Estimate.undefined("no normal images")
    result["normal_specificity"] = proportion([case.empty for case in cases if case.normal], group[normal])
    return result
