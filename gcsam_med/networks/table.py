"""NETWORKS: one row for each network, and the one function that builds from it.

Segmentation networks are MONAI's, classification networks torchvision's. To add one, add a row: `target` is
the import path of its class, which is called with ``in_channels``, ``out_channels``, the row's options and
the dropout rate. Training, the list of models and the MONAI bundle all read the row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import resolve_name
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gcsam_med.config import Task
from gcsam_med.errors import InputError, unknown_name

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class NetworkSpec:
    """A row of the table: what is known of a network before it is built."""

    task: Task  #: What it is for.
    summary: str  #: One sentence; its size is that for one grey channel and one output.
    paper: str  #: Where it was described.
    #: Import path of the class or function, e.g. ``"monai.networks.nets.UNet"``, or the function itself.
    target: str | Callable[..., Any]
    lr: float  #: Default learning rate from a random start.
    pretrained_lr: float = 1e-4  #: Default learning rate from ImageNet weights.
    options: Mapping[str, Any] = field(default_factory=dict)  #: Further arguments of the target.
    dropout: str = "dropout"  #: The target's argument for the dropout rate (MONAI's networks).
    #: torchvision's name of its ImageNet weights, e.g. ``"ResNet18_Weights.IMAGENET1K_V1"``.
    weights: str | None = None
    multiple: int = 1  #: The side of the image must be a multiple of this.
    smallest: int = 32  #: The side of the image must be at least this.

    @property
    def library(self) -> str:
        """``monai``, ``torchvision``, or another name if only gcsam-med can build it."""
        return self.target.partition(".")[0] if isinstance(self.target, str) else "python"


_UNET = {"spatial_dims": 2, "channels": [16, 32, 64, 128, 256], "strides": [2, 2, 2, 2]}
_BASIC_UNET = {"spatial_dims": 2, "features": [32, 32, 64, 128, 256, 32]}

# Transformers and large networks without batch norm are spoilt by the rate that suits a small network from
# scratch; for the rates see docs/decisions.md.
NETWORKS: dict[str, NetworkSpec] = {
    # --- Segmentation
    "unet": NetworkSpec(
        "segmentation",
        "U-Net of residual units with instance norm, 1.6 M parameters; the default.",
        "Ronneberger 2015, arXiv 1505.04597; residual units: Kerfoot 2018, doi 10.1007/978-3-030-12029-0_40",
        "monai.networks.nets.UNet",
        lr=3e-3,
        options=_UNET | {"num_res_units": 2},
        multiple=16,
    ),
    "attention-unet": NetworkSpec(
        "segmentation",
        "U-Net whose skip connections are gated by attention, 2.0 M parameters.",
        "Oktay 2018, arXiv 1804.03999",
        "monai.networks.nets.AttentionUnet",
        lr=3e-3,
        options=_UNET,
        multiple=16,
    ),
    "basic-unet": NetworkSpec(
        "segmentation",
        "Plain U-Net of double convolutions, 2.0 M parameters.",
        "Falk 2019, doi 10.1038/s41592-018-0261-2",
        "monai.networks.nets.BasicUNet",
        lr=3e-3,
        options=_BASIC_UNET,
    ),
    "unet++": NetworkSpec(
        "segmentation",
        "U-Net with nested, dense skip connections, 2.4 M parameters; slow.",
        "Zhou 2018, arXiv 1807.10165",
        "gcsam_med.networks.modules.LastOutputUNetPlusPlus",
        lr=3e-3,
        options=_BASIC_UNET,
        multiple=16,
    ),
    "segresnet": NetworkSpec(
        "segmentation",
        "Residual encoder, light decoder, group norm, 1.6 M parameters.",
        "Myronenko 2018, arXiv 1810.11654",
        "monai.networks.nets.SegResNet",
        lr=3e-3,
        options={"spatial_dims": 2, "init_filters": 16},
        dropout="dropout_prob",
        multiple=8,
    ),
    "swin-unetr": NetworkSpec(
        "segmentation",
        "Swin transformer encoder, convolutional decoder, 6.3 M parameters; slow.",
        "Hatamizadeh 2022, arXiv 2201.01266",
        "monai.networks.nets.SwinUNETR",
        lr=1e-4,
        options={"spatial_dims": 2, "feature_size": 24},
        dropout="drop_rate",
        multiple=32,
        smallest=64,
    ),
    "unet-resnet34": NetworkSpec(
        "segmentation",
        "U-Net on torchvision's ResNet-34, 23.8 M parameters; the one to take with --pretrained.",
        "He 2016, arXiv 1512.03385; Ronneberger 2015, arXiv 1505.04597",
        "gcsam_med.networks.modules.ResNetUNet",
        lr=3e-3,
        options={"encoder": "resnet34"},
        weights="ResNet34_Weights.IMAGENET1K_V1",
        multiple=32,
    ),
    # --- Classification
    "resnet18": NetworkSpec(
        "classification",
        "Residual network of 18 layers, 11.2 M parameters; the default.",
        "He 2016, arXiv 1512.03385",
        "torchvision.models.resnet18",
        lr=3e-4,
        weights="ResNet18_Weights.IMAGENET1K_V1",
    ),
    "resnet50": NetworkSpec(
        "classification",
        "Residual network of 50 layers, 23.5 M parameters.",
        "He 2016, arXiv 1512.03385",
        "torchvision.models.resnet50",
        lr=3e-4,
        weights="ResNet50_Weights.IMAGENET1K_V2",
    ),
    "vgg16": NetworkSpec(
        "classification",
        "Plain network of 16 layers, 134 M parameters; set dropout=0.5 for the original's.",
        "Simonyan 2015, arXiv 1409.1556",
        "torchvision.models.vgg16",
        lr=1e-4,
        weights="VGG16_Weights.IMAGENET1K_V1",
    ),
    "densenet121": NetworkSpec(
        "classification",
        "Densely connected network, 6.9 M parameters; widely used on chest X-rays.",
        "Huang 2017, arXiv 1608.06993",
        "torchvision.models.densenet121",
        lr=3e-4,
        weights="DenseNet121_Weights.IMAGENET1K_V1",
    ),
    "efficientnet-b0": NetworkSpec(
        "classification",
        "Small network of inverted bottlenecks, 4.0 M parameters.",
        "Tan 2019, arXiv 1905.11946",
        "torchvision.models.efficientnet_b0",
        lr=3e-4,
        weights="EfficientNet_B0_Weights.IMAGENET1K_V1",
    ),
    "convnext-tiny": NetworkSpec(
        "classification",
        "Modernised convolutional network, 27.8 M parameters.",
        "Liu 2022, arXiv 2201.03545",
        "torchvision.models.convnext_tiny",
        lr=1e-4,
        weights="ConvNeXt_Tiny_Weights.IMAGENET1K_V1",
    ),
    "vit-b-16": NetworkSpec(
        "classification",
        "Vision transformer on patches of 16 pixels, 85.5 M parameters at 256 pixels.",
        "Dosovitskiy 2021, arXiv 2010.11929",
        "torchvision.models.vit_b_16",
        lr=1e-4,
        weights="ViT_B_16_Weights.IMAGENET1K_V1",
        multiple=16,
    ),
    "swin-t": NetworkSpec(
        "classification",
        "Transformer on shifted windows, 27.5 M parameters.",
        "Liu 2021, arXiv 2103.14030",
        "torchvision.models.swin_t",
        lr=1e-4,
        weights="Swin_T_Weights.IMAGENET1K_V1",
    ),
}


def default_model(task: Task) -> str:
    """Name of the network that is taken when none was named."""
    return {"segmentation": "unet", "classification": "resnet18"}[task]


def find_network(name: str, task: Task) -> NetworkSpec:
    """Look a network up.

    Raises
    ------
    InputError
        If the name is unknown or the network is for the other task; known ones are listed.
    """
    fitting = [known for known, spec in NETWORKS.items() if spec.task == task]
    if name not in NETWORKS:
        raise unknown_name(f"{task} model", name, fitting)
    spec = NETWORKS[name]
    if spec.task != task:
        raise InputError(
            f"Model '{name}' is for {spec.task}, but the task is {task}.",
            f"Use --task {spec.task}, or one of: {', '.join(fitting)}.",
        )
    return spec


def build_network(
    name: str, *, task: Task, in_channels: int, outputs: int, size: int, dropout: float = 0.0
) -> nn.Module:
    """Build a network with random weights.

    Parameters
    ----------
    name : str
        Key of `NETWORKS`.
    task : {"segmentation", "classification"}
        Must be the network's own.
    in_channels : int
        1 for grey, 3 for colour.
    outputs : int
        Foreground classes (1), or classes.
    size : int
        Side of the images it will see, in pixels.
    dropout : float
        Rate in [0, 1). Every dropout layer of the network gets it; a classification network without one
        gets one before its last layer.

    Returns
    -------
    nn.Module
        Maps float32 (B, in_channels, size, size) to logits: (B, outputs, size, size) for segmentation,
        (B, outputs) for classification.

    Raises
    ------
    InputError
        If the name is unknown, is for the other task, or the network cannot take this size.
    """
    spec = find_network(name, task)
    _check_size(name, spec, size)
    if spec.library == "torchvision":
        import_torchvision()
    target = resolve_name(spec.target) if isinstance(spec.target, str) else spec.target
    if spec.library == "torchvision":
        return _torchvision_network(target, in_channels, outputs, size, dropout)
    rate = {spec.dropout: dropout} if dropout else {}
    network: nn.Module = target(in_channels=in_channels, out_channels=outputs, **spec.options, **rate)
    return network


def import_torchvision() -> ModuleType:
    """Import torchvision without torch's compiler, which would take longer than all the rest of it.

    `torchvision.ops.roi_align` takes one function of the compiler, which no network here calls.
    """
    if not any(name in sys.modules for name in _COMPILER):
        sys.modules.update({name: _CompilerLater(name) for name in _COMPILER})
    try:
        return import_module("torchvision")
    finally:
        _CompilerLater.give_way()


_COMPILER = ("torch._dynamo", "torch._dynamo.utils")


class _CompilerLater(ModuleType):
    """Stands in for the compiler while torchvision is imported, and gives way when more is asked of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and (name, self.__name__) != ("__path__", "torch._dynamo"):
            raise AttributeError(name)
        if name == "is_compile_supported":
            return lambda device: import_module(self.__name__).is_compile_supported(device)
        self.give_way()
        return getattr(import_module(self.__name__), name)

    @staticmethod
    def give_way() -> None:
        """Leave the place to the compiler itself, where it is not there yet."""
        for name in _COMPILER:
            if isinstance(sys.modules.get(name), _CompilerLater):
                del sys.modules[name]


