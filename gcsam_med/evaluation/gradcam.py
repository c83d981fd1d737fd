"""Where a classifier looked: Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn


def last_spatial_layer(network: nn.Module, batch: torch.Tensor) -> nn.Module | None:
    """Find the last layer whose output still is a map, (B, C, H, W) with more than one place.

    Parameters
    ----------
    network : torch.nn.Module
        Any classifier.
    batch : Tensor, shape (B, C, H, W)
        An input.

    Returns
    -------
    torch.nn.Module or None
        None for networks of tokens (a ViT), where such a map means nothing.
    """
    import torch

    last: list[nn.Module] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        if not isinstance(output, torch.Tensor):
            return
        if output.ndim == 3:  # tokens: what was a map before them is only the way they were cut
            last.clear()
        elif output.ndim == 4 and output.shape[2] * output.shape[3] > 1 and module is not network:
            last[:] = [module]

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.inference_mode():
            network(batch[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return last[0] if last else None


def grad_cam(network: nn.Module, batch: torch.Tensor, classes: torch.Tensor) -> np.ndarray | None:
    """Return where each image speaks for a class.

    Parameters
    ----------
    network : torch.nn.Module
        In eval mode; its weights and their gradients are left alone.
    batch : Tensor, shape (B, C, S, S)
        Standardized images.
    classes : Tensor of int64, shape (B,)
        The class to explain of each image.

    Returns
    -------
    ndarray of float32, shape (B, S, S), or None
        In [0, 1], each image by its own maximum (0 where nothing speaks for the class); None if the network
        keeps no map.
    """
    import torch
    from torch.nn import functional

    layer = last_spatial_layer(network, batch)
    if layer is None:
        return None
    kept: list[torch.Tensor] = []

    def keep(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        kept.append(output)
        # What follows may work in place; it gets a copy.
        return output.clone()

    hook = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = network(batch.clone().requires_grad_())
            score = logits.gather(1, classes[:, None]).sum()
            (gradient,) = torch.autograd.grad(score, kept[-1])
    finally:
        hook.remove()
    weight = gradient.mean(dim=(2, 3), keepdim=True)
    cam = (weight * kept[-1].detach()).sum(dim=1, keepdim=True).clamp_(min=0)
    cam = functional.interpolate(cam.float(), size=batch.shape[-2:], mode="bilinear", align_corners=False)
    top = cam.amax(dim=(2, 3), keepdim=True)
    maps: np.ndarray = torch.where(top > 0, cam / top.clamp(min=1e-12), cam)[:, 0].cpu().numpy()
    return maps
