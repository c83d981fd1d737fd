"""Blocks that work where the numbers lie: on a CPU, where a look at a number costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gcsam_med.optim.items import Item, Kind, Piece, is_channels_last
from gcsam_med.optim.sums import squared_length

CANCELLED = 0.75
"""Part of a squared length that may be subtracted before too many digits are lost."""


class RowBlock:
    r"""Rows of one parameter, centred without a centred copy.

    The norm comes from :math:`\lVert g - m \rVert^2 = \lVert g \rVert^2 - n \lVert m \rVert^2`, the climb
    from adding g and subtracting m, which saves a vector to write and to read. Where the means are most of
    the gradient the difference would lose its digits; there the block is centred in a temporary copy.

    Parameters
    ----------
    kind : Kind
        Of full precision, on a CPU, not adaptive.
    piece : Piece
        Which rows of which parameter, dense in memory.
    item : Item
        That parameter.
    weights, backup : sequence of Tensor
        Parallel to the parameters: the weights without their gradients, and room for their copy.
    lengths : Tensor
        Room for `squared_length`.
    """

    def __init__(
        self,
        kind: Kind,
        piece: Piece,
        item: Item,
        *,
        weights: Sequence[Tensor],
        backup: Sequence[Tensor],
        lengths: Tensor,
    ) -> None:
        self.kind = kind
        self._piece = piece
        self._length = item.row_length
        self._channels_last = is_channels_last(item.parameter)
        self._weights = self._rows_of(weights)
        self._backup = self._rows_of(backup)
        rows = piece.stop - piece.start if item.centred else 0
        self._means, self._shifts = torch.empty(2, rows, 1, dtype=kind.dtype)
        self._lengths = lengths
        self._source = self._weights[:0]
        self._cancels = False

    def _rows_of(self, tensors: Sequence[Tensor]) -> Tensor:
        """As a matrix of rows: a view, unless a gradient lies otherwise than its parameter."""
        part = self._piece.of(tensors)
        if self._channels_last:
            part = part.movedim(1, -1)
        return part.reshape(-1, self._length).contiguous()

    def squares(self, directions: Sequence[Tensor], centre: bool) -> list[Tensor]:
        """Squared length of the direction, in parts; the direction is remembered until `move`."""
        self._source = rows = self._rows_of(directions)
        square = squared_length(rows.view(-1), self._lengths)
        self._cancels = False
        if not len(self._means):
            return [square]
        torch.mean(rows, 1, keepdim=True, out=self._means)
        if not centre:
            return [square]
        removed = self._length * squared_length(self._means.view(-1), self._lengths)
        self._cancels = bool(removed > CANCELLED * square)
        if self._cancels:
            return [squared_length((rows - self._means).view(-1), self._lengths)]
        return [square - removed]

    def save(self) -> None:
        """Copy the weights."""
        self._backup.copy_(self._weights)

    def move(self, factor: Tensor) -> None:
        """Add the direction times a number to the weights."""
        source, self._source = self._source, self._weights[:0]
        if self._cancels:
            self._weights.add_(source - self._means, alpha=factor.item())
            return
        self._weights.add_(source, alpha=factor.item())
        if len(self._means):
            self._weights.sub_(torch.mul(self._means, factor, out=self._shifts))

    def restore(self) -> None:
        """Write the copy back over the weights."""
        self._weights.copy_(self._backup)


class VectorBlock:
    """Many small parameters that are not centred: biases and norm layers.

    Parameters
    ----------
    kind : Kind
        Of full precision, on a CPU, not adaptive.
    numbers : list of int
        Which parameters.
    weights, backup : sequence of Tensor
        Parallel to the parameters: the weights without their gradients, and room for their copy.
    """

    def __init__(
        self, kind: Kind, numbers: list[int], *, weights: Sequence[Tensor], backup: Sequence[Tensor]
    ) -> None:
        self.kind = kind
        self._numbers = numbers
        self._weights = [weights[n] for n in numbers]
        self._backup = [backup[n] for n in numbers]
        self._source: list[Tensor] = []

    def squares(self, directions: Sequence[Tensor], centre: bool) -> list[Tensor]:
        """Squared length of the direction, which is remembered until `move`."""
        del centre
        self._source = [directions[n] for n in self._numbers]
        norms = torch.stack(torch._foreach_norm(self._source, dtype=torch.float64))
        return [torch.dot(norms, norms)]

    def save(self) -> None:
        """Copy the weights."""
        torch._foreach_copy_(self._backup, self._weights)

    def move(self, factor: Tensor) -> None:
        """Add the direction times a number to the weights."""
        source, self._source = self._source, []
        torch._foreach_add_(self._weights, source, alpha=factor.item())

    def restore(self) -> None:
        """Write the copy back over the weights."""
        torch._foreach_copy_(self._weights, self._backup)
