"""From trained runs and image files to predictions."""

from gcsam_med.inference.model import Model
from gcsam_med.inference.predict import Predicted, PredictOptions, predict
from gcsam_med.inference.results import Classification, Segmentation

__all__ = ["Classification", "Model", "PredictOptions", "Predicted", "Segmentation", "predict"]
