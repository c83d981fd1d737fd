"""From a trained run and a split to a report: figures with intervals, and everything a reader should know."""

from gcsam_med.evaluation.evaluate import evaluate_run, evaluation_folder

__all__ = ["evaluate_run", "evaluation_folder"]
