"""Training: a configuration and a prepared data set become a run folder."""

from gcsam_med.training.callbacks import Callback, EpochEnd, Progress, Start
from gcsam_med.training.plan import Plan, make_plan
from gcsam_med.training.run import TrainingResult, resume, train, train_folds

__all__ = [
    "Callback",
    "EpochEnd",
    "Plan",
    "Progress",
    "Start",
    "TrainingResult",
    "make_plan",
    "resume",
    "train",
    "train_folds",
]
