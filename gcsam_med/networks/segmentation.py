"""Builders of the segmentation networks, all with one foreground class in mind and logits out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

CHANNELS, STRIDES = (16, 32, 64, 128, 256), (2, 2, 2, 2)
FEATURES = (32, 32, 64, 128, 256, 32)


def unet(in_channels: int, outputs: int, size: int, dropout: float) -> nn.Module:
    """Residual U-Net with instance norm, which does not depend on the batch: 8 images are few."""
    from monai.networks.nets import UNet

    return UNet(2, in_channels, outputs, CHANNELS, STRIDES, num_res_units=2, dropout=dropout)


def attention_unet(in_channels: int, outputs: int, size: int, dropout: float) -> nn.Module:
    """U-Net with attention gates."""
    from monai.networks.nets import AttentionUnet

    return AttentionUnet(2, in_channels, outputs, CHANNELS, STRIDES, dropout=dropout)


def basic_unet(in_channels: int, outputs: int, size: int, dropout: float) -> nn.Module:
    """Plain U-Net with instance norm."""
    from monai.networks.nets import BasicUNet

    return BasicUNet(2, in_channels, outputs, FEATURES, dropout=dropout)


def unet_plus_plus(in_channels: int, outputs: int, size: int, dropout: float) -> nn.Module:
    """Nested U-Net; only the output of full depth leaves it."""
    from gcsam_med.networks.modules import LastOutputUNetPlusPlus

    return LastOutputUNetPlusPlus(2, in_channels, outputs, FEATURES, dropout=dropout)


def segresnet(in_channels: int, outputs: int, size: int, dropout: float) -> nn.Module:
    """Residual encoder with a light decoder."""
    from monai.networks.nets import SegResNet

    return SegResNet(2, 16, in_channels, outputs, dropout_prob=dropout or None)


def swin_unetr(in_channels: int, outputs: int, size: int, dropout: float) -> nn.Module:
    """Swin transformer encoder with a convolutional decoder."""
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(in_channels, outputs, feature_size=24, drop_rate=dropout, spatial_dims=2)


def unet_on_resnet(encoder: str, in_channels: int, outputs: int, size: int, dropout: float) -> nn.Module:
    """U-Net whose encoder is torchvision's, so that ImageNet weights fit."""
    from gcsam_med.networks.modules import ResNetUNet

    return ResNetUNet(encoder, in_channels, outputs, dropout)
