"""From trained runs and image files to predictions."""

from gcsam_med.inference.model import Model, load
from gcsam_med.inference.predict import Predicted, predict
from gcsam_med.inference.results import Classification, Segmentation

__all__ = ["Classification", "Model", "Predicted", "Segmentation", "load", "predict"]
