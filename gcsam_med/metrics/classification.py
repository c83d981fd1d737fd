"""How well labels and probabilities agree with the truth.

``y_true`` holds class indices [N], ``prob`` the probability of each class [N, C], rows summing to 1. With two
classes, class 1 is the positive one. A probability that is NaN is an error, never a case to leave out.

When a figure is undefined (``None``, and nothing else is put in its place): the figures of a two-by-two table
as told in `counts`; AUC and average precision if there are no positives or no negatives. A macro average over
classes is undefined as soon as one class is: averaging over the rest would silently be another figure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gcsam_med.errors import InputError
from gcsam_med.metrics.confusion import TABLE_METRICS, defined, one_vs_rest, table_metrics

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# How far a row of probabilities may sum from 1: half-precision softmax is off by about 1e-3.
ROW_SUM_TOLERANCE = 5e-3


def check_labels(y_true: npt.ArrayLike, n_classes: int) -> Ints:
    """Return the labels as integers after checking them.

    Parameters
    ----------
    y_true : array_like of int, shape [N]
        Class indices in 0..n_classes-1.
    n_classes : int
        Number of classes.

    Returns
    -------
    ndarray of int64, shape [N]
        The labels.

    Raises
    ------
    ValueError
        If they are not one-dimensional integers in range.
    """
    labels = np.asarray(y_true)
    if labels.ndim != 1 or labels.dtype.kind not in "biu":
        raise ValueError(f"Labels must be integers [N], got {labels.dtype} {labels.shape}.")
    labels = labels.astype(np.int64)
    if labels.size and (labels.min() < 0 or labels.max() >= n_classes):
        raise ValueError(f"Labels lie in 0..{n_classes - 1}, got {labels.min()}..{labels.max()}.")
    return labels


def check_probabilities(y_true: npt.ArrayLike, prob: npt.ArrayLike) -> tuple[Ints, Floats]:
    """Return labels and probabilities after checking that they fit.

    Parameters
    ----------
    y_true : array_like of int, shape [N]
        Class indices.
    prob : array_like of float, shape [N, C]
        Probability of each class; rows sum to 1.

    Returns
    -------
    y_true : ndarray of int64, shape [N]
        The labels.
    prob : ndarray of float64, shape [N, C]
        The probabilities, rows scaled to sum to exactly 1.

    Raises
    ------
    InputError
        If a probability is NaN or infinite: the network that made it has diverged, and no figure can be taken
        from it.
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
            "The network has diverged: train it again with a lower learning rate or in fp32.",
        )
    if p.size and (p.min() < -1e-6 or np.abs(p.sum(axis=1) - 1).max() > ROW_SUM_TOLERANCE):
        raise ValueError("Every row of probabilities must be 0 or more and sum to 1.")
    p = np.clip(p, 0.0, None)
    return labels, p / p.sum(axis=1, keepdims=True)


def call_classes(prob: npt.ArrayLike, threshold: float | None = None) -> Ints:
    """Turn probabilities into calls.

    Parameters
    ----------
    prob : array_like of float, shape [N, C]
        Probability of each class.
    threshold : float, optional
        Two classes only: class 1 is called where its probability is at least this. Default: the likelier
        class, the lower index on a tie.

    Returns
    -------
    ndarray of int64, shape [N]
        Called classes.

    Raises
    ------
    ValueError
        If a threshold is given for more than two classes.
    """
    p = np.asarray(prob, dtype=np.float64)
    if threshold is None:
        return p.argmax(axis=1).astype(np.int64)
    if p.shape[1] != 2:
        raise ValueError(f"A threshold needs two classes, got {p.shape[1]}.")
    return (p[:, 1] >= threshold).astype(np.int64)


def confusion_matrix(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, n_classes: int) -> Ints:
    """Count cases by true and called class.

    Parameters
    ----------
    y_true, y_pred : array_like of int, shape [N]
        Class indices.
    n_classes : int
        Number of classes.

    Returns
    -------
    ndarray of int64, shape [C, C]
        Row: truth; column: call.

    Raises
    ------
    ValueError
        If the labels are malformed or differ in number.
    """
    truth, call = check_labels(y_true, n_classes), check_labels(y_pred, n_classes)
    if len(truth) != len(call):
        raise ValueError(f"{len(truth)} labels do not fit {len(call)} calls.")
    return np.bincount(truth * n_classes + call, minlength=n_classes**2).reshape(n_classes, n_classes)


