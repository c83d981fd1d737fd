"""Figures of a two-by-two table: sensitivity, specificity, predictive values, F1, MCC.

Each is a function of `Counts`, which may hold numbers or arrays of shape [...], and returns a number or an
array of that shape: the same line of code serves one test set and two thousand bootstrap resamples of it. An
undefined entry is NaN there; what leaves for a person goes through `defined` and is ``None`` instead.

When a figure is undefined (and nothing else is put in its place):

- sensitivity without positives, specificity without negatives, PPV without positive calls, NPV without
  negative calls;
- balanced accuracy and MCC if a class is missing from the truth;
- F1 if there are neither positives nor positive calls.

MCC is 0 if all calls are the same but the truth is not (its limit; Chicco and Jurman, BMC Genomics 21:6,
2020).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Counts:
    """A two-by-two table of truth against call, or a stack of them."""

    #: tp, fp, fn, tn: True positives, false positives, false negatives, true negatives; 0 or more, fractions
    #: allowed (weights).
    tp: Any
    fp: Any
    fn: Any
    tn: Any


def one_vs_rest(confusion: npt.NDArray[Any], positive: int) -> Counts:
    """Fold a confusion matrix into the two-by-two table of one class against the others.

    Parameters
    ----------
    confusion : ndarray, shape [..., C, C]
        Row: truth; column: call. Leading axes are a stack.
    positive : int
        The class that counts as positive.

    Returns
    -------
    Counts
        Of shape [...].
    """
    tp = confusion[..., positive, positive]
    fp = confusion[..., :, positive].sum(axis=-1) - tp
    fn = confusion[..., positive, :].sum(axis=-1) - tp
    return Counts(tp, fp, fn, confusion.sum(axis=(-2, -1)) - tp - fp - fn)


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Divide, NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(
        numerator, denominator, out=np.full(np.shape(denominator), np.nan), where=denominator > 0
    )


def sensitivity(c: Counts) -> Any:
    """Return the share of positives that were called (recall, true positive rate), in [0, 1]."""
    return _ratio(c.tp, c.tp + c.fn)


def specificity(c: Counts) -> Any:
    """Return the share of negatives that were not called (true negative rate), in [0, 1]."""
    return _ratio(c.tn, c.tn + c.fp)


def precision(c: Counts) -> Any:
    """Return the share of positive calls that are right (positive predictive value, PPV), in [0, 1]."""
    return _ratio(c.tp, c.tp + c.fp)


def npv(c: Counts) -> Any:
    """Return the share of negative calls that are right (negative predictive value), in [0, 1]."""
    return _ratio(c.tn, c.tn + c.fn)


def accuracy(c: Counts) -> Any:
    """Return the share of cases called rightly, in [0, 1]."""
    return _ratio(c.tp + c.tn, c.tp + c.fp + c.fn + c.tn)


def balanced_accuracy(c: Counts) -> Any:
    """Return the mean of sensitivity and specificity, in [0, 1]."""
    return (sensitivity(c) + specificity(c)) / 2


def f1(c: Counts) -> Any:
    """Return the harmonic mean of sensitivity and precision, in [0, 1]; 0 if there is no true positive."""
    return _ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn)


def mcc(c: Counts) -> Any:
    """Return Matthews' correlation coefficient of truth and call, in [-1, 1]; 0 if all calls are the same.

    Matthews, Biochim Biophys Acta 405(2), 1975.
    """
    product = [np.asarray(x, float) for x in (c.tp + c.fp, c.tn + c.fn, c.tp + c.fn, c.tn + c.fp)]
    both_classes = (product[2] > 0) & (product[3] > 0)
    root = np.sqrt(product[0]) * np.sqrt(product[1]) * np.sqrt(product[2]) * np.sqrt(product[3])
    value = np.asarray(c.tp, float) * c.tn - np.asarray(c.fp, float) * c.fn
    # One kind of call only: numerator and denominator are both 0, the limit is 0.
    value = np.divide(value, root, out=np.zeros(np.shape(root)), where=root > 0)
    return np.where(both_classes, value, np.nan)


# Name in metrics.json -> figure of a two-by-two table.
TABLE_METRICS: dict[str, Callable[[Counts], Any]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "precision": precision,
    "npv": npv,
    "f1": f1,
    "mcc": mcc,
}


def multiclass_mcc(confusion: npt.NDArray[Any]) -> Any:
    """Return the correlation coefficient of truth and call for any number of classes, in [-1, 1].

    Parameters
    ----------
    confusion : ndarray, shape [..., C, C]
        Row: truth; column: call.

    Returns
    -------
    float or ndarray, shape [...]
        0 if all calls are the same; NaN if a class is missing from the truth. Two classes: `mcc`.

    Notes
    -----
    R_K of Gorodkin, Computational Biology and Chemistry 28, 2004.
    """
    c = np.asarray(confusion, dtype=np.float64)
    truths, calls, n = c.sum(axis=-1), c.sum(axis=-2), c.sum(axis=(-2, -1))
    right = np.trace(c, axis1=-2, axis2=-1)
    spread = np.sqrt(n**2 - (truths**2).sum(axis=-1)) * np.sqrt(n**2 - (calls**2).sum(axis=-1))
    value = right * n - (truths * calls).sum(axis=-1)
    value = np.divide(value, spread, out=np.zeros(np.shape(spread)), where=spread > 0)
    return np.where((truths > 0).all(axis=-1), value, np.nan)


def table_metrics(confusion: npt.NDArray[Any]) -> dict[str, Any]:
    """Return the overall figures of a confusion matrix or a stack of them.

    Parameters
    ----------
    confusion : ndarray, shape [..., C, C]
        Row: truth; column: call.

    Returns
    -------
    dict of str to float or ndarray, shape [...]
        ``TABLE_METRICS`` by name; NaN where undefined. Two classes: class 1 is the positive one. More:
        accuracy is over all cases, balanced accuracy the mean sensitivity, MCC that of all classes, the
        others macro averages over classes, undefined as soon as one class is.
    """
    n_classes = confusion.shape[-1]
    if n_classes == 2:
        counts = one_vs_rest(confusion, 1)
        return {name: metric(counts) for name, metric in TABLE_METRICS.items()}
    each = [one_vs_rest(confusion, k) for k in range(n_classes)]
    result = {name: np.mean([metric(c) for c in each], axis=0) for name, metric in TABLE_METRICS.items()}
    result["accuracy"] = _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))
    result["balanced_accuracy"] = result["sensitivity"]
    result["mcc"] = multiclass_mcc(confusion)
    return result


def ppv_at_prevalence(sens: float, spec: float, prevalence: float) -> float | None:
    """Return the positive predictive value where the disease has a stated prevalence (Bayes' theorem).

    Parameters
    ----------
    sens, spec : float
        Sensitivity and specificity, in [0, 1].
    prevalence : float
        Share of diseased in the population the figure is for, in [0, 1].

    Returns
    -------
    float or None
        In [0, 1]; ``None`` if no positive call can occur.

    Examples
    --------
    A test of 90 % sensitivity and 95 % specificity at 1 % prevalence is right in 15 % of its positive calls.

    >>> round(ppv_at_prevalence(0.9, 0.95, 0.01), 3)
    0.154
    """
    _check_shares(sens=sens, spec=spec, prevalence=prevalence)
    called = sens * prevalence + (1 - spec) * (1 - prevalence)
    return sens * prevalence / called if called > 0 else None


def npv_at_prevalence(sens: float, spec: float, prevalence: float) -> float | None:
    """Return the negative predictive value where the disease has a stated prevalence (Bayes' theorem).

    Parameters
    ----------
    sens, spec : float
        Sensitivity and specificity, in [0, 1].
    prevalence : float
        Share of diseased in the population the figure is for, in [0, 1].

    Returns
    -------
    float or None
        In [0, 1]; ``None`` if no negative call can occur.
    """
    _check_shares(sens=sens, spec=spec, prevalence=prevalence)
    cleared = spec * (1 - prevalence) + (1 - sens) * prevalence
    return spec * (1 - prevalence) / cleared if cleared > 0 else None


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} lies in [0, 1], got {share}.")


def defined(value: Any) -> float | None:
    """Return a figure as a number for people: ``None`` where it is NaN.

    Parameters
    ----------
    value : float or 0-d ndarray
        The figure.

    Returns
    -------
    float or None
        The same, never NaN.
    """
    return None if np.isnan(value) else float(value)
