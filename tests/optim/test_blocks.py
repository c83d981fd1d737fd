"""The walk in blocks: complete, bounded, exact to float32 rounding, the same work at any depth of network."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gcsam_med.optim import Sharpness
from gcsam_med.optim.blocks import CPU_ELEMENTS, Item, Walk

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
@given(SHAPES, st.integers(0, 1000))
def test_blocks_cover_each_element_once(shapes: list[tuple[int, ...]], seed: int) -> None:
    """Oracle: adding one to every block's part adds one to every element."""
    items = _items(shapes, seed)
    walk = Walk(items)
    counts = [torch.zeros_like(item.parameter) for item in items]
    for block in walk.blocks:
        torch._foreach_add_(block.of(counts), 1.0)
    assert all(bool((count == 1).all()) for count in counts)


@settings(deadline=None)
@given(SHAPES, st.integers(0, 1000))
def test_scratch_carries_centred_rows_there_and_back(shapes: list[tuple[int, ...]], seed: int) -> None:
    """Oracle: centring parameter by parameter."""
    items = _items(shapes, seed)
    walk = Walk(items)
    vectors = [torch.randn_like(item.parameter) for item in items]
    one = torch.ones((), dtype=torch.float64)
    for again in (False, True):
        back = [torch.zeros_like(vector) for vector in vectors]
        squares = []
        for block in walk.blocks:
            block.load_direction(vectors, centre=True, again=again)
            squares += block.squares()
            block.add_to(back, one)
        for item, vector, result in zip(items, vectors, back, strict=True):
            expected = vector
            if item.centred:
                expected = vector - vector.mean(dim=tuple(range(1, vector.ndim)), keepdim=True)
            torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
        total = sum(float((result**2).sum()) for result in back)
        assert float(sum(squares)) == pytest.approx(total)


def test_large_parameters_are_cut() -> None:
    """Oracle: the length that a block may have, and of float32 sums in float64."""
    weights = torch.randn(3000, 1000)
    walk = Walk([Item(weights, True, False, 0)])
    assert max(block._flat.numel() for block in walk.blocks) <= CPU_ELEMENTS
    squares = []
    for block in walk.blocks:
        block.load_direction([weights], centre=False)
        squares += map(float, block.squares())
    exact = float(weights.double().square().sum())
    assert math.sqrt(sum(squares)) == pytest.approx(math.sqrt(exact), rel=2e-7)


def test_norm_survives_a_large_mean() -> None:
    """Oracle: float64. The subtraction |g|^2 - n mean^2 in float32 would lose every digit here."""
    g = torch.randn(64, 500) * 1e-3 + 10.0
    weights = torch.zeros_like(g).requires_grad_()
    weights.grad = g
    sharpness = Sharpness([weights], 0.05, centralize="ascent")
    with sharpness.perturbed():
        assert float(weights.detach().double().norm()) == pytest.approx(0.05, rel=1e-6)
    exact = g.double() - g.double().mean(1, keepdim=True)
    assert float(sharpness.norm) == pytest.approx(float(exact.norm()), rel=1e-3)


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
        pass  # the first climb allocates
    with _Operations() as operations, sharpness.perturbed():
        pass
    return operations.count


@pytest.mark.parametrize("options", [{}, {"centralize": "ascent"}, {"adaptive": True, "eta": 0.01}])
def test_work_on_an_accelerator_does_not_grow_with_depth(options: dict[str, Any]) -> None:
    """Oracle: operations counted as they reach the device; a meta tensor refuses to be read by the host."""
    shallow, deep = (_operations(depth, "meta", **options) for depth in (8, 256))
    assert deep <= 1.15 * shallow  # a block more or less, where the cuts fall otherwise
