"""Networks by name: MONAI's for segmentation, torchvision's for classification; see `NETWORKS`."""

from gcsam_med.networks.pretrained import PretrainedReport, input_channels, load_pretrained
from gcsam_med.networks.table import NETWORKS, NetworkSpec, build_network, default_model, find_network

__all__ = [
    "NETWORKS",
    "NetworkSpec",
    "PretrainedReport",
    "build_network",
    "default_model",
    "find_network",
    "input_channels",
    "load_pretrained",
]
