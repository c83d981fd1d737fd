"""How sure a figure is: one place to import intervals and tests from."""

from gcsam_med.metrics.bootstrap import bootstrap, bootstrap_auc, bootstrap_mean, replicate
from gcsam_med.metrics.delong import delong_auc, delong_test
from gcsam_med.metrics.estimate import Estimate
from gcsam_med.metrics.group_resampling import N_RESAMPLES, Resamples, resample_groups
from gcsam_med.metrics.intervals import proportion, wilson
from gcsam_med.metrics.paired import (
    PairedTest,
    cohens_dz,
    holm,
    mcnemar,
    paired_bootstrap,
    rank_biserial,
    wilcoxon_signed_rank,
)
from gcsam_med.metrics.seeds import SeedEffects, crossed_effects, crossed_statistic, random_effects
from gcsam_med.metrics.weighted_statistics import (
    Statistic,
    auc_of_weights,
    average_precision_of_weights,
    function_of_sums,
    mean_of,
    weighted,
)

__all__ = [
    "N_RESAMPLES",
    "Estimate",
    "PairedTest",
    "Resamples",
    "SeedEffects",
    "Statistic",
    "auc_of_weights",
    "average_precision_of_weights",
    "bootstrap",
    "bootstrap_auc",
    "bootstrap_mean",
    "cohens_dz",
    "crossed_effects",
    "crossed_statistic",
    "delong_auc",
    "delong_test",
    "function_of_sums",
    "holm",
    "mcnemar",
    "mean_of",
    "paired_bootstrap",
    "proportion",
    "random_effects",
    "rank_biserial",
    "replicate",
    "resample_groups",
    "weighted",
    "wilcoxon_signed_rank",
    "wilson",
]
