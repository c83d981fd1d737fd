"""What two passes over one batch must share: the buffers of the first, and its random numbers."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class BufferSnapshot:
    """The buffers of all layers in training mode, as they are now.

    Taken by content and not by layer type, so that running statistics of home-made norm layers, power
    iterations of spectral norm and codebooks count as well as BatchNorm; switching `momentum` to 0 would miss
    those, count batches twice, let a NaN through and make a compiled model compile again.

    Parameters
    ----------
    model : nn.Module
        The network; wrapped by `torch.compile` or DistributedDataParallel too.
    """

    def __init__(self, model: nn.Module) -> None:
        self._saved: list[tuple[nn.Module, str, Tensor]] = [
            (module, name, buffer)
            for module in model.modules()
            if module.training
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        buffers = [buffer.detach() for _, _, buffer in self._saved]
        self._contents = [torch.empty_like(buffer) for buffer in buffers]
        _copy(self._contents, buffers)

    @torch.no_grad()
    def restore(self, where: Tensor | None = None) -> None:
        """Put the buffers back, bit for bit, also where a layer replaced one by a new tensor.

        With `where`, a bool of no dimension, only if it is true; the host need not know whether it is.
        """
        if where is None:
            _copy([buffer for _, _, buffer in self._saved], self._contents)
        for (module, name, buffer), content in zip(self._saved, self._contents, strict=True):
            now = module._buffers.get(name)
            if where is not None:
                now = content if now is None else now
                torch.where(where.to(content.device), content, now, out=buffer)
            if now is not buffer:
                module._buffers[name] = buffer


def _copy(into: list[Tensor], contents: list[Tensor]) -> None:
    """Copy tensors, few kernels for many of one device and type."""
    kinds: dict[tuple[object, ...], tuple[list[Tensor], list[Tensor]]] = {}
    for to, content in zip(into, contents, strict=True):
        pair = kinds.setdefault((to.device, to.dtype), ([], []))
        pair[0].append(to)
        pair[1].append(content)
    for pair in kinds.values():
        torch._foreach_copy_(*pair)


@contextmanager
def buffers_in_place(model: nn.Module) -> Iterator[None]:
    """Bring the content of a buffer that a layer replaced by a new tensor back into the first one."""
    first = [(m, name, b) for m in model.modules() for name, b in m._buffers.items() if b is not None]
    try:
        yield
    finally:
        for module, name, buffer in first:
            now = module._buffers.get(name)
            if now is not None and now is not buffer:
                buffer.copy_(now)
                module._buffers[name] = buffer


@contextmanager
def frozen_batchnorm(model: nn.Module) -> Iterator[None]:
    """Leave the running statistics as they are on entry, whatever the body does.

    Layers in the body normalise by the batch, as in training, but their running statistics, and any other
    buffer, come back afterwards: those of a second pass belong to perturbed weights.

    Parameters
    ----------
    model : nn.Module
        The network.
    """
    snapshot = BufferSnapshot(model)
    try:
        yield
    finally:
        snapshot.restore()


class RandomState:
    """The state of the random generators, to draw the same dropout masks and augmentations again.

    Covers torch on the CPU and on `devices`, Python's `random`, and NumPy's global generator if NumPy is
    loaded.

    Parameters
    ----------
    devices : iterable of torch.device
        Devices of the model.

    Examples
    --------
    >>> state = RandomState([])
    >>> first = torch.rand(3)
    >>> state.rewind()
    >>> bool((torch.rand(3) == first).all())
    True
    """

    def __init__(self, devices: Iterable[torch.device] = ()) -> None:
        self._cpu = torch.get_rng_state()
        self._devices: dict[torch.device, Tensor] = {
            device: torch.get_device_module(device).get_rng_state(device)
            for device in set(devices)
            if device.type not in ("cpu", "meta")
        }
        self._python = random.getstate()
        numpy: Any = sys.modules.get("numpy")
        self._numpy = numpy.random.get_state() if numpy is not None else None

    def rewind(self) -> None:
        """Set every generator back to where it stood."""
        torch.set_rng_state(self._cpu)
        for device, state in self._devices.items():
            torch.get_device_module(device).set_rng_state(state, device)
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
