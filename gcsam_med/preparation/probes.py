"""Shortcut probes: simple models that try to tell the class from what should not tell it.

Each probe is a logistic regression on a few principal components, judged out of fold with groups kept whole.
If one of them predicts the class, so may a network, without looking at a lesion or a lung; Maguolo and Nanni,
Information Fusion 76 (2021), did so with chest X-rays whose lungs were blacked out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med.datasets.prepared import AUDIT, PreparedDataset
from gcsam_med.errors import InputError
from gcsam_med.preparation.audit_page import write_audit_page
from gcsam_med.preparation.shortcuts import MAX_VALUES
from gcsam_med.progress import Track, silent

SIDE = 32  # pixels of a view
BORDER = 0.1  # part of the image's height and width, on each side
COMPONENTS = 40
FOLDS = 5
MAX_CASES = 5000
MIN_CASES = 20  # of a class, and of all others
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

    Parameters
    ----------
    dataset : PreparedDataset
        With labels.
    track : Track
        Shows progress.
    seed : int
        Of the folds and of shuffled labels.

    Returns
    -------
    dict
        The audit with ``probes``: for each view and class ``auc``, ``ci95`` (DeLong by group), ``cases``,
        ``predicts_class``; and a summary count.

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
    usable = int((np.minimum(counts, len(rows) - counts) >= MIN_CASES).sum())
    if usable < 2 or len(dataset.info.classes) > MAX_CLASSES:
        raise InputError(
            f"Shortcut probes need 2 to {MAX_CLASSES} classes of at least {MIN_CASES} cases; "
            f"'{dataset.info.name}' has {dict(zip(dataset.info.classes, counts.tolist(), strict=True))}."
        )
    # Numbered as they come: names of private groups are keyed hashes, whose order would change the draws.
    groups = pd.factorize(dataset.manifest["group_id"].to_numpy()[rows])[0]
    found: list[dict[str, Any]] = []
    for name, view in track(list(_views(dataset).items()), "Probing for shortcuts", None):
        given = _shuffled(labels, groups, rng) if name == "shuffled labels" else labels
        found += _judge(name, view(dataset, rows, rng), given, groups, dataset.info.classes, seed)
    audit: dict[str, Any] = json.loads((dataset.root / AUDIT).read_text(encoding="utf-8"))
    audit["probes"] = found
    audit["summary"]["probes_that_predict_the_class"] = sum(r["predicts_class"] for r in found)
    (dataset.root / AUDIT).write_text(json.dumps(audit, indent=2) + "\n", encoding="utf-8")
    write_audit_page(dataset.root, dataset.info, audit)
    return audit


def _views(dataset: PreparedDataset) -> dict[str, View]:
    views: dict[str, View] = {"border only": _border, "size and metadata only": _metadata}
    if dataset.info.has_masks:
        views[f"{dataset.info.mask_target} masked out"] = _masked_out
    return {**views, "shuffled labels": _whole}


def _small(dataset: PreparedDataset, rows: np.ndarray, change: Callable[..., None]) -> np.ndarray:
    """Squares of the rows, changed one by one, averaged down to SIDE x SIDE: float32, shape (n, SIDE^2)."""
    from PIL import Image

    vectors = np.empty((len(rows), SIDE * SIDE), dtype=np.float32)
    for i, row in enumerate(rows):
        square = dataset.images([row])[0]
        grey = square if square.ndim == 2 else square.mean(axis=2).astype(np.uint8)
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
        if name not in BOOKKEEPING and 2 <= len(kinds) <= MAX_VALUES:
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
    from gcsam_med.metrics.delong import delong_auc

    scores = _out_of_fold(vectors, labels, groups, seed)
    present = [k for k in range(len(classes)) if min((labels == k).sum(), (labels != k).sum()) >= MIN_CASES]
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
