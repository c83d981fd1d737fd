"""Studies: many runs of several recipes, and one paired comparison of what came out."""

from gcsam_med.compare.compare import compare_centres, compare_optimizers, compare_runs, compare_study

__all__ = ["compare_centres", "compare_optimizers", "compare_runs", "compare_study"]
