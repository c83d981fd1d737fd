"""From trained runs and image files to predictions."""

from gcsam_med.inference.predict import Predicted, PredictOptions, predict

__all__ = ["PredictOptions", "Predicted", "predict"]
