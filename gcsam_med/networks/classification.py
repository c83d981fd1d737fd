"""Builders of the classification networks: torchvision's, with the first and last layer made to fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def torchvision_network(
    constructor: str, in_channels: int, outputs: int, size: int, dropout: float
) -> nn.Module:
    """Build a torchvision network.

    Parameters
    ----------
    constructor : str
        Name of the function in ``torchvision.models``.
    in_channels, outputs, size, dropout
        As for `build_network`.

    Returns
    -------
    nn.Module
        Logits (B, outputs).
    """
    import torchvision
    from torch import nn

    options: dict[str, Any] = {"num_classes": outputs}
    if constructor == "vit_b_16":
        options["image_size"] = size
    elif constructor == "densenet121":
        options["memory_efficient"] = False
    network = torchvision.models.get_model(constructor, **options)
    replace_first_convolution(network, in_channels)
    layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    for layer in layers:
        layer.p = dropout
    if not layers:
        name, last = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
        _replace(network, name, nn.Sequential(nn.Dropout(dropout), last))
    return network


def replace_first_convolution(network: nn.Module, in_channels: int) -> None:
    """Make the first convolution take `in_channels` channels, with fresh weights, if it does not already."""
    from torch import nn

    name, old = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if old.in_channels == in_channels:
        return
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    _replace(network, name, new)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
