"""The walk over all parameters, in blocks small enough to stay in cache.

An ascent needs several passes over the gradient: mean, norm, centre, scale, add. Done one by one over
the whole network, each of them fetches every number from main memory; done block by block, only the first one
does. On an accelerator a block is a fixed share of the network, so that the number of kernels does not grow
with the number of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gcsam_med.optim.in_place import RowsBlock, VectorsBlock
from gcsam_med.optim.items import Item, Kind, cut, is_channels_last, kind_of
from gcsam_med.optim.scratch import Scratch, ScratchBlock

Block = ScratchBlock | RowsBlock | VectorsBlock

ROW_ELEMENTS = 1 << 19
"""Elements worked on in place at a time: three float32 vectors of it, 6 MiB, stay in cache between passes."""

SMALL_ELEMENTS = 1 << 12
"""Parameters up to this length are taken together: the calls would cost more than the numbers."""

SCRATCH_ELEMENTS = 1 << 17
"""Elements of a scratch block on a CPU."""

CPU_SHARE = 32
"""Least number of scratch blocks on a CPU: the scratch is at most this part of the weights."""

ACCELERATOR_SHARE = 16
"""Number of scratch blocks on an accelerator, whatever the number of parameters."""


class Walk:
    """All blocks of a set of parameters, and room for one copy of the weights.

    Parameters
    ----------
    items : sequence of Item
        The parameters that ascend, none of them empty.
    eta : float
        Added to the size of each weight, for adaptive kinds.
    in_place : bool
        Use blocks that work in place, where there can be.

    Attributes
    ----------
    parameters : list of Tensor
        The parameters, in the order given.
    blocks : list of Block
        They cover every element once.
    scratch_blocks : list of ScratchBlock
        Those of them that have scratch.
    """

    def __init__(self, items: Sequence[Item], eta: float = 0.0, *, in_place: bool = True) -> None:
        self.parameters = [item.parameter for item in items]
        self._key = _key(self.parameters, [item.rho for item in items])
        self._weights = [parameter.detach() for parameter in self.parameters]
        self._backup = [torch.empty_like(weights) for weights in self._weights]
        self.blocks: list[Block] = []
        self.scratch_blocks: list[ScratchBlock] = []
        numbers = range(len(items))
        dense = [n for n in numbers if in_place and _fits_in_place(items[n])]
        self._add_in_place(dense, items)
        self._add_scratch([n for n in numbers if n not in set(dense)], items, eta)

    def fits(self, parameters: Sequence[Tensor], rhos: Sequence[int]) -> bool:
        """Whether this walk was made for exactly these parameters, as they lie now, and these radii."""
        return self._key == _key(parameters, rhos)

    def restore(self) -> None:
        """Write the copy back over all weights that have moved."""
        for block in self.blocks:
            block.restore()

    def _add_in_place(self, numbers: list[int], items: Sequence[Item]) -> None:
        room = {"weights": self._weights, "backup": self._backup}
        vectors: dict[Kind, list[int]] = {}
        rows: dict[tuple[Kind, bool], list[int]] = {}
        for number in numbers:
            item = items[number]
            if not item.centred and item.parameter.numel() <= SMALL_ELEMENTS:
                vectors.setdefault(kind_of(item), []).append(number)
            else:
                rows.setdefault((kind_of(item), item.centred), []).append(number)
        for (kind, _), members in rows.items():
            pieces = [piece for n in members for (piece,) in cut(items, [n], ROW_ELEMENTS)]
            self.blocks.append(RowsBlock(kind, pieces, items, **room))
        self.blocks += [VectorsBlock(kind, members, **room) for kind, members in vectors.items()]

    def _add_scratch(self, members: list[int], items: Sequence[Item], eta: float) -> None:
        families: dict[Kind, list[int]] = {}
        for number in members:
            families.setdefault(kind_of(items[number]), []).append(number)
        plans = []
        room: dict[tuple[torch.device, torch.dtype], int] = {}
        for kind, numbers in families.items():
            elements = sum(items[n].parameter.numel() for n in numbers)
            numbers.sort(key=lambda n: items[n].row_length if items[n].centred else 0)
            for pieces in cut(items, numbers, _capacity(kind.device, elements)):
                plans.append((kind, pieces))
                used = sum((p.stop - p.start) * items[p.number].row_length for p in pieces)
                room[kind.device, kind.precise] = max(used, room.get((kind.device, kind.precise), 0))
        adaptive = any(kind.adaptive for kind in families)
        scratch = {}
        for (device, dtype), used in room.items():
            direction = torch.empty(used, device=device, dtype=dtype)
            sizes = torch.empty_like(direction) if adaptive else None
            scratch[device, dtype] = Scratch(direction, sizes)
        for kind, pieces in plans:
            shared = scratch[kind.device, kind.precise]
            block = ScratchBlock(
                kind, pieces, items, weights=self._weights, backup=self._backup, scratch=shared, eta=eta
            )
            self.scratch_blocks.append(block)
        self.blocks += self.scratch_blocks


def _key(parameters: Sequence[Tensor], rhos: Sequence[int]) -> list[tuple[object, ...]]:
    return [
        (id(p), p.data_ptr(), p.dtype, p.shape, p.stride(), rho)
        for p, rho in zip(parameters, rhos, strict=True)
    ]


def _fits_in_place(item: Item) -> bool:
    p = item.parameter
    full = p.device.type == "cpu" and p.dtype in (torch.float32, torch.float64) and not item.adaptive
    return full and (p.is_contiguous() or is_channels_last(p))


def _capacity(device: torch.device, elements: int) -> int:
    if device.type == "cpu":
        return max(SMALL_ELEMENTS, min(SCRATCH_ELEMENTS, math.ceil(elements / CPU_SHARE)))
    return max(SMALL_ELEMENTS, math.ceil(elements / ACCELERATOR_SHARE))
