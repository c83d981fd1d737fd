"""The table of networks and the one function that builds from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gcsam_med.config import Task
from gcsam_med.errors import InputError, unknown_name
from gcsam_med.networks import classification, segmentation

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class NetworkSpec:
    """What is known of a network before it is built."""

    task: Task  #: {"segmentation", "classification"}: What it is for.
    summary: str  #: One sentence; its size is that for one grey channel and one output.
    paper: str  #: Where it was described.
    #: ``build(in_channels, outputs, size, dropout) -> nn.Module``.
    build: Callable[[int, int, int, float], nn.Module]
    #: torchvision's name of its ImageNet weights, e.g. ``"ResNet18_Weights.IMAGENET1K_V1"``.
    weights: str | None = None
    multiple: int = 1  #: The side of the square must be a multiple of this.
    smallest: int = 32  #: The side of the square must be at least this.


NETWORKS: dict[str, NetworkSpec] = {
    # --- Segmentation
    "unet": NetworkSpec(
        "segmentation",
        "U-Net of residual units with instance norm, 1.6 M parameters; the default.",
        "Ronneberger 2015, arXiv 1505.04597; residual units: Kerfoot 2018, doi 10.1007/978-3-030-12029-0_40",
        segmentation.unet,
        multiple=16,
    ),
    "attention-unet": NetworkSpec(
        "segmentation",
        "U-Net whose skip connections are gated by attention, 2.0 M parameters.",
        "Oktay 2018, arXiv 1804.03999",
        segmentation.attention_unet,
        multiple=16,
    ),
    "basic-unet": NetworkSpec(
        "segmentation",
        "Plain U-Net of double convolutions, 2.0 M parameters.",
        "Falk 2019, doi 10.1038/s41592-018-0261-2",
        segmentation.basic_unet,
    ),
    "unet++": NetworkSpec(
        "segmentation",
        "U-Net with nested, dense skip connections, 2.4 M parameters; slow.",
        "Zhou 2018, arXiv 1807.10165",
        segmentation.unet_plus_plus,
        multiple=16,
    ),
    "segresnet": NetworkSpec(
        "segmentation",
        "Residual encoder, light decoder, group norm, 1.6 M parameters.",
        "Myronenko 2018, arXiv 1810.11654",
        segmentation.segresnet,
        multiple=8,
    ),
    "swin-unetr": NetworkSpec(
        "segmentation",
        "Swin transformer encoder, convolutional decoder, 6.3 M parameters; slow.",
        "Hatamizadeh 2022, arXiv 2201.01266",
        segmentation.swin_unetr,
        multiple=32,
        smallest=64,
    ),
    "unet-resnet34": NetworkSpec(
        "segmentation",
        "U-Net on torchvision's ResNet-34, 23.8 M parameters; the one to take with --pretrained.",
        "He 2016, arXiv 1512.03385; Ronneberger 2015, arXiv 1505.04597",
        partial(segmentation.unet_on_resnet, "resnet34"),
        weights="ResNet34_Weights.IMAGENET1K_V1",
        multiple=32,
    ),
    # --- Classification
    "resnet18": NetworkSpec(
        "classification",
        "Residual network of 18 layers, 11.2 M parameters; the default.",
        "He 2016, arXiv 1512.03385",
        partial(classification.torchvision_network, "resnet18"),
        weights="ResNet18_Weights.IMAGENET1K_V1",
    ),
    "resnet50": NetworkSpec(
        "classification",
        "Residual network of 50 layers, 23.5 M parameters.",
        "He 2016, arXiv 1512.03385",
        partial(classification.torchvision_network, "resnet50"),
        weights="ResNet50_Weights.IMAGENET1K_V2",
    ),
    "vgg16": NetworkSpec(
        "classification",
        "Plain network of 16 layers, 134 M parameters; set dropout=0.5 for the original's.",
        "Simonyan 2015, arXiv 1409.1556",
        partial(classification.torchvision_network, "vgg16"),
        weights="VGG16_Weights.IMAGENET1K_V1",
    ),
    "densenet121": NetworkSpec(
        "classification",
        "Densely connected network, 6.9 M parameters; widely used on chest X-rays.",
        "Huang 2017, arXiv 1608.06993",
        partial(classification.torchvision_network, "densenet121"),
        weights="DenseNet121_Weights.IMAGENET1K_V1",
    ),
    "efficientnet-b0": NetworkSpec(
        "classification",
        "Small network of inverted bottlenecks, 4.0 M parameters.",
        "Tan 2019, arXiv 1905.11946",
        partial(classification.torchvision_network, "efficientnet_b0"),
        weights="EfficientNet_B0_Weights.IMAGENET1K_V1",
    ),
    "convnext-tiny": NetworkSpec(
        "classification",
        "Modernised convolutional network, 27.8 M parameters.",
        "Liu 2022, arXiv 2201.03545",
        partial(classification.torchvision_network, "convnext_tiny"),
        weights="ConvNeXt_Tiny_Weights.IMAGENET1K_V1",
    ),
    "vit-b-16": NetworkSpec(
        "classification",
        "Vision transformer on patches of 16 pixels, 85.5 M parameters at 256 pixels.",
        "Dosovitskiy 2021, arXiv 2010.11929",
        partial(classification.torchvision_network, "vit_b_16"),
        weights="ViT_B_16_Weights.IMAGENET1K_V1",
        multiple=16,
    ),
    "swin-t": NetworkSpec(
        "classification",
        "Transformer on shifted windows, 27.5 M parameters.",
        "Liu 2021, arXiv 2103.14030",
        partial(classification.torchvision_network, "swin_t"),
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
        Side of the square it will see, in pixels.
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
    return spec.build(in_channels, outputs, size, dropout)


def _check_size(name: str, spec: NetworkSpec, size: int) -> None:
    if size >= spec.smallest and size % spec.multiple == 0:
        return
    below = max(spec.smallest, size // spec.multiple * spec.multiple)
    near = sorted({below, max(spec.smallest, below + spec.multiple)} if size > spec.smallest else {below})
    rule = f"at least {spec.smallest} pixels"
    if spec.multiple > 1:
        rule += f" and a multiple of {spec.multiple}"
    raise InputError(
        f"Model '{name}' takes squares of {rule}, but these are {size} x {size}.",
        f"Prepare the data set with --size {' or '.join(map(str, near))}, or choose another model.",
    )
