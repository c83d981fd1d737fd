"""Figures by subgroup: every attribute of the manifest with a handful of values, and numbers in thirds."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from gcsam_med.evaluation.context import EvaluationContext, TaskResult
from gcsam_med.progress import Track, silent
from gcsam_med.reporting.report import Subgroup

# Columns that say what a case is called or how it was stored, not what it is.
BOOKKEEPING = frozenset(
    (
        "case_id", "group_id", "source_path", "label", "split", "fold", "height", "width", "pixel_spacing",
        "has_mask",
    )
)  # fmt: skip
MAX_VALUES = 8
SMALL = 10
MISSING = "not stated"


def subgroups(context: EvaluationContext, result: TaskResult, track: Track = silent) -> tuple[Subgroup, ...]:
    """Estimate the main metrics in every subgroup; one of fewer than ``SMALL`` cases is marked small."""
    groups = context.groups(result.rows)
    parts = [
        (column, value, values == value)
        for column, values in _columns(context, result)
        for value in dict.fromkeys(sorted(values.tolist(), key=_sort_key))
        if value
    ]
    found = []
    for column, value, keep in track(parts, "Subgroups", total=len(parts)):
        n = int(keep.sum())
        found.append(
            Subgroup(column, value, n, len(set(groups[keep].tolist())), n < SMALL, result.estimate_part(keep))
        )
    return tuple(found)


def _columns(context: EvaluationContext, result: TaskResult) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each attribute with one text a case; empty where the case belongs to no part."""
    yield from result.extra_columns.items()
    yield from subgroup_columns(context.dataset.manifest.iloc[result.rows])


def subgroup_columns(manifest: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each attribute of a manifest that makes subgroups, with one text a case."""
    for column in manifest.columns:
        if column in BOOKKEEPING or column.endswith("_sha256"):
            continue
        values = manifest[column].to_numpy(dtype=str)
        known = values[values != ""]
        if not len(known):
            continue
        if len(np.unique(known)) > MAX_VALUES:
            thirds = _thirds(values)
            if thirds is None:
                continue
            values = thirds
        values = np.where(values == "", MISSING, values)
        if len(np.unique(values)) > 1:
            yield column, values


def _thirds(values: np.ndarray) -> np.ndarray | None:
    """Cut numbers into thirds, named by their range; None if they are not numbers."""
    numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=float)
    known = np.isfinite(numbers)
    if known.sum() < (values != "").sum() or known.sum() < 3:
        return None
    low, high = np.quantile(numbers[known], [1 / 3, 2 / 3])
    names = np.array([f"up to {low:g}", f"{low:g} to {high:g}", f"above {high:g}"], dtype=object)
    part = names[(numbers > low).astype(int) + (numbers > high).astype(int)]
    return np.where(known, part, "").astype(str)


def _sort_key(value: str) -> tuple[tuple[float, ...], str]:
    """Sort by the numbers in a text (BI-RADS 2, 10; sizes), then by the text; no number comes last."""
    numbers = tuple(float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:\.\d+)?", value))
    return numbers or (float("inf"),), value
