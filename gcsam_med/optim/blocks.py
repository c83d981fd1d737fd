"""The walk over all parameters, in blocks small enough to stay in cache.

A climb needs several passes over the gradient: mean, centre, norm, scale, add. Done one after the other over
the whole network, each of them fetches every number from main memory; done block by block, only the first one
does. A block holds the *centred* gradient before the norm is taken, so that nothing cancels as it would in
||g||^2 - n mean^2. On an accelerator a block is a fixed share of the network, so that the number of kernels
does not grow with the number of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CPU_SHARE = 32
"""Least number of blocks on a CPU: scratch is at most this part of the weights."""

ACCELERATOR_SHARE = 16
"""Number of blocks on an accelerator, and so of kernels, whatever the number of parameters."""

CPU_ELEMENTS = 1 << 18
"""Elements of a block on a CPU: what a step works on (1 MiB of each float32 vector) stays in cache."""

SUM_ELEMENTS = 1 << 16
"""Longest float32 sum on a CPU: of this length it is right to 2e-7, of two million numbers to 7e-6 only."""

LEAST_ELEMENTS = 1 << 12
"""Below this the calls cost more than the numbers."""

_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Item:
    """One parameter and how the walk has to treat it.

    Parameters
    ----------
    parameter : Tensor
        The weights.
    centred : bool
        Whether the rows of its gradient are to be centred.
    adaptive : bool
        Whether its gradient is scaled by the size of the weights.
    rho : int
        Number of the radius it climbs by: equal radii have equal numbers.
    """

    parameter: Tensor
    centred: bool
    adaptive: bool
    rho: int

    @property
    def rows(self) -> int:
        """Length of the first dimension."""
        return self.parameter.shape[0] if self.parameter.ndim else 1

    @property
    def row_length(self) -> int:
        """Elements of a row."""
        return self.parameter.numel() // self.rows

    @property
    def signature(self) -> tuple[object, ...]:
        """All that a walk depends on."""
        p = self.parameter
        return id(p), p.dtype, p.device, p.shape, p.stride(), self.centred, self.adaptive, self.rho


@dataclass(frozen=True)
class Kind:
    """What parameters must have in common to share a block."""

    device: torch.device
    dtype: torch.dtype
    adaptive: bool
    rho: int

    @property
    def precise(self) -> torch.dtype:
        """Type of the scratch: half precision is centred, summed and scaled in float32."""
        return torch.float32 if self.dtype in (torch.float16, torch.bfloat16) else self.dtype


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop` of the parameter `number`."""

    number: int
    start: int
    stop: int
    whole: bool


class Block:
    """Rows of one or more parameters, with scratch for their gradient.

    Parameters
    ----------
    kind : Kind
        What its parameters have in common.
    pieces : list of Piece
        Which rows of which parameters, equal row lengths side by side.
    items : sequence of Item
        All parameters of the walk.
    scratch : Tensor, shape (at least the block's elements,)
        Room for the gradient, shared between blocks.
    sizes : Tensor or None
        Room of the same length for the size of the weights, for adaptive kinds.
    """

    def __init__(
        self, kind: Kind, pieces: list[Piece], items: Sequence[Item], scratch: Tensor, sizes: Tensor | None
    ) -> None:
        self.kind = kind
        self._pieces = pieces
        self._views: list[Tensor] = []
        self._size_views: list[Tensor] = []
        self._runs: list[tuple[Tensor, Tensor]] = []
        used = start = length = 0
        for piece in pieces:
            item = items[piece.number]
            elements = (piece.stop - piece.start) * item.row_length
            if (item.row_length if item.centred else 0) != length:
                self._end_run(scratch[start:used], length)
                start, length = used, item.row_length if item.centred else 0
            place = slice(used, used + elements)
            self._views.append(_shaped(scratch[place], item.parameter))
            if sizes is not None:
                self._size_views.append(_shaped(sizes[place], item.parameter))
            used += elements
        self._end_run(scratch[start:used], length)
        self._flat = scratch[:used]
        self._sizes = None if sizes is None else sizes[:used]
        self._may_borrow = kind.device.type == "cpu" and sizes is None  # else the direction is written to
        self._let_go()

    def _end_run(self, region: Tensor, length: int) -> None:
        if length:
            rows = region.view(-1, length)
            self._runs.append((rows, torch.empty(len(rows), 1, dtype=rows.dtype, device=rows.device)))

    def of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Views of this block's rows in a list of tensors that runs parallel to the parameters."""
        return [tensors[p.number] if p.whole else tensors[p.number][p.start : p.stop] for p in self._pieces]

    def load(self, tensors: Sequence[Tensor]) -> None:
        """Fetch this block's part of `tensors` into the scratch."""
        self._let_go()
        torch._foreach_copy_(self._views, self.of(tensors))

    def load_direction(self, tensors: Sequence[Tensor], centre: bool, again: bool = False) -> None:
        """Fetch what to climb along, to be handed to `squares` and `add_to`.

        A single part needs no copy: it is centred on its way into the scratch, or read where it lies.

        Parameters
        ----------
        tensors : sequence of Tensor
            Parallel to the parameters.
        centre : bool
            Centre by rows, where centralization applies.
        again : bool
            The tensors have not changed since they were last centred: their means are known.
        """
        self._let_go()
        parts = self.of(tensors)
        runs = self._runs if centre else []
        if len(parts) == 1 and parts[0].is_contiguous():
            (part,) = parts
            if runs:
                rows, mean = runs[0]
                part = part.view(rows.shape)
                if not again:
                    torch.mean(part, 1, keepdim=True, out=mean, dtype=mean.dtype)
                torch.sub(part, mean, out=rows)
                return
            if self._may_borrow and part.dtype == self._flat.dtype:
                self._direction, self._parts = part.view(-1), parts
                return
        torch._foreach_copy_(self._views, parts)
        for rows, mean in runs:
            if not again:
                torch.mean(rows, 1, keepdim=True, out=mean)
            rows.sub_(mean)

    def squares(self) -> list[Tensor]:
        """Squared lengths of stretches of the direction; their sum is its squared length."""
        cut = SUM_ELEMENTS if self.kind.device.type == "cpu" else len(self._direction)
        return [torch.dot(stretch, stretch) for stretch in self._direction.split(cut)]

    def add_to(self, tensors: Sequence[Tensor], factor: Tensor) -> None:
        """Add the direction times a number to this block's part of `tensors`.

        On a CPU the number is at hand, which saves a pass; from an accelerator it must not be fetched.
        """
        if factor.device.type == "cpu":
            torch._foreach_add_(self.of(tensors), self._parts, alpha=factor.item())
        else:
            self._flat.mul_(factor)
            torch._foreach_add_(self.of(tensors), self._views)
        self._let_go()

    def _let_go(self) -> None:
        """Work on the scratch, and keep no gradient alive."""
        self._direction, self._parts = self._flat, self._views

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Add this block's part of `tensors` to the scratch."""
        torch._foreach_add_(self._views, self.of(tensors))

    def store(self, tensors: Sequence[Tensor]) -> None:
        """Write the scratch over this block's part of `tensors`."""
        torch._foreach_copy_(self.of(tensors), self._views)

    def scale(self, factor: Tensor) -> None:
        """Multiply the scratch by a number that may live on the GPU."""
        self._flat.mul_(factor)

    def scale_by_size(self, weights: Sequence[Tensor], eta: float) -> None:
        """Multiply the scratch by abs(w) + eta; nothing to do for kinds that are not adaptive."""
        if self._sizes is not None:
            torch._foreach_copy_(self._size_views, self.of(weights))
            self._flat.mul_(self._sizes.abs_().add_(eta))

    def multiply_by(self, tensors: Sequence[Tensor]) -> None:
        """Multiply the scratch by this block's part of `tensors`, number by number."""
        torch._foreach_mul_(self._views, self.of(tensors))

    def sum(self) -> Tensor:
        """Sum of the scratch, no dimension."""
        return self._flat.sum()


