"""Builders of the classification networks: torchvision's, with the first and last layer made to fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def torchvision_network(
    constructor: str, in_channels: int, outputs: int, size: int, dropout: float
) -> nn.Module:
    """Build a torchvision network with random weights.

    Stochastic depth, where the architecture has it, keeps torchvision's rate.

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
    network = torchvision.models.get_model(constructor, **options)
    fit_first_convolution(network, in_channels)
    layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    for layer in layers:
        layer.p = dropout
    if not layers:
        name, last = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
        _replace(network, name, nn.Sequential(nn.Dropout(dropout), last))
    return network


def fit_first_convolution(network: nn.Module, in_channels: int) -> None:
    """Make the first convolution, built for colour, take `in_channels` channels.

    For grey its kernel is summed over the colours, so that the network is the one for colour that was shown
    the grey image three times, and starts from the same distribution.
    """
    from torch import nn

    name, colour = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if colour.in_channels == in_channels:
        return
    grey = nn.Conv2d(
        in_channels,
        colour.out_channels,
        colour.kernel_size,  # type: ignore[arg-type]
        colour.stride,  # type: ignore[arg-type]
        colour.padding,  # type: ignore[arg-type]
        bias=colour.bias is not None,
    )
    grey.weight = nn.Parameter(fit_channels(colour.weight.detach(), in_channels))
    if colour.bias is not None:
        grey.bias = colour.bias
    _replace(network, name, grey)


def fit_channels(kernel: torch.Tensor, channels: int) -> torch.Tensor:
    """Rewrite a kernel so that its response to a grey image, repeated over the channels, stays the same.

    Parameters
    ----------
    kernel : Tensor, shape (out, in, height, width)
        For `in` channels.
    channels : int
        The number of channels wanted.

    Returns
    -------
    Tensor, shape (out, channels, height, width)
        The sum over the channels, spread evenly.
    """
    return (kernel.sum(dim=1, keepdim=True) / channels).repeat(1, channels, 1, 1)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
