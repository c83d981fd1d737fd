"""Blocks that work where the numbers lie: on a CPU, where a look at a number costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gcsam_med.optim.items import Item, Kind, Piece, is_channels_last
from gcsam_med.optim.sums import Lengths

CANCELLED = 0.75
"""Part of a squared length that may be subtracted before too many digits are lost."""


class RowsBlock:
    r"""Rows of parameters of one kind, centred without a centred copy.

    The norm comes from :math:`\lVert g - m \rVert^2 = \lVert g \rVert^2 - n \lVert m \rVert^2`, the ascent
    from adding g and subtracting m, which saves a vector to write and to read. Where the means are most of
    the gradient the difference would lose its digits; then rows are centred in temporary copies.

    Parameters
    ----------
    kind : Kind
        Of full precision, on a CPU, not adaptive.
    pieces : list of Piece
        Which rows of which parameters, all centred or none, dense in memory, each small enough for a cache.
    items : sequence of Item
        All parameters.
    weights, backup : sequence of Tensor
        Parallel to them: the weights without their gradients, and room for their copy.
    """

    def __init__(
        self,
        kind: Kind,
        pieces: list[Piece],
        items: Sequence[Item],
        *,
        weights: Sequence[Tensor],
        backup: Sequence[Tensor],
    ) -> None:
        self.kind = kind
        self._pieces = pieces
        self._row_lengths = [items[piece.number].row_length for piece in pieces]
        self._channels_last = [is_channels_last(items[piece.number].parameter) for piece in pieces]
        self._weights = self._rows_of(weights)
        self._backup = self._rows_of(backup)
        self._lengths = Lengths([rows.numel() for rows in self._weights], kind.dtype)
        self._centred = items[pieces[0].number].centred
        counts = [len(rows) if self._centred else 0 for rows in self._weights]
        self._all_means, self._all_shifts, self._row_elements = torch.empty(
            3, sum(counts), 1, dtype=kind.dtype
        )
        self._means = self._all_means.split(counts)
        self._shifts = self._all_shifts.split(counts)
        for part, length in zip(self._row_elements.split(counts), self._row_lengths, strict=True):
            part.fill_(length)
        self._source: list[Tensor] = []
        self._cancels = False
        self._moved = 0

    def _rows_of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Matrices of rows: views, unless a gradient lies otherwise than its parameter."""
        parts = []
        for piece, length, last in zip(self._pieces, self._row_lengths, self._channels_last, strict=True):
            part = piece.of(tensors)
            if last:
                part = part.movedim(1, -1)
            parts.append(part.reshape(-1, length).contiguous())
        return parts

    def squares(self, directions: Sequence[Tensor], centre: bool) -> list[Tensor]:
        """Squared length of the direction, in parts; the direction is remembered until `move`."""
        self._source = self._rows_of(directions)
        self._cancels = False
        for number, rows in enumerate(self._source):
            if self._centred:
                torch.mean(rows, 1, keepdim=True, out=self._means[number])
            self._lengths.take(number, rows.view(-1))
        square = self._lengths.squared_total()
        if not (self._centred and centre):
            return [square]
        removed = (
            torch.mul(self._all_means, self._all_means, out=self._all_shifts).mul_(self._row_elements).sum()
        )
        self._cancels = bool(removed > CANCELLED * square)
        if not self._cancels:
            return [square - removed]
        for number, rows in enumerate(self._source):
            self._lengths.take(number, (rows - self._means[number]).view(-1))
        return [self._lengths.squared_total()]

    def move(self, factor: Tensor) -> None:
        """Copy the weights, and add the direction times a number to them."""
        alpha = factor.item()
        source, self._source = self._source, []
        torch.mul(self._all_means, factor, out=self._all_shifts)
        for number, (weights, backup, rows) in enumerate(
            zip(self._weights, self._backup, source, strict=True)
        ):
            backup.copy_(weights)
            self._moved = number + 1
            if self._cancels:
                weights.add_(rows - self._means[number], alpha=alpha)
                continue
            weights.add_(rows, alpha=alpha)
            if self._centred:
                weights.sub_(self._shifts[number])

    def restore(self) -> None:
        """Write the copy back over the weights that have moved."""
        if self._moved:
            torch._foreach_copy_(self._weights[: self._moved], self._backup[: self._moved])
        self._moved = 0


class VectorsBlock:
    """Many small parameters that are not centred: biases and norm layers.

    Parameters
    ----------
    kind : Kind
        Of full precision, on a CPU, not adaptive.
    numbers : list of int
        Which parameters.
    weights, backup : sequence of Tensor
        Parallel to all parameters: the weights without their gradients, and room for their copy.
    """

    def __init__(
        self, kind: Kind, numbers: list[int], *, weights: Sequence[Tensor], backup: Sequence[Tensor]
    ) -> None:
        self.kind = kind
        self._numbers = numbers
        self._weights = [weights[n] for n in numbers]
        self._backup = [backup[n] for n in numbers]
        self._source: list[Tensor] = []
        self._moved = False

    def squares(self, directions: Sequence[Tensor], centre: bool) -> list[Tensor]:
        """Squared length of the direction, which is remembered until `move`."""
        del centre
        self._source = [directions[n] for n in self._numbers]
        norms = torch.stack(torch._foreach_norm(self._source, dtype=torch.float64))
        return [torch.dot(norms, norms)]

    def move(self, factor: Tensor) -> None:
        """Copy the weights, and add the direction times a number to them."""
        source, self._source = self._source, []
        torch._foreach_copy_(self._backup, self._weights)
        self._moved = True
        torch._foreach_add_(self._weights, source, alpha=factor.item())

    def restore(self) -> None:
        """Write the copy back over the weights, if they have moved."""
        if self._moved:
            torch._foreach_copy_(self._weights, self._backup)
        self._moved = False
