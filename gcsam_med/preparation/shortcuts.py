"""Find out whether something that is not anatomy tells the class.

A network takes the easiest way. Where image size or the scanner alone separates the classes, a high score may
mean that it has learned just that.

`shortcuts` tests simple properties one by one: size, brightness, marks, device and other attributes. `probe`
trains a logistic regression on a few principal components of what should not tell the class (the border, the
image with the lesion masked out, size and metadata), judged out of fold with groups kept whole; Maguolo and
Nanni, Information Fusion 76 (2021), did so with chest X-rays whose lungs were blacked out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med.datasets.prepared import AUDIT, PreparedDataset, read_audit
from gcsam_med.errors import InputError
from gcsam_med.files import write_json
from gcsam_med.preparation.audit_page import write_audit_page
from gcsam_med.preparation.scan import Facts
from gcsam_med.progress import Track, silent

AUC_SUSPICIOUS = 0.7
ASSOCIATION_SUSPICIOUS = 0.3
LEAST_CASES = 10  # of a class, and of all others
MAX_VALUES = 30  # of an attribute; more are not categories
# Parts of the names of columns that are the diagnosis, or a reader's judgement of it: they tell the class
# because they are the class.
DIAGNOSIS = (
    "histolog", "patholog", "diagnos", "finding", "birads", "bi-rads", "bi_rads", "biops", "verification",
)  # fmt: skip


def shortcuts(facts: Sequence[Facts], groups: np.ndarray) -> list[dict[str, Any]]:
    """How well each simple property tells the classes apart.

    Records for numbers: ``feature``, ``class``, ``auc`` (at least 0.5, whichever way), ``ci95`` (DeLong, by
    `groups` of dependent cases); for categories: ``feature``, ``cramers_v``; each with ``suspicious``,
    suspects first.
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
    from gcsam_med.metrics.roc import delong_auc

    features = {
        "width": [f.width for f in facts],
        "height": [f.height for f in facts],
        "aspect ratio": [f.width / f.height for f in facts],
        "mean brightness": [f.statistics.get("mean", 0.0) for f in facts],
        "contrast": [f.statistics.get("sd", 0.0) for f in facts],
        "black area": [f.statistics.get("black", 0.0) for f in facts],
        "burned-in marks": [f.statistics.get("marks", 0.0) for f in facts],
        "colour": [f.statistics.get("colour", 0.0) for f in facts],
    }
    found = []
    # With two classes the second one's areas are the first one's over again.
    for label in classes[:1] if len(classes) == 2 else classes:
        positive = labels == label
        if min(positive.sum(), (~positive).sum()) < LEAST_CASES:
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
            suspicious = value >= ASSOCIATION_SUSPICIOUS and not is_diagnosis(name)
            found.append({"feature": name, "cramers_v": round(value, 4), "suspicious": suspicious})
    return found


def is_diagnosis(column: str) -> bool:
    """Whether a column is the diagnosis by another name, which no image could give away."""
    return any(word in column.casefold() for word in DIAGNOSIS)


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


SIDE = 32  # pixels of a view
BORDER = 0.1  # part of the image's height and width, on each side
COMPONENTS = 40
FOLDS = 5
MAX_CASES = 5000
LEAST_PROBED = 20  # of a class, and of all others
MAX_CLASSES = 10
AUC_WARNING = 0.65

# Columns that say where a case came from and went, not what it is.
BOOKKEEPING = frozenset(
    {"case_id", "group_id", "source_path", "source_sha256", "mask_sha256", "pixel_sha256", "label", "split"}
    | {"fold", "height", "width", "pixel_spacing", "has_mask"}
)

View = Callable[[PreparedDataset, np.ndarray, np.random.Generator], np.ndarray]


def probe(dataset: PreparedDataset, track: Track = silent, seed: int = 0) -> dict[str, Any]:
    """Run the probes and write them into the data set's ``audit.json`` and ``audit.html``.

    `seed` is that of the folds and of shuffled labels. Returns the audit with ``probes``: for each view and
    class ``auc``, ``ci95`` (DeLong by group), ``cases``, ``predicts_class``; and a summary count.

    Raises
    ------
    InputError
        If there are not two classes of 20 cases.
    """
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(dataset.labels(np.arange(len(dataset))) >= 0)
    if len(rows) > MAX_CASES:
        rows = np.sort(rng.choice(rows, MAX_CASES, replace=False))
    labels = dataset.labels(rows)
    counts = np.bincount(labels, minlength=len(dataset.info.classes))
    usable = int((np.minimum(counts, len(rows) - counts) >= LEAST_PROBED).sum())
    if usable < 2 or len(dataset.info.classes) > MAX_CLASSES:
        raise InputError(
            f"Shortcut probes need 2 to {MAX_CLASSES} classes of at least {LEAST_PROBED} cases; "
            f"'{dataset.info.name}' has {dict(zip(dataset.info.classes, counts.tolist(), strict=True))}."
        )
    # Numbered as they come: names of private groups are keyed hashes, whose order would change the draws.
    groups = pd.factorize(dataset.manifest["group_id"].to_numpy()[rows])[0]
    found: list[dict[str, Any]] = []
    for name, view in track(list(_views(dataset).items()), "Probing for shortcuts", None):
        given = _shuffled(labels, groups, rng) if name == "shuffled labels" else labels
        found += _judge(name, view(dataset, rows, rng), given, groups, dataset.info.classes, seed)
    audit = read_audit(dataset.root)
    audit["probes"] = found
    audit["summary"]["probes_that_predict_the_class"] = sum(r["predicts_class"] for r in found)
    write_json(dataset.root / AUDIT, audit)
    write_audit_page(dataset.root, dataset.info, audit)
    return audit