class Walk:
    """All blocks of a set of parameters, and room for one copy of the weights.

    Parameters
    ----------
    items : sequence of Item
        The parameters that climb, none of them empty.

    Attributes
    ----------
    parameters : list of Tensor
        The parameters, in the order given.
    backup : list of Tensor
        Parallel to the parameters. Allocated here, once.
    blocks : list of Block
        They cover every element once.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self._signatures = [item.signature for item in items]
        self.parameters = [item.parameter for item in items]
        self.backup = [torch.empty_like(item.parameter, requires_grad=False) for item in items]
        cuts = list(_cut(items))
        room: dict[tuple[torch.device, torch.dtype], int] = {}
        for kind, pieces in cuts:
            key = (kind.device, kind.precise)
            elements = sum((p.stop - p.start) * items[p.number].row_length for p in pieces)
            room[key] = max(room.get(key, 0), elements)
        scratch = {key: torch.empty(n, device=key[0], dtype=key[1]) for key, n in room.items()}
        adaptive = any(item.adaptive for item in items)
        sizes = {key: torch.empty_like(flat) for key, flat in scratch.items()} if adaptive else {}
        self.blocks = [
            Block(
                kind,
                pieces,
                items,
                scratch[kind.device, kind.precise],
                sizes[kind.device, kind.precise] if kind.adaptive else None,
            )
            for kind, pieces in cuts
        ]

    def fits(self, items: Sequence[Item]) -> bool:
        """Whether this walk was made for exactly these parameters as they are now."""
        return self._signatures == [item.signature for item in items]


def _shaped(region: Tensor, parameter: Tensor) -> Tensor:
    """Lay scratch out as the parameter lies in memory, so that copies run straight through both."""
    layout = _LAYOUTS.get(parameter.ndim)
    if layout is not None and parameter.is_contiguous(memory_format=layout):
        channels, *spatial = parameter.shape[1:]
        return region.view(-1, *spatial, channels).movedim(-1, 1)
    return region.view(-1, *parameter.shape[1:]) if parameter.ndim else region.view(())


def _capacity(device: torch.device, elements: int) -> int:
    if device.type == "cpu":
        return max(LEAST_ELEMENTS, min(CPU_ELEMENTS, math.ceil(elements / CPU_SHARE)))
    return max(LEAST_ELEMENTS, math.ceil(elements / ACCELERATOR_SHARE))


def _cut(items: Sequence[Item]) -> Iterator[tuple[Kind, list[Piece]]]:
    """Cut parameters of one kind into blocks of whole rows, equal row lengths side by side."""
    families: dict[Kind, list[int]] = {}
    for number, item in enumerate(items):
        p = item.parameter
        families.setdefault(Kind(p.device, p.dtype, item.adaptive, item.rho), []).append(number)
    for kind, numbers in families.items():
        capacity = _capacity(kind.device, sum(items[n].parameter.numel() for n in numbers))
        numbers.sort(key=lambda n: items[n].row_length if items[n].centred else 0)
        pieces: list[Piece] = []
        room = capacity
        for number in numbers:
            rows, length = items[number].rows, items[number].row_length
            start = 0
            while start < rows:
                if pieces and room < length:
                    yield kind, pieces
                    pieces, room = [], capacity
                stop = min(rows, start + max(1, room // length))
                pieces.append(Piece(number, start, stop, whole=stop - start == rows))
                room -= (stop - start) * length
                start = stop
        yield kind, pieces
