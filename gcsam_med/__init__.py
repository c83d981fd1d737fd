"""Train and honestly evaluate networks on breast ultrasound and chest X-rays with GCSAM, SAM or Adam."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcsam_med.api import (
        Classification,
        Comparison,
        Model,
        Outcome,
        Postprocessing,
        Predicted,
        PredictOptions,
        PrepareOptions,
        Report,
        RunConfig,
        Segmentation,
        TrainingResult,
        compare_optimizers,
        evaluate,
        load,
        predict,
        prepare,
        resume,
        train,
    )

__version__ = "0.1.0"

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
    "__version__",
    "compare_optimizers",
    "evaluate",
    "load",
    "predict",
    "prepare",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    # Loaded when first used: `gcsam-med --help` and `import gcsam_med.optim` need none of it.
    if name not in __all__:
        raise AttributeError(f"module 'gcsam_med' has no attribute '{name}'")
    from importlib import import_module

    value = globals()[name] = getattr(import_module("gcsam_med.api"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
