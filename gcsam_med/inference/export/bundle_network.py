"""The network of a MONAI bundle: a class of MONAI or torchvision by its name, and weights that fit it."""

from __future__ import annotations

from typing import Any

import torch

from gcsam_med.errors import InputError
from gcsam_med.networks import NETWORKS, NetworkSpec
from gcsam_med.networks.table import fit_channels
from gcsam_med.runs import ModelCard

COLOUR = 3


def bundle_channels(card: ModelCard) -> int:
    """How many channels the bundle's network takes: torchvision's stock classes take colour."""
    return COLOUR if NETWORKS[card.model].library == "torchvision" else card.in_channels


def network_definition(card: ModelCard) -> dict[str, Any]:
    """Return ``network_def`` of a bundle's configuration.

    Raises
    ------
    InputError
        If the network is one that only gcsam-med can build.
    """
    spec = NETWORKS[card.model]
    if spec.library == "monai":
        channels = {"in_channels": card.in_channels, "out_channels": 1}
        # The rate is for those who train on; inference has no use for it.
        rate = {spec.dropout: card.dropout} if card.dropout else {}
        return {"_target_": spec.target, **spec.options, **channels, **rate}
    if spec.library == "torchvision":
        definition: dict[str, Any] = {
            "_target_": "torchvision.models.get_model",
            "name": str(spec.target).rpartition(".")[2],
            "num_classes": len(card.classes),
        }
        return definition | ({"image_size": card.size} if card.model == "vit-b-16" else {})
    possible = ", ".join(name for name, other in NETWORKS.items() if can_be_bundled(other))
    raise InputError(
        f"'{card.model}' is no network that MONAI or torchvision has ready, so a bundle of it would need "
        "gcsam-med to run.",
        f"Use --format onnx or torch-export. As bundles: {possible}.",
    )


def can_be_bundled(spec: NetworkSpec) -> bool:
    """Whether MONAI or torchvision has the network ready."""
    return spec.library in ("monai", "torchvision")


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
    if NETWORKS[card.model].library != "torchvision":
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
