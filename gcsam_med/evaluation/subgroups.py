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
# Below 20 groups an interval covers less than it says; below 5 it says nothing.
SMALL, LEAST = 20, 5
MISSING = "not stated"


def subgroups(context: EvaluationContext, result: TaskResult, track: Track = silent) -> tuple[Subgroup, ...]:
    """Estimate the main metrics in every subgroup, in the order of the columns.

    A part of fewer than ``SMALL`` groups is marked small; those of fewer than ``LEAST`` are joined, and left
    out if even together they are fewer.
    """
    groups = context.groups(result.rows)
    parts = [
        (column, value, values == value)
        for column, values in ((name, _joined(v, groups)) for name, v in _columns(context, result))
        for value in dict.fromkeys(sorted(values.tolist(), key=_sort_key))
        if value
    ]
    found = []
    for column, value, keep in track(parts, "Subgroups", total=len(parts)):
        n = int(keep.sum())
        found.append(
            Subgroup(
                column,
                value,
                n,
                len(np.unique(groups[keep])),
                len(np.unique(groups[keep])) < SMALL,
                result.estimate_part(keep),
            )
        )
    return tuple(found)


def _joined(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Join the values of fewer than ``LEAST`` groups into one; empty where even that is too small."""
    count = {value: len(np.unique(groups[values == value])) for value in np.unique(values) if value}
    rare = [value for value, n in sorted(count.items(), key=lambda item: _sort_key(item[0])) if n < LEAST]
    together = np.isin(values, rare)
    enough = len(rare) > 1 and len(np.unique(groups[together])) >= LEAST
    name = " or ".join(rare) if len(rare) < 4 else f"{len(rare)} others"
    joined = np.where(together, name if enough else "", values.astype(object)).astype(str)
    return joined if len(np.unique(joined[joined != ""])) > 1 else np.full(len(values), "")


def _columns(context: EvaluationContext, result: TaskResult) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each attribute with one text for each case; empty where the case belongs to no part."""
    yield from result.extra_columns.items()
    yield from subgroup_columns(context.dataset.manifest.iloc[result.rows])


def subgroup_columns(manifest: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each attribute of a manifest that makes subgroups, with one text for each case."""
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
