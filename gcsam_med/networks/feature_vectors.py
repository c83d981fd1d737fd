"""What a network makes of an image just before it answers: a vector that tells how like the others it is."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gcsam_med.config import Task

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Place:
    """Where in a network the vector is taken."""

    layer: str  #: Name of a module, as in ``network.named_modules()``.
    side: Literal["input", "output"]  #: {"input", "output"}: Before or behind it.


def find_place(network: nn.Module, task: Task, example: torch.Tensor) -> Place:
    """Find where a network's vector is taken; no network needs to say so.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    task : {"segmentation", "classification"}
        Classification: the input of the last linear layer. Segmentation: the output of the convolution with
        the coarsest map, among several the one with the most channels, among those the last.
    example : Tensor, shape (1, channels, size, size)
        Anything of the right shape.

    Returns
    -------
    Place
        For `Tap`.
    """
    import torch
    from torch import nn

    if task == "classification":
        last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
        return Place(last, "input")
    seen: list[tuple[int, int, int, str]] = []

    def note(name: str, output: torch.Tensor) -> None:
        seen.append((-output.shape[-1] * output.shape[-2], output.shape[1], len(seen), name))

    def listener(name: str) -> Any:
        return lambda _module, _inputs, output: note(name, output)

    hooks = [
        module.register_forward_hook(listener(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return Place(max(seen)[-1], "output")


class Tap:
    """Takes the vector of each image while the network answers; several threads may ask at once.

    Parameters
    ----------
    network : nn.Module
        Gets a hook.
    place : Place
        Where.

    Raises
    ------
    AttributeError
        If the network has no such layer.
    """

    def __init__(self, network: nn.Module, place: Place) -> None:
        self._local = threading.local()
        self._side = place.side
        network.get_submodule(place.layer).register_forward_hook(self._note)

    def _note(self, _module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        value = inputs[0] if self._side == "input" else output
        # A map is averaged over its places.
        self._local.value = value.detach().float().flatten(2).mean(-1) if value.ndim > 2 else value.detach()

    def take(self) -> torch.Tensor:
        """Return the vectors of this thread's last forward pass, float32 (B, D)."""
        return self._local.value.float()
