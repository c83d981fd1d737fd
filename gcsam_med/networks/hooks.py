"""What is read from, or done to, a network while it answers: feature vectors, and Monte Carlo dropout.

A feature vector is what a network makes of an image just before its answer; how far it lies from those of the
training images tells whether the image is out of distribution.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gcsam_med.config import Task
from gcsam_med.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class FeatureLayer:
    """Where in a network the feature vector is taken."""

    layer: str  #: Name of a module, as in ``network.named_modules()``.
    side: Literal["input", "output"]  #: Before or behind it.


def find_feature_layer(network: nn.Module, task: Task, example: torch.Tensor) -> FeatureLayer:
    """Find where a network (in eval mode) has its feature vector; no network needs to say so.

    Classification: the input of the last linear layer. Segmentation: the output of the convolution with the
    coarsest map, among several the one with the most channels, among those the last. `example` is any input
    of the right shape, (1, channels, size, size).
    """
    import torch
    from torch import nn

    if task == "classification":
        last = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
        return FeatureLayer(last, "input")
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
    return FeatureLayer(max(seen)[-1], "output")


class FeatureTap:
    """Takes the feature vector of each image in a forward pass; several threads may run at once.

    The network gets a hook at the layer; AttributeError if it has no such layer.
    """

    def __init__(self, network: nn.Module, layer: FeatureLayer) -> None:
        self._local = threading.local()
        self._side = layer.side
        network.get_submodule(layer.layer).register_forward_hook(self._note)

    def _note(self, _module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        value = inputs[0] if self._side == "input" else output
        # A map is averaged over its places.
        self._local.value = value.detach().float().flatten(2).mean(-1) if value.ndim > 2 else value.detach()

    def take(self) -> torch.Tensor:
        """Return the vectors of this thread's last forward pass, float32 (B, D)."""
        return self._local.value.float()


class MonteCarloDropout:
    """Dropout kept on in evaluation (Gal and Ghahramani, ICML 2016, arXiv 1506.02142).

    A sample drops the same units for every image, so that it is one network, as in the article; its answer
    does not depend on which images share a batch, on their order, or on threads. The network (in eval mode)
    gets hooks that do nothing outside of `sample`; InputError if it has no dropout.
    """

    def __init__(self, network: nn.Module) -> None:
        from torch import nn

        self._local = threading.local()
        kinds = (nn.Dropout, nn.Dropout2d)
        layers = [module for module in network.modules() if isinstance(module, kinds) and module.p > 0]
        if not layers:
            raise InputError(
                "--mc-dropout needs a network that was trained with dropout, and this one has none.",
                "Train with --set dropout=0.2, or leave --mc-dropout out.",
            )
        for index, layer in enumerate(layers):
            layer.register_forward_hook(self._hook(index))

    def _hook(self, index: int) -> Any:
        import torch
        from torch import nn

        def drop(layer: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
            number = getattr(self._local, "number", None)
            if number is None:
                return None
            shape = output.shape[1:]
            if isinstance(layer, nn.Dropout2d):
                shape = torch.Size([shape[0], 1, 1])
            generator = torch.Generator().manual_seed(1_000_003 * number + index)
            p = float(layer.p)  # type: ignore[arg-type]
            kept = (torch.rand(shape, generator=generator) >= p).to(output.device, output.dtype)
            return output * kept / (1 - p)

        return drop

    @contextmanager
    def sample(self, number: int) -> Iterator[None]:
        """Make the network, in this thread, the sample of this number."""
        self._local.number = number
        try:
            yield
        finally:
            self._local.number = None
