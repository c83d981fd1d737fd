"""How well labels and probabilities agree with the truth.

``y_true`` holds class indices [N], ``prob`` the probability of each class [N, C], rows summing to 1. With two
classes, class 1 is the positive one. A probability that is NaN is an error, never a case to leave out.

A metric of the confusion matrix is a function of `Counts`, which may hold numbers or arrays of shape [...],
and returns a number or an array of that shape: the same line of code serves one test set and two thousand
bootstrap resamples of it. Undefined entries are NaN there, and ``None`` in what leaves for a person. The
table of metrics (`table`) says when each one is undefined. A macro average over classes is undefined as
soon as one class is: averaging over the rest would silently be another metric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gcsam_med.errors import InputError
from gcsam_med.metrics.intervals import Estimate, Floats, Ints, Resamples, proportion

Bools = npt.NDArray[np.bool_]

# How far a row of probabilities may sum from 1: half-precision softmax is off by about 1e-3.
ROW_SUM_TOLERANCE = 5e-3


def check_labels(y_true: npt.ArrayLike, n_classes: int) -> Ints:
    """Return class indices [N] in 0..n_classes-1 as int64; ValueError if they are malformed."""
    labels = np.asarray(y_true)
    if labels.ndim != 1 or labels.dtype.kind not in "biu":
        raise ValueError(f"Labels must be integers [N], got {labels.dtype} {labels.shape}.")
    labels = labels.astype(np.int64)
    if labels.size and (labels.min() < 0 or labels.max() >= n_classes):
        raise ValueError(f"Labels lie in 0..{n_classes - 1}, got {labels.min()}..{labels.max()}.")
    return labels


def check_probabilities(y_true: npt.ArrayLike, prob: npt.ArrayLike) -> tuple[Ints, Floats]:
    """Return labels [N] as int64 and probabilities [N, C] as float64, rows scaled to sum to exactly 1.

    Raises
    ------
    InputError
        If a probability is NaN or infinite: the network that made it has diverged, and no metric can be
        taken.
    ValueError
        If the shapes do not fit, a probability lies outside [0, 1], or a row does not sum to 1.
    """
    p = np.asarray(prob, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] < 2:
        raise ValueError(f"Probabilities must be [N, C] with at least two classes, got shape {p.shape}.")
    labels = check_labels(y_true, p.shape[1])
    if len(labels) != len(p):
        raise ValueError(f"{len(labels)} labels do not fit {len(p)} rows of probabilities.")
    bad = int((~np.isfinite(p)).any(axis=1).sum())
    if bad:
        raise InputError(
            f"Expected finite probabilities, found NaN or infinity in {bad} of {len(p)} cases.",
            "Training has diverged: train again with a lower learning rate or in fp32.",
        )
    if p.size and (p.min() < -1e-6 or np.abs(p.sum(axis=1) - 1).max() > ROW_SUM_TOLERANCE):
        raise ValueError("Every row of probabilities must be 0 or more and sum to 1.")
    p = np.clip(p, 0.0, None)
    return labels, p / p.sum(axis=1, keepdims=True)


def call_classes(prob: npt.ArrayLike, threshold: float | None = None) -> Ints:
    """Return the called classes [N] of probabilities [N, C].

    Without a threshold the likeliest class is called, the lower index on a tie. With one (two classes only,
    else ValueError) class 1 is called where its probability is at least the threshold.
    """
    p = np.asarray(prob, dtype=np.float64)
    if threshold is None:
        return p.argmax(axis=1).astype(np.int64)
    if p.shape[1] != 2:
        raise ValueError(f"A threshold needs two classes, got {p.shape[1]}.")
    return (p[:, 1] >= threshold).astype(np.int64)


def confusion_matrix(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, n_classes: int) -> Ints:
    """Count cases by true (row) and called (column) class, [C, C]; ValueError if labels are malformed."""
    truth, call = check_labels(y_true, n_classes), check_labels(y_pred, n_classes)
    if len(truth) != len(call):
        raise ValueError(f"{len(truth)} labels do not fit {len(call)} calls.")
    return np.bincount(truth * n_classes + call, minlength=n_classes**2).reshape(n_classes, n_classes)


def missing_class(truth: Bools) -> str:
    """Return which class has no case in a binary truth [N], as a reason for a reader; empty if both have."""
    if truth.any() and not truth.all():
        return ""
    return f"no {'negative' if truth.any() else 'positive'} cases"


def check_scores(positive: npt.ArrayLike, score: npt.ArrayLike) -> tuple[Bools, Floats]:
    """Return binary truth (bool) and scores (float64), both [N].

    Raises
    ------
    InputError
        If a score is NaN or infinite.
    ValueError
        If the shapes do not fit or the truth is not binary.
    """
    truth, s = check_labels(positive, 2).astype(bool), np.asarray(score, dtype=np.float64)
    if s.shape != truth.shape:
        raise ValueError(f"{truth.shape} labels do not fit {s.shape} scores.")
    if not np.isfinite(s).all():
        bad = int((~np.isfinite(s)).sum())
        raise InputError(f"Expected finite scores, found NaN or infinity in {bad} of {len(s)} cases.")
    return truth, s


def squared_errors(y_true: npt.ArrayLike, prob: npt.ArrayLike) -> Floats:
    """Return each case's Brier score, [N] (Brier, Monthly Weather Review 78(1), 1950).

    Two classes: squared error of the probability of class 1, in [0, 1]. More: summed over classes, in [0,
    2], as scikit-learn does.
    """
    labels, p = check_probabilities(y_true, prob)
    if p.shape[1] == 2:
        return (p[:, 1] - labels) ** 2
    return ((p - np.eye(p.shape[1])[labels]) ** 2).sum(axis=1)


def log_losses(y_true: npt.ArrayLike, prob: npt.ArrayLike) -> Floats:
    """Return each case's negative log-likelihood in nats, [N]; 0 or more, at most 36.

    A probability below the float64 resolution (2.2e-16) counts as that, so the loss stays finite.
    """
    labels, p = check_probabilities(y_true, prob)
    return -np.log(np.clip(p[np.arange(len(p)), labels], np.finfo(np.float64).eps, None))


@dataclass(frozen=True, slots=True)
class Counts:
    """A two-by-two table of truth against call, or a stack of them."""

    tp: Any  #: True positives; 0 or more, as all of them, fractions allowed (weights).
    fp: Any  #: False positives.
    fn: Any  #: False negatives.
    tn: Any  #: True negatives.


def one_vs_rest(confusion: npt.NDArray[Any], positive: int) -> Counts:
    """Fold a confusion matrix [..., C, C] into the table of one class against the others, of shape [...]."""
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


@dataclass(frozen=True, slots=True)
class Share:
    """A share of cases, such as sensitivity: how many of those in some cells are called correctly.

    Calling it with `Counts` gives the share; NaN where no case is in those cells.
    """

    cells: tuple[str, ...]  #: Cells of `Counts` that make the denominator.
    missing: str  #: What is said where they are empty.

    def __call__(self, c: Counts) -> Any:
        """Return the share, in [0, 1]."""
        right = sum(getattr(c, cell) for cell in self.cells if cell in ("tp", "tn"))
        return _ratio(right, sum(getattr(c, cell) for cell in self.cells))

    def cases(self, truth: Bools, call: Bools) -> Bools:
        """Return which cases are in the denominator."""
        cell = {"tp": truth & call, "fp": ~truth & call, "fn": truth & ~call, "tn": ~truth & ~call}
        return np.any([cell[name] for name in self.cells], axis=0)


# Recall or true positive rate; true negative rate; positive and negative predictive value.
sensitivity = Share(("tp", "fn"), "no positive cases")
specificity = Share(("tn", "fp"), "no negative cases")
precision = Share(("tp", "fp"), "no case was called positive")
npv = Share(("tn", "fn"), "no case was called negative")
accuracy = Share(("tp", "fp", "fn", "tn"), "no cases")


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


def overall_accuracy(confusion: npt.NDArray[Any]) -> Any:
    """Return the share of cases called correctly, of a confusion matrix [..., C, C]."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def mean_recall(confusion: npt.NDArray[Any]) -> Any:
    """Return the mean over classes of the share called correctly, of a confusion matrix [..., C, C]."""
    return np.mean([sensitivity(one_vs_rest(confusion, k)) for k in range(confusion.shape[-1])], axis=0)


