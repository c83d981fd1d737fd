"""Blocks that work in scratch: on every device, for every type and layout of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gcsam_med.optim.items import Item, Kind, Piece, is_channels_last
from gcsam_med.optim.sums import Lengths


class Scratch(NamedTuple):
    """Room that all blocks of one device and type share."""

    direction: Tensor  #: Tensor, shape (elements,): For what is ascended along.
    #: Tensor, shape (elements,), or None: For the size of the weights, where the ascent is adaptive.
    sizes: Tensor | None


class ScratchBlock:
    """Rows of one or more parameters of one kind, in few operations however many the parameters are.

    The direction is centred in the scratch *before* its norm is taken: nothing cancels, and nothing has to be
    looked at from the host.

    Parameters
    ----------
    kind : Kind
        What the parameters have in common.
    pieces : list of Piece
        Which rows of which parameters, equal row lengths side by side.
    items : sequence of Item
        All parameters of the walk.
    weights, backup : sequence of Tensor
        Parallel to them: the weights without their gradients, and room for their copy.
    scratch : Scratch
        As long as the block, at least.
    eta : float
        Added to the size of each weight, for adaptive kinds.
    """

    def __init__(
        self,
        kind: Kind,
        pieces: list[Piece],
        items: Sequence[Item],
        *,
        weights: Sequence[Tensor],
        backup: Sequence[Tensor],
        scratch: Scratch,
        eta: float,
    ) -> None:
        self.kind = kind
        self._pieces = pieces
        self._weights = self.of(weights)
        self._backup = self.of(backup)
        self._eta = eta
        self._views: list[Tensor] = []
        self._size_views: list[Tensor] = []
        self._runs: list[tuple[Tensor, Tensor]] = []  # rows to centre, and room for their means
        self._source: list[Tensor] = []
        used = start = length = 0
        for piece in pieces:
            item = items[piece.number]
            end = used + (piece.stop - piece.start) * item.row_length
            if (item.row_length if item.centred else 0) != length:
                self._end_run(scratch.direction[start:used], length)
                start, length = used, item.row_length if item.centred else 0
            self._views.append(_shaped(scratch.direction[used:end], item.parameter))
            if scratch.sizes is not None:
                self._size_views.append(_shaped(scratch.sizes[used:end], item.parameter))
            used = end
        self._end_run(scratch.direction[start:used], length)
        self._flat = scratch.direction[:used]
        self._lengths = Lengths([used], kind.precise, kind.device)
        self._moved = False
        self._sizes = scratch.sizes[:used] if kind.adaptive and scratch.sizes is not None else None

    def _end_run(self, region: Tensor, length: int) -> None:
        if length:
            rows = region.view(-1, length)
            self._runs.append((rows, torch.empty(len(rows), 1, dtype=rows.dtype, device=rows.device)))

    # --- The ascent

    def squares(self, directions: Sequence[Tensor], centre: bool) -> list[Tensor]:
        """Squared length of the direction, as numbers of no dimension to be added.

        Parameters
        ----------
        directions : sequence of Tensor
            Parallel to the parameters; remembered until `move`.
        centre : bool
            Take the length after centring, where centralization applies.
        """
        self._source = self.of(directions)
        torch._foreach_copy_(self._views, self._source)
        if centre:
            self._centre()
        self._scale_by_size()
        self._lengths.take(0, self._flat)
        return [self._lengths.squared_total()]

    def move(self, factor: Tensor) -> None:
        """Copy the weights, and add the direction times a number, on the block's device, to them."""
        torch._foreach_copy_(self._views, self._source)
        self._source = []
        self._centre()
        self._scale_by_size()
        self._scale_by_size()
        self.scale(factor)
        torch._foreach_copy_(self._backup, self._weights)
        self._moved = True
        torch._foreach_add_(self._weights, self._views)

    def restore(self) -> None:
        """Write the copy back over the weights, if they have moved."""
        if self._moved:
            torch._foreach_copy_(self._weights, self._backup)
        self._moved = False

    def _centre(self) -> None:
        for rows, mean in self._runs:
            torch.mean(rows, 1, keepdim=True, out=mean)
            rows.sub_(mean)

    def _scale_by_size(self) -> None:
        if self._sizes is not None:
            torch._foreach_copy_(self._size_views, self._weights)
            self._flat.mul_(self._sizes.abs_().add_(self._eta))

    # --- Vectors as long as the network, block by block

    def of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Views of the block's rows in a list of tensors that runs parallel to the parameters."""
        return [piece.of(tensors) for piece in self._pieces]

    def load(self, tensors: Sequence[Tensor]) -> None:
        """Fetch the block's part of `tensors` into the scratch."""
        torch._foreach_copy_(self._views, self.of(tensors))

    def store(self, tensors: Sequence[Tensor]) -> None:
        """Write the scratch over the block's part of `tensors`."""
        torch._foreach_copy_(self.of(tensors), self._views)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Add the block's part of `tensors` to the scratch."""
        torch._foreach_add_(self._views, self.of(tensors))

    def add_to(self, tensors: Sequence[Tensor]) -> None:
        """Add the scratch to the block's part of `tensors`."""
        torch._foreach_add_(self.of(tensors), self._views)

    def scale(self, factor: Tensor) -> None:
        """Multiply the scratch by a number of no dimension, on the block's device."""
        self._flat.mul_(factor)

    def inner(self, tensors: Sequence[Tensor]) -> Tensor:
        """Inner product of the scratch, which is spent, and the block's part of `tensors`; no dimension."""
        torch._foreach_mul_(self._views, self.of(tensors))
        return self._flat.sum()


def _shaped(region: Tensor, parameter: Tensor) -> Tensor:
    """Lay scratch out as the parameter lies in memory, so that copies run straight through both."""
    if is_channels_last(parameter):
        channels, *spatial = parameter.shape[1:]
        return region.view(-1, *spatial, channels).movedim(-1, 1)
    return region.view(-1, *parameter.shape[1:]) if parameter.ndim else region.view(())
