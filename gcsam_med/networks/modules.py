"""The few modules that MONAI and torchvision do not have ready."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets import BasicUNetPlusPlus
from monai.networks.nets.flexible_unet import SegmentationHead, UNetDecoder
from torch import nn

from gcsam_med.networks.table import fit_first_convolution, import_torchvision


class LastOutputUNetPlusPlus(BasicUNetPlusPlus):
    """U-Net++ that gives a tensor where MONAI's gives a list.

    Parameters
    ----------
    **options
        MONAI's.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(deep_supervision=False, **options)
        # Heads of shallower outputs would never get a gradient, which distributed training does not bear.
        self.final_conv_0_1 = self.final_conv_0_2 = self.final_conv_0_3 = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, H, W) to logits (B, out_channels, H, W)."""
        return super().forward(x)[-1]


class ResNetUNet(nn.Module):
    """U-Net on a torchvision ResNet.

    The encoder's parameters keep torchvision's names under ``encoder.``, so that its weights can be loaded.

    Parameters
    ----------
    encoder : str
        ``"resnet18"`` or ``"resnet34"``.
    in_channels, out_channels : int
        Channels in and out.
    dropout : float
        Rate in the decoder.
    """

    def __init__(self, encoder: str, in_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = import_torchvision().models.get_model(encoder)
        self.encoder.fc = nn.Identity()
        fit_first_convolution(self.encoder, in_channels)
        decoder_channels = (256, 128, 64, 32, 16)
        self.decoder = UNetDecoder(
            spatial_dims=2,
            encoder_channels=(in_channels, 64, 64, 128, 256, 512),
            decoder_channels=decoder_channels,
            act=("relu", {"inplace": True}),
            norm="batch",
            dropout=dropout,
            bias=False,
            upsample="nontrainable",
            pre_conv="default",
            interp_mode="nearest",
            align_corners=None,
            is_pad=False,
        )
        self.head = SegmentationHead(
            spatial_dims=2, in_channels=decoder_channels[-1], out_channels=out_channels
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, H, W), sides multiples of 32, to logits (B, out_channels, H, W)."""
        net = self.encoder
        half = net.relu(net.bn1(net.conv1(x)))
        fourth = net.layer1(net.maxpool(half))
        eighth = net.layer2(fourth)
        sixteenth = net.layer3(eighth)
        features = [x, half, fourth, eighth, sixteenth, net.layer4(sixteenth)]
        return self.head(self.decoder(features))