def _views(dataset: PreparedDataset) -> dict[str, View]:
    views: dict[str, View] = {"border only": _border, "size and metadata only": _metadata}
    if dataset.info.has_masks:
        views[f"{dataset.info.mask_target} masked out"] = _masked_out
    return {**views, "shuffled labels": _whole}


def _small(dataset: PreparedDataset, rows: np.ndarray, change: Callable[..., None]) -> np.ndarray:
    """Stored images, changed one by one, averaged down to SIDE x SIDE: float32, shape (n, SIDE^2)."""
    from PIL import Image

    vectors = np.empty((len(rows), SIDE * SIDE), dtype=np.float32)
    for i, row in enumerate(rows):
        stored = dataset.images([row])[0]
        grey = stored if stored.ndim == 2 else stored.mean(axis=2).astype(np.uint8)
        canvas = grey.copy()
        change(canvas, int(row))
        shrunk = Image.fromarray(canvas).resize((SIDE, SIDE), Image.Resampling.BOX)
        vectors[i] = np.asarray(shrunk, dtype=np.float32).ravel()
    return vectors


def _whole(dataset: PreparedDataset, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    del rng
    return _small(dataset, rows, lambda canvas, row: None)


def _border(dataset: PreparedDataset, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    del rng

    def blank_inside(canvas: np.ndarray, row: int) -> None:
        top, left, bottom, right = dataset.geometry(row).box
        down, across = round(BORDER * (bottom - top)), round(BORDER * (right - left))
        canvas[top + down : bottom - down, left + across : right - across] = 0

    return _small(dataset, rows, blank_inside)


def _masked_out(dataset: PreparedDataset, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The target's bounding box is filled; an image without one gets another image's box.

    Otherwise the mere presence of a hole would tell the classes apart. The place and size of the box remain
    visible.
    """
    with_mask = [int(r) for r in rows if dataset.masks([r]).any()]

    def fill(canvas: np.ndarray, row: int) -> None:
        mask = dataset.masks([row])[0]
        if not mask.any():
            mask = dataset.masks([int(rng.choice(with_mask))])[0]
        down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        canvas[down[0] : down[-1] + 1, across[0] : across[-1] + 1] = int(canvas.mean())

    return _small(dataset, rows, fill)


def _metadata(dataset: PreparedDataset, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    del rng
    table = dataset.manifest.iloc[rows]
    width, height = (table[c].to_numpy(dtype=np.float32) for c in ("width", "height"))
    columns = [width, height, width / height]
    for name in table.columns:
        values = table[name].to_numpy(dtype=str)
        kinds = np.unique(values)
        if name not in BOOKKEEPING and not is_diagnosis(name) and 2 <= len(kinds) <= MAX_VALUES:
            columns += [(values == kind).astype(np.float32) for kind in kinds]
    return np.stack(columns, axis=1)


def _shuffled(labels: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels dealt out anew, whole groups at a time, so that duplicates agree as before."""
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    return labels[first][rng.permutation(len(first))][number]


def _judge(
    name: str, vectors: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: list[str], seed: int
) -> list[dict[str, Any]]:
    """Areas under the ROC curve of out-of-fold predictions, for each class."""
    from gcsam_med.metrics.roc import delong_auc

    scores = _out_of_fold(vectors, labels, groups, seed)
    present = [
        k for k in range(len(classes)) if min((labels == k).sum(), (labels != k).sum()) >= LEAST_PROBED
    ]
    found = []
    for k in present[:1] if len(np.unique(labels)) == 2 else present:
        estimate = delong_auc(labels == k, scores[:, k], groups)
        if estimate.value is None or estimate.ci95 is None:
            continue
        low, high = estimate.ci95
        clear = low > 0.5 and (estimate.value >= AUC_WARNING or name == "shuffled labels")
        found.append(
            {
                "view": name,
                "class": classes[k],
                "auc": round(estimate.value, 4),
                "ci95": [round(low, 4), round(high, 4)],
                "cases": len(labels),
                "predicts_class": bool(clear),
            }
        )
    return found


def _out_of_fold(vectors: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = np.zeros((len(labels), int(labels.max()) + 1))
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in splitter.split(vectors, labels, groups):
        components = min(COMPONENTS, vectors.shape[1], len(train) // 4)
        model = make_pipeline(
            StandardScaler(),
            PCA(components, random_state=seed),
            StandardScaler(),
            LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000),
        )
        with np.errstate(invalid="ignore"):  # where all images have one size, a view of it has no variance
            model.fit(vectors[train], labels[train])
        scores[np.ix_(test, model.classes_)] = model.predict_proba(vectors[test])
    return scores
