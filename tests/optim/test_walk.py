"""The walk in blocks: complete, bounded, exact to float32 rounding, the same work at any depth of network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gcsam_med.optim import Sharpness
from gcsam_med.optim.in_place import RowsBlock
from gcsam_med.optim.items import Item
from gcsam_med.optim.scratch import ScratchBlock
from gcsam_med.optim.sums import Lengths
from gcsam_med.optim.walk import ROW_ELEMENTS, Walk

SHAPES = st.lists(
    st.one_of(
        st.just(()),
        st.tuples(st.integers(1, 400)),
        st.tuples(st.integers(1, 60), st.integers(1, 300)),
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=8,
)


def _items(shapes: list[tuple[int, ...]], seed: int) -> list[Item]:
    generator = torch.Generator().manual_seed(seed)
    items = []
    for number, shape in enumerate(shapes):
        parameter = torch.randn(shape, generator=generator, dtype=torch.float64)
        if parameter.ndim == 4 and number % 2:
            parameter = parameter.to(memory_format=torch.channels_last)
        if parameter.ndim == 2 and number % 3 == 2:
            parameter = parameter.t().contiguous().t()
        items.append(
            Item(parameter, parameter.ndim > 1 and number % 4 != 3, adaptive=number % 5 == 4, rho=number % 2)
        )
    return items


@settings(deadline=None)
@given(SHAPES, st.integers(0, 1000), st.booleans())
def test_every_element_is_saved_moved_and_restored_once(
    shapes: list[tuple[int, ...]], seed: int, in_place: bool
) -> None:
    """Oracle: centring, scaling and adding parameter by parameter; the bytes before."""
    items = _items(shapes, seed)
    walk = Walk(items, eta=0.5, in_place=in_place)
    before = [item.parameter.clone() for item in items]
    for odd_layout in (False, True):
        directions = [torch.randn_like(w) for w in before]
        if odd_layout:
            directions = [d.movedim(0, -1).contiguous().movedim(-1, 0) if d.ndim else d for d in directions]
        centred, sized = [], []
        for item, w, direction in zip(items, before, directions, strict=True):
            over = tuple(range(1, direction.ndim))
            centred.append(direction - direction.mean(over, keepdim=True) if item.centred else direction)
            sized.append(w.abs() + 0.5 if item.adaptive else torch.ones_like(w))
        squares = [s for block in walk.blocks for s in block.squares(directions, centre=True)]
        assert float(sum(squares)) == pytest.approx(
            sum(float((t * d).square().sum()) for t, d in zip(sized, centred, strict=True)), rel=1e-9
        )
        for block in walk.blocks:
            block.move(torch.tensor(0.25, dtype=torch.float64))
        for item, w, d, t in zip(items, before, centred, sized, strict=True):
            torch.testing.assert_close(item.parameter, w + 0.25 * t * t * d, rtol=1e-9, atol=1e-9)
        walk.restore()
        assert all(torch.equal(item.parameter, w) for item, w in zip(items, before, strict=True))


@settings(deadline=None)
@given(SHAPES, st.integers(0, 1000))
def test_vector_algebra_block_by_block(shapes: list[tuple[int, ...]], seed: int) -> None:
    """Oracle: the same on whole tensors."""
    items = _items(shapes, seed)
    walk = Walk(items, in_place=False)
    x, y = ([torch.randn_like(item.parameter) for item in items] for _ in range(2))
    expected = [2 * a + b for a, b in zip(x, y, strict=True)]
    product = sum(float((a * b).sum()) for a, b in zip(x, y, strict=True))
    inner = 0.0
    for block in walk.scratch_blocks:
        block.load(x)
        inner += float(block.inner(y))
        block.load(x)
        block.scale(torch.tensor(2.0))
        block.add(y)
        block.store(x)
    assert inner == pytest.approx(product, abs=1e-9)
    torch.testing.assert_close(x, expected)
    assert len(walk.scratch_blocks) == len(walk.blocks)


def test_large_parameters_are_cut() -> None:
    """Oracle: the length that a block may have."""
    walk = Walk([Item(torch.zeros(3000, 1000), False, False, 0)])
    (block,) = walk.blocks
    assert isinstance(block, RowsBlock)
    assert max(rows.numel() for rows in block._weights) <= ROW_ELEMENTS


@pytest.mark.parametrize("make", [torch.randn, torch.rand, torch.ones, lambda n: torch.randn(n) ** 3])
@pytest.mark.parametrize("length", [1, 255, 256, 521, 1000, 300_000, 300_007])
def test_lengths(make: Any, length: int) -> None:
    """Oracle: float64; the sum of a constant is where float32 loses most."""
    torch.manual_seed(0)
    vector = 0.3 * make(length)
    halves = Lengths([length, length], torch.float32)
    halves.take(0, vector)
    halves.take(1, torch.zeros(length))
    assert float(halves.squared_total()) == pytest.approx(float(vector.double().square().sum()), rel=1e-6)


def test_half_precision_works_in_scratch() -> None:
    """Oracle: the kind of block, and the type that it computes in."""
    (block,) = Walk([Item(torch.zeros(30, 20, dtype=torch.bfloat16), True, False, 0)]).blocks
    assert isinstance(block, ScratchBlock)
    assert block.kind.precise == torch.float32


@pytest.mark.parametrize("mean", [0.5, 1.5, 1e4])
def test_norm_survives_a_large_mean(mean: float) -> None:
    """Oracle: float64. The difference |g|^2 - n mean^2 in float32 would lose every digit of the last one."""
    torch.manual_seed(0)
    g = torch.randn(64, 500) + mean
    weights = torch.zeros_like(g).requires_grad_()
    weights.grad = g
    sharpness = Sharpness([weights], 0.05, centralize="ascent")
    with sharpness.perturbed():
        assert float(weights.detach().double().norm()) == pytest.approx(0.05, rel=1e-6)
    exact = g.double() - g.double().mean(1, keepdim=True)
    assert float(sharpness.norm) == pytest.approx(float(exact.norm()), rel=1e-6)


class _Operations(TorchDispatchMode):
    """Counts the operations that reach the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not any(view in str(func) for view in ("slice", "view", "select", "detach", "expand", "permute")):
            self.count += 1
        return func(*args, **(kwargs or {}))


def _deep(depth: int, device: str) -> list[Tensor]:
    """Parameters of `depth` equal layers."""
    shapes = [(64, 32, 3, 3), (64,), (64,), (64, 64)] * depth
    parameters = [torch.empty(shape, device=device, requires_grad=True) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    return parameters


def _operations(depth: int, device: str, **options: Any) -> int:
    sharpness = Sharpness(_deep(depth, device), 0.05, **options)
    with sharpness.perturbed():
        pass  # the first ascent allocates
    with _Operations() as operations, sharpness.perturbed():
        pass
    return operations.count


@pytest.mark.parametrize("options", [{}, {"centralize": "ascent"}, {"adaptive": True, "eta": 0.01}])
def test_work_on_an_accelerator_does_not_grow_with_depth(options: dict[str, Any]) -> None:
    """Oracle: operations counted as they reach the device; a meta tensor refuses to be read by the host."""
    shallow, deep = (_operations(depth, "meta", **options) for depth in (8, 256))
    assert deep <= 1.15 * shallow  # a block more or less, where the cuts fall otherwise