def _torchvision_network(
    target: Callable[..., Any], in_channels: int, outputs: int, size: int, dropout: float
) -> nn.Module:
    """Build one with the first and last layer made to fit; stochastic depth keeps torchvision's rate."""
    from torch import nn

    sized = {"image_size": size} if target.__name__.startswith("vit_") else {}
    network: nn.Module = target(num_classes=outputs, **sized)
    fit_first_convolution(network, in_channels)
    layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    for layer in layers:
        layer.p = dropout
    if not layers:
        name, last = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
        _replace(network, name, nn.Sequential(nn.Dropout(dropout), last))
    return network


def _check_size(name: str, spec: NetworkSpec, size: int) -> None:
    if size >= spec.smallest and size % spec.multiple == 0:
        return
    below = max(spec.smallest, size // spec.multiple * spec.multiple)
    near = sorted({below, max(spec.smallest, below + spec.multiple)} if size > spec.smallest else {below})
    rule = f"at least {spec.smallest} pixels"
    if spec.multiple > 1:
        rule += f" and a multiple of {spec.multiple}"
    raise InputError(
        f"Model '{name}' takes images of {rule}, but these are {size} x {size}.",
        f"Prepare the data set with --size {' or '.join(map(str, near))}, or choose another model.",
    )


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
    """Rewrite a kernel (out, in, h, w) for other channels, with the same response to a repeated grey image.

    It is the sum over the channels, spread evenly.
    """
    return (kernel.sum(dim=1, keepdim=True) / channels).repeat(1, channels, 1, 1)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
