"""Training: a configuration and a prepared data set become a run folder."""

from gcsam_med.training.callbacks import EpochEnd, Observer, Progress, Silent, Start
from gcsam_med.training.plan import Plan, make_plan
from gcsam_med.training.run import TrainingResult, resume_training, start_training

__all__ = [
    "EpochEnd",
    "Observer",
    "Plan",
    "Progress",
    "Silent",
    "Start",
    "TrainingResult",
    "make_plan",
    "resume_training",
    "start_training",
]
