"""The network of a MONAI bundle: a class of MONAI or torchvision by its name, and weights that fit it."""

from __future__ import annotations

from typing import Any

import torch

from gcsam_med.errors import InputError
from gcsam_med.networks import NETWORKS
from gcsam_med.networks.classification import fit_channels
from gcsam_med.networks.segmentation import CHANNELS, FEATURES, STRIDES
from gcsam_med.runs import ModelCard

COLOUR = 3

# How MONAI's own classes are called by `gcsam_med.networks.segmentation`.
MONAI_NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {
        "_target_": "monai.networks.nets.UNet",
        "spatial_dims": 2,
        "channels": list(CHANNELS),
        "strides": list(STRIDES),
        "num_res_units": 2,
    },
    "attention-unet": {
        "_target_": "monai.networks.nets.AttentionUnet",
        "spatial_dims": 2,
        "channels": list(CHANNELS),
        "strides": list(STRIDES),
    },
    "basic-unet": {
        "_target_": "monai.networks.nets.BasicUNet",
        "spatial_dims": 2,
        "features": list(FEATURES),
    },
    "segresnet": {"_target_": "monai.networks.nets.SegResNet", "spatial_dims": 2, "init_filters": 16},
    "swin-unetr": {"_target_": "monai.networks.nets.SwinUNETR", "spatial_dims": 2, "feature_size": 24},
}
TORCHVISION_NETWORKS: dict[str, str] = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "vgg16": "vgg16",
    "densenet121": "densenet121",
    "efficientnet-b0": "efficientnet_b0",
    "convnext-tiny": "convnext_tiny",
    "vit-b-16": "vit_b_16",
    "swin-t": "swin_t",
}


def bundle_channels(card: ModelCard) -> int:
    """How many channels the bundle's network takes: torchvision's stock classes take colour."""
    return COLOUR if card.model in TORCHVISION_NETWORKS else card.in_channels


def network_definition(card: ModelCard) -> dict[str, Any]:
    """Return ``network_def`` of a bundle's configuration.

    Raises
    ------
    InputError
        If the network is one that only gcsam-med can build.
    """
    if card.model in MONAI_NETWORKS:
        fixed = MONAI_NETWORKS[card.model]
        return {**fixed, "in_channels": card.in_channels, "out_channels": 1, **_dropout(card)}
    if card.model in TORCHVISION_NETWORKS:
        definition: dict[str, Any] = {
            "_target_": "torchvision.models.get_model",
            "name": TORCHVISION_NETWORKS[card.model],
            "num_classes": len(card.classes),
        }
        return definition | ({"image_size": card.size} if card.model == "vit-b-16" else {})
    possible = ", ".join(name for name in NETWORKS if name in MONAI_NETWORKS or name in TORCHVISION_NETWORKS)
    raise InputError(
        f"'{card.model}' is no network that MONAI or torchvision has ready, so a bundle of it would need "
        "gcsam-med to run.",
        f"Use --format onnx or torch-export. As bundles: {possible}.",
    )


def _dropout(card: ModelCard) -> dict[str, Any]:
    """Keep the rate for those who train on; inference has no use for it."""
    name = {"segresnet": "dropout_prob", "swin-unetr": "drop_rate"}.get(card.model, "dropout")
    return {name: card.dropout} if card.dropout else {}


def bundle_weights(card: ModelCard, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights under the names and shapes of the bundle's network.

    Parameters
    ----------
    card : ModelCard
        The model's.
    state : dict of Tensor
        The network's state_dict here.

    Returns
    -------
    dict of Tensor
        For torchvision's networks the dropout layer before the last one is taken out of the names, and the
        first kernel is spread over three channels, which a grey image, repeated, then fills.
    """
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    if card.model not in TORCHVISION_NETWORKS:
        return weights
    stock = _stock(card)
    for name in [name for name in weights if name not in stock]:
        stem, _, kind = name.rpartition(".")
        weights[f"{stem.removesuffix('.1')}.{kind}"] = weights.pop(name)
    for name, value in weights.items():
        if value.shape != stock[name].shape:
            weights[name] = fit_channels(value, COLOUR)
    return weights


def _stock(card: ModelCard) -> dict[str, torch.Tensor]:
    import torchvision

    definition = network_definition(card)
    arguments = {key: value for key, value in definition.items() if key not in ("_target_", "name")}
    with torch.device("meta"):
        return dict(torchvision.models.get_model(definition["name"], **arguments).state_dict())
