"""A run folder: where its files are, and the model that evaluation and prediction need."""

from gcsam_med.runs.folder import RunFolder, open_model
from gcsam_med.runs.model import ModelCard, TrainedModel, load_card, load_model, network_outputs, save_model

__all__ = [
    "ModelCard",
    "RunFolder",
    "TrainedModel",
    "load_card",
    "load_model",
    "network_outputs",
    "open_model",
    "save_model",
]
