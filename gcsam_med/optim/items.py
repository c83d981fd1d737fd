"""Parameters as an ascent sees them, and how they are cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Item:
    """One parameter and how the ascent has to treat it."""

    parameter: Tensor  #: The weights.
    centred: bool  #: Whether the rows of its direction are to be centred.
    adaptive: bool  #: Whether its direction is scaled by the size of the weights.
    rho: int  #: Number of the radius it ascends by: equal radii have equal numbers.

    @property
    def rows(self) -> int:
        """Length of the first dimension."""
        return self.parameter.shape[0] if self.parameter.ndim else 1

    @property
    def row_length(self) -> int:
        """Elements of a row; 1 where rows mean nothing."""
        return self.parameter.numel() // self.rows


@dataclass(frozen=True)
class Kind:
    """What parameters must have in common to share a block."""

    device: torch.device
    dtype: torch.dtype
    adaptive: bool
    rho: int

    @property
    def precise(self) -> torch.dtype:
        """Type to compute in: half precision is centred, summed and scaled in float32."""
        return torch.float32 if self.dtype in (torch.float16, torch.bfloat16) else self.dtype


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop` of the parameter `number`."""

    number: int
    start: int
    stop: int
    whole: bool

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        """Its view of a list of tensors that runs parallel to the parameters."""
        return tensors[self.number] if self.whole else tensors[self.number][self.start : self.stop]


def kind_of(item: Item) -> Kind:
    """The kind of a parameter."""
    p = item.parameter
    return Kind(p.device, p.dtype, item.adaptive, item.rho)


def is_channels_last(tensor: Tensor) -> bool:
    """Whether the second dimension lies innermost in memory, as convolutions on some devices like it."""
    layout = _CHANNELS_LAST.get(tensor.ndim)
    return layout is not None and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=layout)


def cut(items: Sequence[Item], numbers: Sequence[int], capacity: int) -> Iterator[list[Piece]]:
    """Cut parameters into runs of whole rows.

    Parameters
    ----------
    items : sequence of Item
        All parameters.
    numbers : sequence of int
        Which of them, in this order.
    capacity : int
        Elements of a run at most; one row, if that is longer.

    Yields
    ------
    list of Piece
        All elements, each once.
    """
    pieces: list[Piece] = []
    room = capacity
    for number in numbers:
        rows, length = items[number].rows, items[number].row_length
        start = 0
        while start < rows:
            if pieces and room < length:
                yield pieces
                pieces, room = [], capacity
            stop = min(rows, start + max(1, room // length))
            pieces.append(Piece(number, start, stop, whole=stop - start == rows))
            room -= (stop - start) * length
            start = stop
    if pieces:
        yield pieces
