"""Every metric of a test set with its interval; what is taken, and how, stands in the table of metrics.

Shares of cases: Wilson, with the effective number of cases where groups hold several. AUC of two classes:
DeLong, by group where groups hold several cases. Everything else: bootstrap by group; in classification
within classes, but for metrics that depend on the share of each class.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gcsam_med.metrics.classification import (
    CalledCases,
    Share,
    call_classes,
    check_probabilities,
    confusion_matrix,
    missing_class,
    one_vs_rest,
)
from gcsam_med.metrics.intervals import (
    N_RESAMPLES,
    Estimate,
    Resamples,
    Statistic,
    bootstrap,
    bootstrap_mean,
    function_of_sums,
    group_index,
    proportion,
    resample_groups,
    weighted,
)
from gcsam_med.metrics.regions import Detection
from gcsam_med.metrics.segmentation import MaskPair
from gcsam_med.metrics.table import CLASSIFICATION, SEGMENTATION, Metric

_NO_IMAGES = {"lesion": "no case with a lesion", "normal": "no normal images", "all": "no images"}


@dataclass(frozen=True, slots=True)
class SegmentationCase:
    """What is kept of one case: every metric of it, without its masks."""

    values: Mapping[str, Any]  #: Each metric's own value, by name: a number, None, or a list of flags.
    normal: bool  #: The truth is empty.
    empty: bool  #: The prediction is empty. On a lesion: the whole case is missed.
    area_truth: float  #: In square units of the spacing.
    area_pred: float  #: In square units of the spacing.
    detection: Detection  #: Lesions, found, false positives.


def measure_case(case: MaskPair, extra: Collection[str] = ()) -> SegmentationCase:
    """Take every segmentation metric of one case, at its own resolution.

    Parameters
    ----------
    case : MaskPair
        Prediction and truth.
    extra : collection of str
        Names of metrics to take that are taken on request only.
    """
    rows = {name: row for name, row in SEGMENTATION.items() if not row.on_request or name in extra}
    return SegmentationCase(
        values={name: row.function(case) for name, row in rows.items()},
        normal=case.normal,
        empty=case.empty,
        area_truth=case.n_truth * case.pixel_area,
        area_pred=case.n_pred * case.pixel_area,
        detection=case.detection,
    )


def segmentation_estimates(
    cases: Sequence[SegmentationCase],
    groups: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    n_resamples: int = N_RESAMPLES,
) -> dict[str, Estimate]:
    """Return every segmentation metric with its 95 % interval, by name, in the order of the table.

    Parameters
    ----------
    cases : sequence of SegmentationCase, length N
        Lesions and normals, each from `measure_case`; at least one.
    groups : array_like, shape [N]
        Group of each case.
    rng : numpy.random.Generator
        Source of the bootstrap's seeds.
    n_resamples : int
        Bootstrap resamples.
    """
    if not len(cases):
        raise ValueError("There is no case to evaluate.")
    group = group_index(groups, len(cases))
    normal = np.array([case.normal for case in cases])
    chosen = {"lesion": ~normal, "normal": normal, "all": np.ones_like(normal)}
    draws: dict[tuple[str, bytes], Resamples] = {}
    result: dict[str, Estimate] = {}
    for name in cases[0].values:
        row = SEGMENTATION[name]
        rows = np.flatnonzero(chosen[row.images])
        values = [case.values[name] for case, wanted in zip(cases, chosen[row.images], strict=True) if wanted]
        if row.kind == "share":
            flags = [flag for some in values for flag in some]
            result[name] = proportion(flags, np.repeat(group[rows], [len(some) for some in values]))
            continue
        known = np.array([v is not None for v in values], dtype=bool)
        if not known.any():
            reason = "not defined on any case" if len(rows) else _NO_IMAGES[row.images]
            result[name] = Estimate.undefined(reason, len(rows))
            continue
        # Metrics of the same cases see the same draws.
        key = (row.images, known.tobytes())
        if key not in draws:
            draws[key] = resample_groups(group[rows][known], rng, n_resamples=n_resamples)
        result[name] = bootstrap_mean([v for v in values if v is not None], draws[key])
    return result


def classification_estimates(
    y_true: npt.ArrayLike,
    prob: npt.ArrayLike,
    groups: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    calls: npt.ArrayLike | None = None,
    prevalence: float | None = None,
    n_resamples: int = N_RESAMPLES,
    only: Collection[str] | None = None,
) -> tuple[dict[str, Estimate], list[dict[str, Estimate]]]:
    """Return every classification metric with its 95 % interval.

    Parameters
    ----------
    y_true, prob, groups : array_like, shapes [N], [N, C] and [N]
        Class index, probability of each class, and group of each case.
    rng : numpy.random.Generator
        Source of the bootstrap's seed.
    calls : array_like of int, shape [N], optional
        The called classes, by an operating point that was chosen elsewhere. Default: the likeliest ones.
    prevalence : float, optional
        Two classes: also give predictive values at this prevalence.
    n_resamples : int
        Bootstrap resamples.
    only : collection of str, optional
        Names of the metrics wanted. Default: all.

    Returns
    -------
    overall, per_class : dict of str to Estimate, and one such dict for each class against the rest
        In the order of the table. With two classes ``overall`` is of class 1.

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
    group = group_index(groups, len(labels))
    stratified = resample_groups(group, rng, strata=labels, n_resamples=n_resamples)
    whole = resample_groups(group, rng, n_resamples=n_resamples)
    n_classes = p.shape[1]
    called = call_classes(p) if calls is None else np.asarray(calls, dtype=np.int64)
    # Drawn within classes, the share of each would stand still, and with it what depends on it.
    of = {
        depends: CalledCases(labels, p, called, whole if depends else stratified, prevalence)
        for depends in (False, True)
    }
    rows = _rows(n_classes, only)
    by_class = {name: row for name, row in rows.items() if row.by_class and row.kind in ("counts", "ranks")}
    per_class = [
        {name: _one_class(row, of[row.depends_on_prevalence], k) for name, row in by_class.items()}
        for k in range(n_classes)
    ]
    overall: dict[str, Estimate] = {}
    for name, row in rows.items():
        cases = of[row.depends_on_prevalence]
        if row.kind == "losses":
            overall[name] = bootstrap_mean(row.function(labels, p), cases.resamples)
        elif row.kind == "estimate":
            estimate = row.function(cases)
            if estimate is not None:
                overall[name] = estimate
        elif n_classes == 2:
            overall[name] = per_class[1][name] if name in by_class else _one_class(row, cases, 1)
        else:
            overall[name] = _several_classes(row, cases)
    return overall, per_class


