"""``metrics.json``: the figures for other programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gcsam_med.reporting.report import Estimates, Report

SCHEMA = 1


def metrics_json(report: Report) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Parameters
    ----------
    report : Report
        What was found.

    Returns
    -------
    dict
        Only JSON types; every figure as ``{"value", "ci95", "n", "method"}``, never NaN.
    """
    material, subject = report.data, report.model
    content = {
        "schema": SCHEMA,
        "task": report.task,
        "dataset": material.name,
        "split": material.split,
        "external": material.external,
        "n_cases": material.n_cases,
        "n_groups": material.n_groups,
        "group_kind": material.group_kind,
        "synthetic": material.synthetic or subject.synthetic,
        "classes": dict(material.classes),
        "excluded": dict(material.excluded),
        "metrics": estimates_json(report.metrics),
        "per_class": {name: estimates_json(values) for name, values in report.per_class.items()},
        "subgroups": [
            {
                "column": part.column,
                "value": part.value,
                "n": part.n,
                "n_groups": part.n_groups,
                "small": part.small,
                "metrics": estimates_json(part.estimates),
            }
            for part in report.subgroups
        ],
        "operating_point": {
            "threshold": report.operating.threshold,
            "rule": report.operating.rule,
            "chosen_on": report.operating.chosen_on,
            "n": report.operating.n,
            "reason": report.operating.reason,
            "transfer": report.operating.transfer,
        },
        "calibration": _calibration(report),
        "postprocessing": {name: estimates_json(v) for name, v in report.postprocessing.items()},
        "policy": report.policy,
        "notices": [{"key": n.key, "title": n.title, "text": n.text} for n in report.notices],
        "run": {
            "name": subject.run,
            "model": subject.network,
            "optimizer": subject.optimizer,
            "epoch": subject.epoch,
            "weights_sha256": subject.weights_sha256,
            "dataset_sha256": material.sha256,
            "trained_on": subject.trained_on,
            "tool_version": subject.tool_version,
        },
        "evaluated_with": report.evaluated_with,
        "created": report.created,
    }
    return plain(content)


def estimates_json(estimates: Estimates) -> dict[str, Any]:
    """Return figures by name as JSON objects."""
    return {name: estimate.to_json() for name, estimate in estimates.items()}


def plain(value: Any) -> Any:
    """Turn numpy scalars, arrays, tuples and mappings into JSON types; NaN and infinity into None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _calibration(report: Report) -> dict[str, Any] | None:
    calibration = report.calibration
    if calibration is None:
        return None
    return {
        "temperature": calibration.temperature,
        "reason": calibration.reason,
        "before": estimates_json(calibration.before),
        "after": estimates_json(calibration.after),
    }