def roc_auc(positive: npt.ArrayLike, score: npt.ArrayLike) -> float | None:
    """Return the area under the ROC curve: the chance that a positive scores above a negative.

    Ties count half.

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth.
    score : array_like of float, shape [N]
        Larger means likelier positive.

    Returns
    -------
    float or None
        In [0, 1]; ``None`` if there are no positives or no negatives.

    Notes
    -----
    Mann-Whitney form of Hanley and McNeil, Radiology 143(1), 1982.
    """
    from scipy.stats import rankdata

    truth, s = check_scores(positive, score)
    n_pos, n_neg = int(truth.sum()), int((~truth).sum())
    if not n_pos or not n_neg:
        return None
    return float((rankdata(s)[truth].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def average_precision(positive: npt.ArrayLike, score: npt.ArrayLike) -> float | None:
    """Return the average precision, the step-wise area under the precision-recall curve (AUPRC).

    Parameters
    ----------
    positive : array_like of bool, shape [N]
        Truth.
    score : array_like of float, shape [N]
        Larger means likelier positive.

    Returns
    -------
    float or None
        In [0, 1]; a useless score reaches the share of positives, not 0.5. ``None`` if a class is missing.
    """
    from sklearn.metrics import average_precision_score

    truth, s = check_scores(positive, score)
    return float(average_precision_score(truth, s)) if truth.any() and not truth.all() else None


def check_scores(positive: npt.ArrayLike, score: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Return binary truth and scores after checking that they fit and are finite.

    Parameters
    ----------
    positive : array_like of bool (or 0 and 1), shape [N]
        Truth.
    score : array_like of float, shape [N]
        Scores.

    Returns
    -------
    tuple of ndarray
        Truth (bool) and scores (float64).

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
    """Return each case's Brier score.

    Parameters
    ----------
    y_true : array_like of int, shape [N]
        Class indices.
    prob : array_like of float, shape [N, C]
        Probability of each class.

    Returns
    -------
    ndarray of float, shape [N]
        Two classes: squared error of the probability of class 1, in [0, 1]. More: summed over classes, in [0,
        2] (Brier, Monthly Weather Review 78(1), 1950), as scikit-learn does. Their mean is the Brier score.
    """
    labels, p = check_probabilities(y_true, prob)
    if p.shape[1] == 2:
        return (p[:, 1] - labels) ** 2
    return ((p - np.eye(p.shape[1])[labels]) ** 2).sum(axis=1)


def log_losses(y_true: npt.ArrayLike, prob: npt.ArrayLike) -> Floats:
    """Return each case's negative log-likelihood in nats.

    Parameters
    ----------
    y_true : array_like of int, shape [N]
        Class indices.
    prob : array_like of float, shape [N, C]
        Probability of each class; below the float64 resolution it counts as that (2.2e-16), so the loss stays
        finite.

    Returns
    -------
    ndarray of float, shape [N]
        0 or more, at most 36. Their mean is the log-loss.
    """
    labels, p = check_probabilities(y_true, prob)
    return -np.log(np.clip(p[np.arange(len(p)), labels], np.finfo(np.float64).eps, None))


def classification_metrics(
    y_true: npt.ArrayLike, prob: npt.ArrayLike, threshold: float | None = None
) -> tuple[dict[str, float | None], list[dict[str, float | None]]]:
    """Return every figure without intervals: overall, and for each class against the rest.

    Parameters
    ----------
    y_true : array_like of int, shape [N]
        Class indices.
    prob : array_like of float, shape [N, C]
        Probability of each class.
    threshold : float, optional
        Two classes: operating point on the probability of class 1. Default: the likelier class.

    Returns
    -------
    overall : dict
        The figures of `counts.table_metrics`, ``auc``, ``auprc``, ``brier``, ``log_loss``. More than two
        classes: AUC and AUPRC are macro averages over classes.
    per_class : list of dict
        The table figures, ``auc`` and ``auprc`` of each class against the rest.
    """
    labels, p = check_probabilities(y_true, prob)
    n_classes = p.shape[1]
    confusion = confusion_matrix(labels, call_classes(p, threshold), n_classes)
    per_class: list[dict[str, float | None]] = []
    for k in range(n_classes):
        counts = one_vs_rest(confusion, k)
        row = {name: defined(metric(counts)) for name, metric in TABLE_METRICS.items()}
        row["auc"], row["auprc"] = roc_auc(labels == k, p[:, k]), average_precision(labels == k, p[:, k])
        per_class.append(row)
    overall = {name: defined(value) for name, value in table_metrics(confusion).items()}
    for name in ("auc", "auprc"):
        overall[name] = (
            per_class[1][name] if n_classes == 2 else _mean_if_all([row[name] for row in per_class])
        )
    overall["brier"] = float(squared_errors(labels, p).mean()) if len(p) else None
    overall["log_loss"] = float(log_losses(labels, p).mean()) if len(p) else None
    return overall, per_class


def _mean_if_all(values: list[float | None]) -> float | None:
    present = [v for v in values if v is not None]
    return float(np.mean(present)) if len(present) == len(values) else None
