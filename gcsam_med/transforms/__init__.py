"""From stored squares to what a network sees: channels, scale, and random transforms in training."""

from gcsam_med.transforms.augmentation import Augmentation, sample_seed, training_transform
from gcsam_med.transforms.pixels import standardize, to_channels

__all__ = ["Augmentation", "sample_seed", "standardize", "to_channels", "training_transform"]
