"""Does something that is not anatomy tell the class? Size, brightness, marks, device and other attributes.

A network takes the easiest way. Where image size or the scanner alone separates the classes, a high score may
mean that it has learned just that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from gcsam_med.preparation.scan import Facts

AUC_SUSPICIOUS = 0.7
ASSOCIATION_SUSPICIOUS = 0.3
MIN_CASES = 10  # of a class, and of all others
MAX_VALUES = 30  # of an attribute; more are not categories


def shortcuts(facts: Sequence[Facts], groups: np.ndarray) -> list[dict[str, Any]]:
    """How well each simple property tells the classes apart.

    Parameters
    ----------
    facts : sequence of Facts, length n
        The cases.
    groups : ndarray of int64, shape (n,)
        Dependent cases, for the intervals.

    Returns
    -------
    list of dict
        For numbers ``feature``, ``class``, ``auc`` (at least 0.5, whichever way), ``ci95`` (DeLong, by
        group), for categories ``feature``, ``cramers_v``; each with ``suspicious``, suspects first.
    """
    labels = np.array([f.case.label for f in facts], dtype=object)
    classes = sorted({c for c in labels if c})
    if len(classes) < 2:
        return []
    found = _numbers(facts, labels, classes, groups) + _categories(facts, labels)
    found.sort(key=lambda r: (not r["suspicious"], -r.get("auc", r.get("cramers_v", 0))))
    return found


def _numbers(
    facts: Sequence[Facts], labels: np.ndarray, classes: Sequence[str], groups: np.ndarray
) -> list[dict[str, Any]]:
    from gcsam_med.metrics.delong import delong_auc

    features = {
        "width": [f.width for f in facts],
        "height": [f.height for f in facts],
        "aspect ratio": [f.width / f.height for f in facts],
        "mean brightness": [f.statistics["mean"] for f in facts],
        "contrast": [f.statistics["sd"] for f in facts],
        "black area": [f.statistics["black"] for f in facts],
        "burned-in marks": [f.statistics["marks"] for f in facts],
        "colour": [f.statistics["colour"] for f in facts],
    }
    found = []
    # With two classes the second one's areas are the first one's over again.
    for label in classes[:1] if len(classes) == 2 else classes:
        positive = labels == label
        if min(positive.sum(), (~positive).sum()) < MIN_CASES:
            continue
        for name, values in features.items():
            score = np.asarray(values, dtype=np.float64)
            if np.ptp(score) == 0:
                continue
            estimate = delong_auc(positive, score, groups)
            if estimate.value is not None and estimate.value < 0.5:
                estimate = delong_auc(positive, -score, groups)
            if estimate.value is None:
                continue
            interval = None if estimate.ci95 is None else [round(x, 4) for x in estimate.ci95]
            clear = estimate.ci95 is not None and estimate.ci95[0] > 0.5
            found.append(
                {
                    "feature": name,
                    "class": label,
                    "auc": round(estimate.value, 4),
                    "ci95": interval,
                    "suspicious": bool(clear and estimate.value >= AUC_SUSPICIOUS),
                }
            )
    return found


def _categories(facts: Sequence[Facts], labels: np.ndarray) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for f in facts for name in f.attributes))
    columns = {name: [f.attributes.get(name, "") for f in facts] for name in names}
    columns["resolution"] = [f"{f.width}x{f.height}" for f in facts]
    found = []
    for name, values in columns.items():
        if not 2 <= len(set(values)) <= MAX_VALUES:
            continue
        value = cramers_v(values, labels.tolist())
        if value is not None:
            suspicious = value >= ASSOCIATION_SUSPICIOUS
            found.append({"feature": name, "cramers_v": round(value, 4), "suspicious": suspicious})
    return found


def cramers_v(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Association of two categories, 0 to 1, corrected for chance (Bergsma, J Korean Stat Soc 42, 2013).

    None where a category has one value only.
    """
    from scipy.stats import chi2_contingency

    rows, columns = sorted(set(first)), sorted(set(second))
    if len(rows) < 2 or len(columns) < 2:
        return None
    counts = Counter(zip(first, second, strict=True))
    table = np.array([[counts[r, c] for c in columns] for r in rows], dtype=np.float64)
    n, r, c = table.sum(), len(rows), len(columns)
    phi2 = chi2_contingency(table, correction=False).statistic / n
    phi2 = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    r, c = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    # In tiny tables the correction may pass 1.
    return min(1.0, float(np.sqrt(phi2 / max(min(r - 1, c - 1), 1e-9))))
