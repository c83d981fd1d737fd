"""The Python interface: the commands as plain functions, and a trained run as an object that predicts.

::

    from gcsam_med import load

    model = load("runs/busi-unet-gcsam-seed0")
    result = model.predict("a.png")

Every name here is also one of `gcsam_med` itself, where it is loaded when it is first used. Errors that a
person can mend are those of `gcsam_med.errors`; nothing is printed, and progress goes to ``track`` or
``callback`` if one is given.
"""

from gcsam_med.api.commands import evaluate, predict, prepare, resume, train
from gcsam_med.api.comparing import compare_optimizers
from gcsam_med.api.loading import load
from gcsam_med.config import RunConfig
from gcsam_med.inference import Classification, Model, Predicted, PredictOptions, Segmentation
from gcsam_med.preparation import Outcome, PrepareOptions
from gcsam_med.reporting import Report
from gcsam_med.reporting.comparison import Comparison
from gcsam_med.runs.postprocessing import Postprocessing
from gcsam_med.training import TrainingResult

__all__ = [
    "Classification",
    "Comparison",
    "Model",
    "Outcome",
    "Postprocessing",
    "PredictOptions",
    "Predicted",
    "PrepareOptions",
    "Report",
    "RunConfig",
    "Segmentation",
    "TrainingResult",
    "compare_optimizers",
    "evaluate",
    "load",
    "predict",
    "prepare",
    "resume",
    "train",
]
