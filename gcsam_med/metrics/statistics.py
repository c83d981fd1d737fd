"""How sure a figure is: one place to import intervals and tests from."""

from gcsam_med.metrics.bootstrap import bootstrap, bootstrap_auc, bootstrap_mean, replicate
from gcsam_med.metrics.estimate import Estimate
from gcsam_med.metrics.resampled import (
    Statistic,
    auc_of_weights,
    average_precision_of_weights,
    function_of_sums,
    mean_of,
    weighted,
)
from gcsam_med.metrics.resamples import N_RESAMPLES, Resamples, resample_groups

__all__ = [
    "N_RESAMPLES",
    "Estimate",
    "Resamples",
    "Statistic",
    "auc_of_weights",
    "average_precision_of_weights",
    "bootstrap",
    "bootstrap_auc",
    "bootstrap_mean",
    "function_of_sums",
    "mean_of",
    "replicate",
    "resample_groups",
    "weighted",
]
