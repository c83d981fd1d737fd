"""What examining one task gives, before it becomes a report; the same form for both tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from gcsam_med.metrics.estimate import Estimate
from gcsam_med.reporting.report import Calibration, Estimates, Operating
from gcsam_med.runs.operating import OperatingFile


@dataclass(frozen=True)
class Options:
    """How an evaluation is made.

    Parameters
    ----------
    batch_size : int or None
        Cases a forward pass.
    seed : int
        Of the bootstrap.
    n_resamples : int
        Bootstrap resamples.
    threshold : float or None
        Use this instead of choosing one on validation.
    tolerance : float or None
        Of NSD, in mm or pixels. Default: 1 mm or 2 pixels.
    prevalence : float or None
        Also give predictive values at this prevalence.
    min_area : int
        Segmentation: also measure masks without regions of fewer pixels; 0: not measured.
    """

    batch_size: int | None = None
    seed: int = 0
    n_resamples: int = 2000
    threshold: float | None = None
    tolerance: float | None = None
    prevalence: float | None = None
    min_area: int = 0


@dataclass(frozen=True)
class Findings:
    """The task's part of a `Report` (fields of the same names), and what the common part needs.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the data set, in the order of `cases`.
    saved_point : OperatingFile or None
        What is kept beside the weights for `predict`.
    estimate_part : callable
        Main figures of the cases where a bool array (n,) is true.
    extra_columns : mapping of str to ndarray
        Further subgroups that are not in the manifest, one value a case; empty text means none.
    """

    metrics: dict[str, Estimate]
    per_class: dict[str, dict[str, Estimate]]
    cases: pd.DataFrame
    rows: np.ndarray
    policy: dict[str, Any]
    operating: Operating
    saved_point: OperatingFile | None
    curves: dict[str, pd.DataFrame]
    estimate_part: Callable[[np.ndarray], dict[str, Estimate]]
    confusion: np.ndarray | None = None
    calibration: Calibration | None = None
    postprocessing: Mapping[str, Estimates] = field(default_factory=dict)
    extra_columns: Mapping[str, np.ndarray] = field(default_factory=dict)
