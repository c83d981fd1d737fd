"""Train and honestly evaluate networks on breast ultrasound and chest X-rays with GCSAM, SAM or Adam."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcsam_med.compare import compare_optimizers
    from gcsam_med.config import CompareOptions, EvaluateOptions, PredictOptions, PrepareOptions, RunConfig
    from gcsam_med.evaluation.evaluate import evaluate
    from gcsam_med.inference import Classification, Model, Segmentation, load
    from gcsam_med.inference.predict import Predicted, predict
    from gcsam_med.preparation.merge import merge
    from gcsam_med.preparation.prepare import Outcome, prepare
    from gcsam_med.reporting.comparison import Comparison
    from gcsam_med.reporting.report import Report
    from gcsam_med.training.run import TrainingResult, resume, train, train_folds

__version__ = "0.1.0"

# Where each name of the interface lives.
_HOMES = {
    "compare": ("compare_optimizers",),
    "config": ("CompareOptions", "EvaluateOptions", "PredictOptions", "PrepareOptions", "RunConfig"),
    "evaluation": ("evaluate",),
    "inference": ("Classification", "Model", "Predicted", "Segmentation", "load", "predict"),
    "preparation": ("Outcome", "merge", "prepare"),
    "reporting.report": ("Report",),
    "reporting.comparison": ("Comparison",),
    "training": ("TrainingResult", "resume", "train", "train_folds"),
}

__all__ = [
    "Classification",
    "CompareOptions",
    "Comparison",
    "EvaluateOptions",
    "Model",
    "Outcome",
    "PredictOptions",
    "Predicted",
    "PrepareOptions",
    "Report",
    "RunConfig",
    "Segmentation",
    "TrainingResult",
    "__version__",
    "compare_optimizers",
    "evaluate",
    "load",
    "merge",
    "predict",
    "prepare",
    "resume",
    "train",
    "train_folds",
]


def __getattr__(name: str) -> Any:
    # Loaded when first used: `gcsam-med --help` and `import gcsam_med.optim` need none of it.
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'gcsam_med' has no attribute '{name}'")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"gcsam_med.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
