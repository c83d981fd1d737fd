"""From a trained run and a split to a report: metrics with intervals, and everything a reader should know."""

from gcsam_med.evaluation.evaluate import evaluate, evaluate_run, evaluation_folder

__all__ = ["evaluate", "evaluate_run", "evaluation_folder"]
