"""What examining one task gives, before it becomes a report; the same form for both tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med.config import EvaluateOptions
from gcsam_med.evaluation.setup import Examination
from gcsam_med.metrics.estimate import Estimate
from gcsam_med.reporting.report import Calibration, Estimates, Operating
from gcsam_med.runs.calibration import DEFAULT_THRESHOLD

UNFINISHED = "training has not ended, so nothing was calibrated"


@dataclass(frozen=True)
class Findings:
    """The task's part of a `Report` (fields of the same names), and what the common part needs."""

    metrics: dict[str, Estimate]
    per_class: dict[str, dict[str, Estimate]]
    cases: pd.DataFrame
    rows: np.ndarray  #: ndarray of int64, shape (n,): Rows of the data set, in the order of `cases`.
    policy: dict[str, Any]
    operating: Operating
    curves: dict[str, pd.DataFrame]
    #: Main metrics of the cases where a bool array (n,) is true.
    estimate_part: Callable[[np.ndarray], dict[str, Estimate]]
    confusion: np.ndarray | None = None
    calibration: Calibration | None = None
    postprocessing: Mapping[str, Estimates] = field(default_factory=dict)
    #: Further subgroups that are not in the manifest, one value a case; empty text means none.
    extra_columns: Mapping[str, np.ndarray] = field(default_factory=dict)


def operating_point(exam: Examination, options: EvaluateOptions) -> Operating:
    """Return the threshold: the one given, else the model's own, else 0.5 and why."""
    fitted, several = exam.calibration, exam.model.card.task == "classification" and len(exam.classes) != 2
    if several:
        return Operating(0.0, "the likeliest class is called", "default", 0, "more than two classes")
    if options.threshold is not None:
        return Operating(options.threshold, "given on the command line", "given", 0)
    if fitted is None:
        return Operating(DEFAULT_THRESHOLD, "0.5, not chosen", "default", 0, UNFINISHED)
    return Operating(
        fitted.threshold, fitted.rule, "validation" if fitted.chosen else "default", fitted.n, fitted.reason
    )