def classification_metrics(
    y_true: npt.ArrayLike,
    prob: npt.ArrayLike,
    threshold: float | None = None,
    only: Collection[str] | None = None,
) -> tuple[dict[str, float | None], list[dict[str, float | None]]]:
    """Return the values of `classification_estimates` without intervals; ``None`` where one is not defined.

    Arguments, form and errors are the same; metrics of kind estimate are left out.
    """
    labels, p = check_probabilities(y_true, prob)
    if not len(labels):
        raise ValueError("There is no case to evaluate.")
    n_classes = p.shape[1]
    confusion = confusion_matrix(labels, call_classes(p, threshold), n_classes)
    once = np.ones((1, len(labels)))
    overall: dict[str, float | None] = {}
    per_class: list[dict[str, float | None]] = [{} for _ in range(n_classes)]
    for name, row in _rows(n_classes, only).items():
        if row.kind == "estimate":
            continue
        if row.kind == "losses":
            overall[name] = float(row.function(labels, p).mean())
            continue
        each = [
            row.function(one_vs_rest(confusion, k))
            if row.kind == "counts"
            else row.function(labels == k, p[:, k])(once)[0]
            for k in range(n_classes)
        ]
        if row.by_class:
            for k, value in enumerate(each):
                per_class[k][name] = _defined(value)
        if n_classes == 2:
            overall[name] = _defined(each[1])
        else:
            overall[name] = _defined(np.mean(each) if row.several is None else row.several(confusion))
    return overall, per_class


def _rows(n_classes: int, only: Collection[str] | None) -> dict[str, Metric]:
    return {
        name: row
        for name, row in CLASSIFICATION.items()
        if (only is None or name in only) and (row.overall == "any" or n_classes == 2)
    }


def _defined(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _one_class(row: Metric, cases: CalledCases, k: int) -> Estimate:
    """Return a metric of one class against the rest."""
    truth, call, resamples = cases.labels == k, cases.calls == k, cases.resamples
    group = resamples.group
    if isinstance(row.function, Share):
        counted = row.function.cases(truth, call)
        if not counted.any():
            return Estimate.undefined(row.function.missing)
        return proportion((truth == call)[counted], group[counted])
    if row.interval is not None:
        single = resamples.n_groups == len(group)
        estimate: Estimate = row.interval(truth, cases.prob[:, k], None if single else group)
        return estimate
    if row.kind == "counts":
        function = row.function
        statistic = _of_confusion(truth, call, 2, lambda table: function(one_vs_rest(table, 1)), resamples)
    else:
        statistic = weighted(row.function(truth, cases.prob[:, k]), resamples)
    return _with_reason(statistic, resamples, missing_class(truth))


def _several_classes(row: Metric, cases: CalledCases) -> Estimate:
    """Return a metric of three classes or more: its own form, or the mean over classes against the rest."""
    labels, resamples, n_classes = cases.labels, cases.resamples, cases.prob.shape[1]
    if row.function is CLASSIFICATION["accuracy"].function:
        return proportion(labels == cases.calls, resamples.group)
    if row.kind == "counts":
        function = row.several or (
            lambda table: np.mean([row.function(one_vs_rest(table, k)) for k in range(n_classes)], axis=0)
        )
        statistic = _of_confusion(labels, cases.calls, n_classes, function, resamples)
    else:
        parts = [row.function(labels == k, cases.prob[:, k]) for k in range(n_classes)]
        statistic = weighted(lambda w: np.mean([part(w) for part in parts], axis=0), resamples)
    absent = [str(k) for k in range(n_classes) if not (labels == k).any()]
    missing = f"no cases of class {', '.join(absent)}" if absent else "no case was called one of the classes"
    return _with_reason(statistic, resamples, missing)


def _of_confusion(
    truth: npt.NDArray[Any], call: npt.NDArray[Any], n_classes: int, function: Any, resamples: Resamples
) -> Statistic:
    cells = np.eye(n_classes**2)[truth.astype(np.int64) * n_classes + call.astype(np.int64)]
    return function_of_sums(cells, lambda sums: function(sums.reshape(-1, n_classes, n_classes)), resamples)


def _with_reason(statistic: Statistic, resamples: Resamples, missing: str) -> Estimate:
    estimate = bootstrap(statistic, resamples)
    if estimate.value is None and missing:
        return Estimate.undefined(missing, estimate.n)
    return estimate