def multiclass_mcc(confusion: npt.NDArray[Any]) -> Any:
    """Return the correlation of truth and call, in [-1, 1], of a confusion matrix [..., C, C].

    0 if all calls are the same; NaN if a class is missing from the truth. Two classes: `mcc`. R_K of
    Gorodkin, Computational Biology and Chemistry 28, 2004.
    """
    c = np.asarray(confusion, dtype=np.float64)
    truths, calls, n = c.sum(axis=-1), c.sum(axis=-2), c.sum(axis=(-2, -1))
    right = np.trace(c, axis1=-2, axis2=-1)
    spread = np.sqrt(n**2 - (truths**2).sum(axis=-1)) * np.sqrt(n**2 - (calls**2).sum(axis=-1))
    value = right * n - (truths * calls).sum(axis=-1)
    value = np.divide(value, spread, out=np.zeros(np.shape(spread)), where=spread > 0)
    return np.where((truths > 0).all(axis=-1), value, np.nan)


def ppv_at_prevalence(sens: float, spec: float, prevalence: float) -> float | None:
    """Return the positive predictive value at a stated prevalence (Bayes' theorem); all are in [0, 1].

    ``None`` if no positive call can occur.

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
    """Return the negative predictive value at a stated prevalence (Bayes' theorem); all are in [0, 1].

    ``None`` if no negative call can occur.
    """
    _check_shares(sens=sens, spec=spec, prevalence=prevalence)
    cleared = spec * (1 - prevalence) + (1 - sens) * prevalence
    return spec * (1 - prevalence) / cleared if cleared > 0 else None


@dataclass(frozen=True)
class CalledCases:
    """Cases with their probabilities and calls: what a metric of all cases is taken from."""

    labels: Ints  #: Class indices, shape [N].
    prob: Floats  #: Probability of each class, shape [N, C].
    calls: Ints  #: Called classes, shape [N].
    resamples: Resamples  #: Draws of the same cases.
    prevalence: float | None = None  #: Two classes: where predictive values are wanted for.


def ppv_estimate(cases: CalledCases) -> Estimate | None:
    """Return the positive predictive value at the stated prevalence; ``None`` if none is stated."""
    return _predictive_value(cases, ppv_at_prevalence)


def npv_estimate(cases: CalledCases) -> Estimate | None:
    """Return the negative predictive value at the stated prevalence; ``None`` if none is stated."""
    return _predictive_value(cases, npv_at_prevalence)


def _predictive_value(
    cases: CalledCases, value_of: Callable[[float, float, float], float | None]
) -> Estimate | None:
    """Predictive value by Bayes' theorem; the interval from the ends of sensitivity and specificity together.

    Both grow with sensitivity and with specificity, so the ends of the two 95 % intervals bound them; the
    result covers at least 90 % and is stated as such in the method.
    """
    if cases.prevalence is None:
        return None
    positive, right, group = cases.labels == 1, cases.labels == cases.calls, cases.resamples.group
    sens, spec = (proportion(right[part], group[part]) for part in (positive, ~positive))
    n, method = sens.n + spec.n, "from the ends of the intervals of sensitivity and specificity"
    if sens.value is None or spec.value is None:
        return Estimate.undefined("sensitivity or specificity is not defined", n)
    value = value_of(sens.value, spec.value, cases.prevalence)
    if value is None:
        return Estimate.undefined("no such call can occur", n)
    if sens.ci95 is None or spec.ci95 is None:
        return Estimate(value, None, n, "none", "sensitivity or specificity has no interval")
    ends = [value_of(a, b, cases.prevalence) for a, b in zip(sens.ci95, spec.ci95, strict=True)]
    if ends[0] is None or ends[1] is None:
        return Estimate(value, None, n, "none", "not defined at the ends of the intervals")
    return Estimate(value, (ends[0], ends[1]), n, method)


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} lies in [0, 1], got {share}.")
