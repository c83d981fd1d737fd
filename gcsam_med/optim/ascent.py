"""The arithmetic of an ascent: centre, scale, take the norm, move the weights, put them back.

Parameters of one device and type are worked on together, a bucket at a time: on a CPU a bucket stays in the
cache between operations, on an accelerator a few buckets hold a whole network, so that few kernels are
launched. Nothing here reads a number of an accelerator, so that an ascent can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

CPU_BUCKET, ACCELERATOR_BUCKET = 1 << 20, 1 << 25
"""Elements of a bucket, if it holds more than one parameter."""


def is_centralized(parameter: Tensor, conv_only: bool = False) -> bool:
    """Whether gradient centralization touches this parameter or gradient.

    True for more than one dimension. With `conv_only` for more than three (2-D and 3-D convolutions), which
    spares the weights of linear layers, embeddings and positional encodings, as in the authors' code.
    """
    return parameter.ndim > (3 if conv_only else 1)


def centralize(gradient: Tensor, conv_only: bool = False) -> Tensor:
    r"""Subtract from each row of a gradient its mean.

    .. math:: \Phi(g)_i = g_i - \operatorname{mean}(g_i)

    where i runs over the first dimension (output channels) and the mean over all others. It is a projection:
    doing it twice is doing it once, and it never lengthens a gradient.

    Parameters
    ----------
    gradient : Tensor
        Gradient of a parameter, of any shape.
    conv_only : bool
        Centralize tensors of more than three dimensions only.

    Returns
    -------
    Tensor
        A new tensor of the same shape, or `gradient` itself where centralization does not apply.

    References
    ----------
    Yong, Huang, Hua, Zhang, "Gradient Centralization", ECCV 2020, equation 1.
    """
    return gradient - row_means(gradient) if is_centralized(gradient, conv_only) else gradient


def row_means(gradient: Tensor) -> Tensor:
    """Mean over all dimensions but the first, which are kept; half precision gives float32."""
    return gradient.mean(tuple(range(1, gradient.ndim)), keepdim=True, dtype=precise(gradient.dtype))


def precise(dtype: torch.dtype) -> torch.dtype:
    """Type to compute in: half precision is centred, summed and scaled in float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


@dataclass
class Bucket:
    """Parameters of one device, type and radius that are worked on together."""

    rho: float  #: Signed length of the ascent.
    eta: float  #: Added to the size of each weight, where `adaptive`.
    adaptive: bool  #: Whether the direction is scaled by the size of the weights (ASAM).
    parameters: list[Tensor] = field(default_factory=list)
    copies: list[Tensor] = field(default_factory=list)  #: Parallel: room for a copy of each parameter.
    centred: list[bool] = field(default_factory=list)  #: Parallel: whether its direction is centred.
    elements: int = 0  #: Of all parameters.

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.parameters[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Type that the bucket is computed in."""
        return precise(self.parameters[0].dtype)

    @property
    def weights(self) -> list[Tensor]:
        """The parameters without their gradients."""
        return [parameter.detach() for parameter in self.parameters]

    def direction(self, of: Callable[[Tensor], Tensor | None], *, centre: bool) -> list[Tensor]:
        r"""Return :math:`T \Phi(g)`; it lies in the room of the copies, unless that is of half precision."""
        room = self.copies
        if room[0].dtype != self.dtype:
            room = [torch.empty_like(copy, dtype=self.dtype) for copy in room]
        plain: tuple[list[Tensor], list[Tensor]] = [], []
        for parameter, out, centred in zip(self.parameters, room, self.centred, strict=True):
            gradient = of(parameter)
            assert gradient is not None  # noqa: S101 - a parameter without one is in no bucket
            if centred and centre:
                torch.sub(gradient, row_means(gradient), out=out)
            else:
                plain[0].append(out)
                plain[1].append(gradient)
        if plain[0]:
            torch._foreach_copy_(*plain)
        if self.adaptive:
            torch._foreach_mul_(room, self._sizes())
        return room

    def change(self, direction: list[Tensor], scale: Tensor) -> list[Tensor]:
        r"""Return epsilon, which is `scale` times :math:`T` times the direction, in new tensors."""
        change = list(torch._foreach_mul(direction, scale))
        if self.adaptive:
            torch._foreach_mul_(change, self._sizes())
        return change

    def save(self) -> None:
        """Copy the weights; a direction that lies in the room of the copies is lost."""
        torch._foreach_copy_(self.copies, self.weights)

    def move(self, change: list[Tensor]) -> None:
        """Add epsilon to the weights."""
        torch._foreach_add_(self.weights, change)

    def restore(self) -> None:
        """Write the copies back over the weights."""
        torch._foreach_copy_(self.weights, self.copies)

    def _sizes(self) -> list[Tensor]:
        sizes = list(torch._foreach_abs([weight.to(self.dtype) for weight in self.weights]))
        torch._foreach_add_(sizes, self.eta)
        return sizes


class Copies:
    """Room for one tensor a parameter, allocated when first asked for and then kept."""

    def __init__(self) -> None:
        self.tensors: dict[Tensor, Tensor] = {}  #: From a parameter to its room.

    def of(self, parameter: Tensor) -> Tensor:
        """Return the room of a parameter; zeros where it is new, or has another type, shape or device."""
        room = self.tensors.get(parameter)
        fits = room is not None and (room.shape, room.dtype, room.device, room.stride()) == (
            parameter.shape,
            parameter.dtype,
            parameter.device,
            parameter.stride(),
        )
        if room is None or not fits:
            self.tensors.pop(parameter, None)  # what does not fit goes before the next is made
            room = self.tensors[parameter] = torch.zeros_like(parameter, requires_grad=False)
        return room

    def state_dict(self, parameters: Sequence[Tensor]) -> dict[int, Tensor]:
        """What is kept, by number of the parameter."""
        return {n: self.tensors[p] for n, p in enumerate(parameters) if p in self.tensors}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[int, Tensor], parameters: Sequence[Tensor]) -> None:
        """Take up a state made by `state_dict`, and nothing else."""
        self.tensors = {}
        for number, tensor in state.items():
            self.of(parameters[number]).copy_(tensor)


def dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Inner product of two vectors in parts, which may be on several devices."""
    return total([(a.to(precise(a.dtype)) * b).sum() for a, b in zip(first, second, strict=True)])


def squares(parts: list[Tensor]) -> list[Tensor]:
    """Squared lengths of tensors of one device and type, right to 1e-6 of themselves.

    On a CPU torch's own norms add float32 numbers one after the other and are off by 1e-5; its sums are not.
    """
    if parts[0].device.type == "cpu":
        return [(part * part).sum() for part in parts]
    return [torch.stack(torch._foreach_norm(parts)).square_().sum()]


def total(parts: Sequence[Tensor]) -> Tensor:
    """Sum of numbers that may be on several devices, in float64 where the first device has it."""
    home = parts[0].device
    widest = torch.float32 if home.type == "mps" else torch.float64
    return torch.stack([part.to(home, widest) for part in parts]).sum()


def ratio(numerator: Tensor | float, denominator: Tensor) -> Tensor:
    """Quotient of no dimension: zero where the denominator is zero, NaN where it is not finite."""
    return torch.where(denominator == 0, 0.0, numerator / denominator) + 0.0 * denominator
