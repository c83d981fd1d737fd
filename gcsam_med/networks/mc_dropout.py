"""Dropout kept on while a network answers (Gal and Ghahramani, ICML 2016, arXiv 1506.02142)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gcsam_med.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn


class Thinning:
    """Samples of a network with dropout: thinned networks, each with units left out of its own.

    A sample leaves the same units out of every image, so that it is one network, as in the article; and what
    it answers does not depend on which images share a batch, on their order, or on threads.

    Parameters
    ----------
    network : nn.Module
        In eval mode. Gets hooks that do nothing outside of `sample`.

    Raises
    ------
    InputError
        If it has no dropout.
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
        """Make the network, in this thread, the thinned one of this number."""
        self._local.number = number
        try:
            yield
        finally:
            self._local.number = None
